"""Suggestions: the same for the same past, whatever happened in the process; and told truthfully to Optuna."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial, TrialState

from raysweep.problems import UserError
from raysweep.search import Search, trial_seed
from raysweep.space import Space, compile_space
from raysweep.spec import Objective, SearcherSpec
from raysweep.yaml_file import Place

SCORE = [Objective(metric="score")]
TWO = [Objective(metric="score"), Objective(metric="size", goal="minimize")]
TPE = SearcherSpec(startup_trials=6)


def branching(cells: int = 1, rules: tuple[str, ...] = ("not (width > 40)",)) -> Space:
    """A setting in a branch, one that only the grid's second cell has, and a constraint."""
    space: dict[str, Any] = {
        "lr": {"loguniform": [1e-5, 1e-1]},
        "head": {"choice": {"none": {}, "wide": {"width": {"int": [8, 64]}}}},
    }
    if cells > 1:
        space |= {"seed": {"grid": list(range(cells))}, "noise": {"uniform": [0.0, 1.0], "when": "seed == 1"}}
    return compile_space(space, list(rules), Place())


def letters() -> Space:
    """Six letters in two cells; f is not allowed in the second."""
    space = {"letter": {"choice": list("abcdef")}, "seed": {"grid": [0, 1]}}
    return compile_space(space, ["not (letter == 'f' and seed == 1)"], Place())


def quality(config: dict[str, Any]) -> float:
    """Best at a rate of 0.001 and at a width that the constraint does not allow."""
    return -abs(math.log10(config["lr"]) + 3) + config.get("width", 0) / 100


def play(search: Search, trials: int, workers: int = 3, objectives: int = 1) -> Iterator[tuple[Any, ...]]:
    """The events of a sweep with overlapping trials of every outcome; each is yielded after it took place."""
    running: list[tuple[int, float]] = []
    for number in range(trials):
        suggestion = search.ask(number)
        assert suggestion is not None
        search.recall(number, suggestion.params)
        running.append((number, quality(suggestion.config)))
        yield "recall", number, suggestion.params
        if len(running) < workers:
            continue
        done, value = running.pop(number % workers)
        search.observe(done, 1, value - 1)
        yield "observe", done, 1, value - 1
        outcome = ["complete", "complete", "stopped", "complete", "failed"][done % 5]
        values = [value, float(done % 3)][:objectives]
        search.tell(done, outcome, values)
        yield "tell", done, outcome, values


def replay(search: Search, events: list[tuple[Any, ...]]) -> Search:
    for method, *arguments in json.loads(json.dumps(events)):
        getattr(search, method)(*arguments)
    return search


def states(search: Search) -> list[TrialState]:
    return [search._trials[number].study.trials[trial.number].state for number, trial in search._trials.items()]


@pytest.mark.parametrize(("objectives", "cells"), [(SCORE, 1), (SCORE, 2), (TWO, 1)])
def test_a_search_rebuilt_at_any_point_goes_on_as_the_uninterrupted_one(
    objectives: list[Objective], cells: int
) -> None:
    space = branching(cells)
    uninterrupted, events, asked = Search(space, objectives, TPE, seed=7), [], 0
    for event in play(uninterrupted, 20, objectives=len(objectives)):
        events.append(event)
        asked += event[0] == "recall"
        rebuilt = replay(Search(space, objectives, TPE, seed=7), events)
        assert rebuilt.ask(asked) == uninterrupted.ask(asked), events[-1]
    assert {"complete", "stopped", "failed"} <= {event[2] for event in events if event[0] == "tell"}
    assert TrialState.RUNNING in states(uninterrupted)


def test_what_is_told_changes_what_tpe_suggests_next() -> None:
    events = list(play(Search(branching(), SCORE, TPE, seed=7), 20))
    mirrored = [(*event[:3], [-event[3][0]]) if event[0] == "tell" else event for event in events]
    first, second = (replay(Search(branching(), SCORE, TPE, seed=7), past) for past in (events, mirrored))
    assert first.ask(20) != second.ask(20)


