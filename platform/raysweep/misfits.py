"""What a recipe has against whole configurations whose single settings all suit it, and against their data; and what
this machine lacks for them.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from raysweep.needs import not_here
from raysweep.problems import Problem, UserError
from raysweep.recipe import Recipe, configure
from raysweep.validation import EXPECTED, dotted, expectation, place_of, shown
from raysweep.yaml_file import KeyPath, Place

NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*")
Config = Mapping[str, Any]
MOST_TOLD = 8  # reasons that a sweep cannot run here; a need in GB may differ from configuration to configuration


def misfits(recipe: Recipe, configs: Sequence[Config], place: Place) -> list[Problem]:
    """Each mistake once, at the line of the setting that it names; of one that not all have, a configuration is shown.

    The first configuration whose data cannot be had is the last that is inspected: without a network each such look
    takes minutes, and the others mostly lack the same.
    """
    found: dict[Problem, list[Config]] = defaultdict(list)
    missing: list[Problem] = []
    for config in configs:
        try:
            typed = configure(recipe, dict(config))
            if not missing:
                recipe.inspect(typed)
        except ValidationError as error:
            for problem in _told(error.errors(include_url=False), place.file):
                found[problem].append(config)
        except UserError as error:
            missing = [_placed(problem, place, None) for problem in error.problems]
    told = [_placed(_shown(problem, having, configs), place, place.file) for problem, having in found.items()]
    return [*told, *missing]


@dataclass(frozen=True, slots=True)
class Unfit:
    """How many of the configurations can run here, and what this machine lacks for the others and for references."""

    able: int
    problems: list[Problem]


def unfit(
    recipe: Recipe, configs: Sequence[Config], references: Mapping[str, Config], gpu: float, place: Place
) -> Unfit:
    """Compare what configurations need with this machine, for trials that get `gpu` GPUs each.

    Each reason stands at the line of a setting that asks, with the configurations that it holds for; the most frequent
    reasons come first, and rare ones may be left out.
    """
    lacking: dict[tuple[str, tuple[str, ...]], list[Config]] = defaultdict(list)
    wanting: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    able = 0
    for config in configs:
        lacks = not_here(configure(recipe, dict(config)), gpu)
        able += not lacks
        for need, words in lacks:
            lacking[words, need.by].append(config)
    for name, config in references.items():
        for need, words in not_here(configure(recipe, dict(config)), gpu):
            wanting[words, need.by].append(name)
    reasons = sorted({**lacking, **wanting}, key=lambda reason: -len(lacking.get(reason, ())))
    settings = _settings(place)
    problems = []
    for words, by in reasons[:MOST_TOLD]:
        having, named = lacking.get((words, by), []), wanting.get((words, by), [])
        keys = next((settings[name] for name in by if name in settings), ("space",))
        problems.append(place.problem(keys, words, _where(having, configs, named)))
    return Unfit(able, problems)


def _where(having: Sequence[Config], configs: Sequence[Config], references: Sequence[str]) -> str:
    """How many configurations, with the settings that all of these share but not all others, and which references."""
    told = [f"in the reference '{name}'" for name in references]
    if having:
        shared = {
            name: value for name, value in having[0].items() if _alike(name, having) and not _alike(name, configs)
        }
        settings = ", ".join(f"{name}={shown(value)}" for name, value in shared.items())
        share = "all" if len(having) == len(configs) else f"{len(having)} of {len(configs)}"
        told.insert(0, f"in {share} configurations drawn" + (f", with {settings}" if settings else ""))
    return " and ".join(told)


def _alike(name: str, configs: Sequence[Config]) -> bool:
    """Whether a setting is active and the same in all of these."""
    return all(name in config and config[name] == configs[0].get(name) for config in configs)


def _told(details: Sequence[ErrorDetails], file: str | None) -> Iterator[Problem]:
    """Each mistake by itself: a recipe tells those of one group between semicolons."""
    for detail in details:
        path = dotted(place_of(detail))
        if detail["type"] == "missing":
            yield Problem(f"the recipe has no default for '{path}'", file, hint="set it in the space")
            continue
        said = [f"expected {expectation(detail)}, found {shown(detail['input'])}"]
        if detail["type"] not in EXPECTED:
            said = expectation(detail).split("; ")
        for words in said:
            yield Problem(f"{path}: {words}" if path else words)


def _shown(problem: Problem, having: Sequence[Config], configs: Sequence[Config]) -> Problem:
    """With the first configuration that has the problem, unless all have it: what is not alike in all of them."""
    if problem.hint or len(having) == len(configs):
        return problem
    settings = ", ".join(f"{name}={shown(value)}" for name, value in having[0].items() if not _alike(name, configs))
    return Problem(problem.message, hint=f"in the configuration {settings}")


def _placed(problem: Problem, place: Place, otherwise: str | None) -> Problem:
    """At the line of the setting that it names, if the file sets that one, and in one place alone."""
    if problem.file:
        return problem
    keys = _named(problem.message, _settings(place))
    return place.problem(keys, problem.message, problem.hint) if keys else replace(problem, file=otherwise)


def _named(message: str, settings: Mapping[str, KeyPath]) -> KeyPath | None:
    """Where the first setting stands that a message names, in full or behind the group that it begins with.

    Of a group of which it names none, it is the first one.
    """
    head, colon, _ = message.partition(":")
    group, words = head if colon and " " not in head else "", NAME.findall(message)
    full = [name for word in words for name in (f"{group}.{word}", word) if name == group or "." in name.strip(".")]
    inner = (name for name in settings if group and name.startswith(f"{group}."))
    return next((settings[name] for name in (*full, *inner) if name in settings), None)


def _settings(place: Place) -> dict[str, KeyPath]:
    """Where each setting stands, in the space or else in a reference; within branches by its full name.

    What several branches, or several references, set stands nowhere.
    """
    found: dict[str, dict[str, set[KeyPath]]] = {"references": defaultdict(set), "space": defaultdict(set)}
    for keys in (*place.lines, *place.overrides):
        path = keys[1:] if keys[:1] == ("space",) else keys[2:] if keys[:1] == ("references",) else ()
        for name in (".".join(map(str, path)), str(path[-1])) if path else ():
            found[keys[0]][name].add(keys)
    return {name: next(iter(at)) for block in found.values() for name, at in block.items() if len(at) == 1}
