"""Random spaces: whatever they suggest keeps the rules of domains, branches and conditions."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from raysweep.space import Space, compile_space
from raysweep.spec import portable
from raysweep.yaml_file import Place

Config = dict[str, Any]
Member = Callable[[Any], bool]


@dataclass
class Random:
    """A random space beside what it must mean: for each setting, the ways in which it can be active, and its values."""

    space: Config = field(default_factory=dict)
    rules: dict[str, list[tuple[Callable[[Config], bool], Member]]] = field(default_factory=dict)

    def expect(self, path: str, active: Callable[[Config], bool], member: Member) -> None:
        self.rules.setdefault(path, []).append((active, member))

    def check(self, config: Config) -> None:
        for path, ways in self.rules.items():
            members = [member for active, member in ways if active(config)]
            assert (path in config) == bool(members), (path, config)
            assert all(member(config[path]) for member in members), (path, config)
        assert config.keys() <= self.rules.keys()


def one_of(values: list[Any]) -> Member:
    return lambda value: any(value == other and type(value) is type(other) for other in values)


@st.composite
def domains(draw: st.DrawFn) -> tuple[Config, Member]:
    """A domain's form, and which values belong to it."""
    kind = draw(st.sampled_from(["choice", "ordinal", "uniform", "steps", "loguniform", "int", "log int", "value"]))
    low, width = draw(st.integers(1, 50)), draw(st.integers(1, 20))
    if kind == "choice":
        values = draw(
            st.lists(st.sampled_from(["a", "2:4", None, 7, 0.5, [1, 2], [], {"k": [1]}]), min_size=2, max_size=4)
        )
        values = [value for index, value in enumerate(values) if value not in values[:index]]
        return ({"choice": values}, one_of(values)) if len(values) > 1 else ({"value": 3}, one_of([3]))
    if kind == "ordinal":
        values = sorted(draw(st.sets(st.floats(-5, 5) | st.integers(-5, 5), min_size=2, max_size=4)))
        return {"ordinal": values}, one_of(values)
    if kind == "uniform":
        return {"uniform": [low, low + width]}, lambda value: low <= value <= low + width
    if kind == "steps":
        exact = [(low * 100 + 5 * step) / 100 for step in range(width + 1)]
        form = {"uniform": [exact[0], exact[-1]], "step": 0.05}
        return form, lambda value: any(math.isclose(value, other, rel_tol=1e-12) for other in exact)
    if kind == "loguniform":
        return {"loguniform": [low / 100, low + width]}, lambda value: low / 100 <= value <= low + width
    if kind == "value":
        return {"value": {"literal": low}}, one_of([{"literal": low}])
    step = draw(st.integers(1, 4)) if kind == "int" else 1
    form = {"int": [low, low + width * step], **({"step": step} if kind == "int" else {"log": True})}
    return form, one_of(list(range(low, low + width * step + 1, step)))


@st.composite
def spaces(draw: st.DrawFn) -> Random:
    """Settings, some under a condition; a choice of branches that share names; settings that depend on a branch's."""
    found = Random()

    def add(holder: Config, path: str, active: Callable[[Config], bool], when: str | None = None) -> None:
        form, member = draw(domains())
        holder[path] = {**form, **({"when": when} if when else {})}
        found.expect(path, active, member)

    found.space["flag"] = {"choice": [True, False]}
    found.expect("flag", lambda config: True, one_of([True, False]))
    for index in range(draw(st.integers(0, 2))):
        add(found.space, f"group.plain{index}", lambda config: True)
    if draw(st.booleans()):
        add(found.space, "guarded", lambda config: bool(config["flag"]), "flag")
        add(found.space, "group.unguarded", lambda config: not config["flag"], "not flag")
    names = draw(st.lists(st.sampled_from(["x", "2:4", True, False, 3]), min_size=2, max_size=4, unique_by=repr))
    branches: dict[Any, Config] = {name: {} for name in names}
    found.expect("method", lambda config: True, one_of(names))
    for name, shared in itertools.product(names, ["s0", "s1"]):
        if draw(st.booleans()):
            add(branches[name], shared, lambda config, name=name: config["method"] == name)
    found.space["method"] = {"choice": branches}
    if "s0" in found.rules and draw(st.booleans()):
        add(found.space, "late", lambda config: "s0" in config and config["s0"] != 3, "s0 != 3")
        found.space = {"late": found.space.pop("late"), **found.space}  # before what it depends on
    return found


def compiled(space: Config) -> Space:
    return compile_space(space, [], Place())


@given(spaces(), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_whatever_is_suggested_keeps_the_rules(random: Random, seed: int) -> None:
    space = compiled(random.space)
    rng = np.random.default_rng(seed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(8):
        random.check(space.draw(rng))
        trial = study.ask()
        config = space.suggest(trial)
        random.check(config)
        assert space.suggest(FixedTrial(json.loads(json.dumps(trial.params)))) == config  # as replayed from a journal


@given(spaces(), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_a_space_survives_the_journal(random: Random, seed: int) -> None:
    again = compiled(json.loads(json.dumps(portable(random.space))))
    first, second = np.random.default_rng(seed), np.random.default_rng(seed)
    space = compiled(random.space)
    assert [setting.name for setting in again.settings] == [setting.name for setting in space.settings]
    assert [again.draw(second) for _ in range(5)] == [space.draw(first) for _ in range(5)]


@given(spaces(), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_points_are_all_that_can_be_drawn(random: Random, seed: int) -> None:
    space = compiled(
        {path: form for path, form in random.space.items() if path in ("flag", "guarded", "method", "late")}
    )
    sizes = [list(parameters) for s in space.dimensions if (parameters := s.domain.parameters()) is not None]
    if len(sizes) < len(space.dimensions) or math.prod(map(len, sizes)) > 20_000:
        return
    configs = [repr(space.suggest(FixedTrial(point))) for point in space.points()]
    assert len(set(configs)) == len(configs)
    rng = np.random.default_rng(seed)
    assert {repr(space.draw(rng)) for _ in range(20)} <= set(configs)