def test_an_observed_value_ranks_a_stopped_trial() -> None:
    first, second = (replay(Search(branching(), SCORE, TPE, seed=7), list(_all_stopped(best))) for best in (0, 9))
    assert first.ask(10) != second.ask(10)


def _all_stopped(best: int) -> Iterator[tuple[Any, ...]]:
    for number in range(10):
        yield "recall", number, {"lr": 10.0 ** (-5 + number / 3), "head": "none"}
        yield "observe", number, 1, float(number == best)
        yield "tell", number, "stopped", None


def test_suggestions_are_the_same_in_a_process_with_other_string_hashes() -> None:
    here = list(play(Search(branching(), TWO, TPE, seed=3), 16, objectives=2))
    script = (
        "import json, test_search as t\n"
        "print(json.dumps(list(t.play(t.Search(t.branching(), t.TWO, t.TPE, seed=3), 16, objectives=2))))"
    )
    for hash_seed in ("1", "2"):
        paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
        there = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert json.loads(there.stdout) == json.loads(json.dumps(here))


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_asking_leaves_no_trace(kind: Any) -> None:
    searcher = SearcherSpec(type=kind, startup_trials=6)
    often, once = (Search(branching(), SCORE, searcher, seed=1) for _ in range(2))
    for number in range(8):
        answers = [often.ask(number) for _ in range(3)]
        assert answers[0] == answers[1] == answers[2] == once.ask(number)
        for search in (often, once):
            search.recall(number, answers[0].params if answers[0] else {})
            search.tell(number, "complete", [float(number)])


def test_seeds_and_numbers_give_different_suggestions() -> None:
    rates = [
        Search(branching(), SCORE, SearcherSpec(type="random"), seed).ask(number).config["lr"]  # type: ignore[union-attr]
        for seed in (0, 1, 2)
        for number in range(5)
    ]
    assert len(set(rates)) == 15


def configs(kind: Any, seed: int, trials: int) -> list[dict[str, Any]]:
    search = Search(branching(), SCORE, SearcherSpec(type=kind, startup_trials=6), seed)
    asked = [event[2] for event in play(search, trials) if event[0] == "recall"]
    return [branching().suggest(FixedTrial(params)) for params in asked]


def test_tpe_finds_better_settings_than_random_search() -> None:
    tpe, chance = (
        [quality(config) for seed in range(3) for config in configs(kind, seed, 40)[20:]] for kind in ("tpe", "random")
    )
    assert np.mean(tpe) > np.mean(chance) + 3 * np.std(chance) / math.sqrt(len(chance))


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_no_suggestion_breaks_a_constraint_even_if_the_best_settings_would(kind: Any) -> None:
    widths = [config.get("width", 0) for config in configs(kind, 2, 40)]
    assert max(widths) <= 40
    assert sum(width > 0 for width in widths) >= 5


def test_a_constraint_that_nothing_fulfils_is_told() -> None:
    search = Search(branching(rules=("lr > 1",)), SCORE, SearcherSpec(type="random"), seed=0)
    with pytest.raises(UserError, match="none of 1000 draws fulfils the constraints; the last one broke: lr > 1"):
        search.ask(0)


def test_the_cells_of_a_point_share_what_was_sampled() -> None:
    search = Search(branching(cells=3), SCORE, TPE, seed=0)
    asked = []
    for number in range(30):
        suggestion = search.ask(number)
        assert suggestion is not None
        asked.append(suggestion.config)
        search.recall(number, suggestion.params)
        search.tell(number, "complete", [quality(suggestion.config)])
    for point in range(10):
        cells = asked[3 * point : 3 * point + 3]
        assert [config["seed"] for config in cells] == [0, 1, 2]
        assert ["noise" in config for config in cells] == [False, True, False]
        assert len({(config["lr"], config["head"], config.get("width")) for config in cells}) == 1
    assert len({config["lr"] for config in asked}) == 10


def test_a_grid_runs_every_allowed_point_once_in_an_order_of_the_seed() -> None:
    orders = set()
    for seed in range(4):
        search = Search(letters(), SCORE, SearcherSpec(type="grid"), seed)
        *asked, last = [search.ask(number) for number in range(12)]
        assert last is None
        order = [(suggestion.config["letter"], suggestion.config["seed"]) for suggestion in asked if suggestion]
        assert sorted(order) == [(letter, seed) for letter in "abcde" for seed in (0, 1)] + [("f", 0)]
        orders.add(tuple(order))
    assert len(orders) == 4
    assert tuple(sorted(order)) not in orders


def test_a_grid_taken_up_again_goes_on_in_its_order() -> None:
    first, again = (Search(letters(), SCORE, SearcherSpec(type="grid"), seed=3) for _ in range(2))
    events = [("recall", number, first.ask(number).params) for number in range(5)]  # type: ignore[union-attr]
    assert replay(again, events).ask(5) == first.ask(5)


def test_a_grid_without_an_allowed_point_is_told() -> None:
    space = compile_space({"letter": {"choice": ["a", "b"]}}, ["letter == 'c'"], Place())
    with pytest.raises(UserError, match="no point of the grid fulfils the constraints"):
        Search(space, SCORE, SearcherSpec(type="grid"), seed=0)


@pytest.mark.parametrize(
    ("outcome", "values", "state"),
    [
        ("complete", [0.5], TrialState.COMPLETE),
        ("complete", [math.nan], TrialState.FAIL),
        ("complete", [math.inf], TrialState.FAIL),
        ("complete", None, TrialState.FAIL),
        ("stopped", [0.5], TrialState.PRUNED),
        ("failed", [0.5], TrialState.FAIL),
        ("infeasible", None, TrialState.FAIL),
    ],
)
def test_outcomes_are_told_as_what_they_are(outcome: Any, values: list[float] | None, state: TrialState) -> None:
    search = Search(branching(), SCORE, SearcherSpec(), seed=0)
    search.recall(0, {"lr": 1e-3, "head": "none"})
    search.observe(0, 1, 0.25)
    search.observe(0, 2, math.nan)
    search.tell(0, outcome, values)
    trial = search._study.trials[-1]
    assert trial.state is state
    assert trial.intermediate_values == {1: 0.25}


def test_several_objectives_keep_intermediate_values_beside_the_trial() -> None:
    search = Search(branching(), TWO, SearcherSpec(), seed=0)
    for number in (0, 1):
        search.recall(number, {"lr": 1e-3, "head": "none"})
        search.observe(number, 1, 0.25)
    search.tell(0, "complete", [0.5, 10.0])
    search.tell(1, "stopped", [0.5, 10.0])
    complete, stopped = search._study.trials
    assert complete.values == [0.5, 10.0]
    assert [direction.name for direction in search._study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert stopped.state is TrialState.PRUNED
    assert stopped.user_attrs == {"step 1": 0.25}


def test_a_journal_of_another_space_is_refused() -> None:
    with pytest.raises(UserError, match="the space has changed since trial 0 was suggested: head"):
        Search(branching(), SCORE, SearcherSpec(), seed=0).recall(0, {"lr": 1e-3})


def test_optuna_says_nothing_and_keeps_its_level(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    level = optuna.logging.get_verbosity()
    list(play(Search(branching(), SCORE, TPE, seed=0), 12))
    assert optuna.logging.get_verbosity() == level
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_training_seeds_are_distinct_and_31_bits() -> None:
    seeds = [trial_seed(5, number) for number in range(20000)]
    assert len(set(seeds)) == 20000
    assert min(seeds) >= 0
    assert max(seeds) < 2**31
    assert trial_seed(5, 0) != trial_seed(6, 0)
