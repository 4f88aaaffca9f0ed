"""ASHA's decisions, one by one, and what they cost on simulated learning curves."""

import heapq
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.problems import UserError
from raysweep.schedule import Asha, Decision, Fifo, Scheduler, bracket_shares, make_scheduler, rungs_of
from raysweep.spec import SchedulerSpec


@pytest.mark.parametrize(
    ("least", "most", "eta", "rungs"),
    [
        (1, 9, 3, [1, 3]),
        (1, 8, 2, [1, 2, 4]),
        (1, 100, 4, [1, 4, 16, 64]),
        (5, 50, 3, [5, 15, 45]),
        (1, 243, 3, [1, 3, 9, 27, 81]),  # logarithms in floating point lose the 81
        (1, 2, 2, [1]),
        (4, 4, 2, []),
    ],
)
def test_rungs_are_exact(least: int, most: int, eta: int, rungs: list[int]) -> None:
    assert rungs_of(SchedulerSpec(min=least, max=most, eta=eta)) == rungs


def asha(maximize: bool = True, **settings: int) -> Asha:
    return Asha(SchedulerSpec(**settings), maximize, seed=0)  # type: ignore[arg-type]


def actions(scheduler: Scheduler, values: list[float], step: int = 1) -> list[str]:
    return [scheduler.decide(number, step, value).action for number, value in enumerate(values)]


def test_the_best_third_goes_on_and_the_first_always() -> None:
    # kept of n = 1..7 at eta 3: 1 1 1 1 1 2 2
    values = [0.5, 0.4, 0.6, 0.55, 0.1, 0.58, 0.57]
    assert actions(asha(max=9), values) == ["go on", "stop", "go on", "stop", "stop", "go on", "stop"]
    assert actions(asha(maximize=False, max=9), [-value for value in values]) == actions(asha(max=9), values)


def test_a_decision_says_why() -> None:
    scheduler = asha(max=27)
    actions(scheduler, [0.9, 0.88, 0.871, 0.8, 0.7, 0.6, 0.87, 0.5, 0.4, 0.3, 0.2], step=3)
    assert scheduler.decide(20, 3, 0.55) == Decision(
        "stop", "rank 8 of 12 at rung 3; the best 4 go on; 0.87 or more was needed", rung=3, rank=8, of=12, cutoff=0.87
    )
    assert scheduler.decide(21, 3, 0.89) == Decision(
        "go on", "rank 2 of 13 at rung 3; the best 4 go on", rung=3, rank=2, of=13, cutoff=0.871
    )


def test_a_smaller_loss_is_what_was_needed_when_minimising() -> None:
    scheduler = asha(maximize=False, max=9)
    actions(scheduler, [0.25])
    decision = scheduler.decide(1, 1, 0.5)
    assert decision.reason == "rank 2 of 2 at rung 1; the best 1 go on; 0.25 or less was needed"
    assert decision.cutoff == 0.25


def test_equal_values_go_on_together() -> None:
    assert actions(asha(max=9), [0.0] * 8) == ["go on"] * 8


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_never_goes_on_and_holds_nobody_back(value: float) -> None:
    scheduler = asha(max=9)
    first = scheduler.decide(0, 1, value)
    assert (first.action, first.cutoff) == ("stop", None)
    assert first.reason == "rank 1 of 1 at rung 1; the best 1 go on; the value is not finite"
    assert scheduler.decide(1, 1, value).action == "stop"
    assert scheduler.decide(2, 1, 0.1).action == "go on"


def test_a_trial_is_recorded_once_at_the_highest_rung_it_has_reached() -> None:
    scheduler = asha(max=16, eta=2)  # rungs 1 2 4 8
    assert [scheduler.decide(0, step, 0.5).rung for step in (1, 3, 3, 7, 2, 7, 15)] == [1, 2, None, 4, None, None, 8]
    assert scheduler.decide(1, 4, 0.6).of == 2  # rung 4 holds both
    assert scheduler.decide(2, 2, 0.6).of == 2  # rung 2 was stepped over by the second


def test_before_the_first_rung_every_trial_goes_on() -> None:
    scheduler = asha(min=5, max=45)
    assert [scheduler.decide(number, 4, -number) for number in range(4)] == [Decision("go on")] * 4


def test_fifo_stops_none() -> None:
    scheduler = make_scheduler(SchedulerSpec(type="fifo"), "maximize", seed=0)
    assert isinstance(scheduler, Fifo)
    assert actions(scheduler, [3.0, 2.0, math.nan]) == ["go on"] * 3


def test_the_goal_of_the_objective_decides_which_way_is_better() -> None:
    for goal, expected in (("maximize", "stop"), ("minimize", "go on")):
        scheduler = make_scheduler(SchedulerSpec(), goal, seed=0)  # type: ignore[arg-type]
        assert actions(scheduler, [0.5, 0.4])[1] == expected


def test_a_bracket_depends_on_seed_and_number_only_and_is_as_frequent_as_in_hyperband() -> None:
    # Hyperband's shares for 2, 1 and 0 rungs at eta 3: 9/3, 3/2 and 1/1 of their sum
    assert bracket_shares(2, 3, 3) == pytest.approx([3 / 5.5, 1.5 / 5.5, 1 / 5.5])
    scheduler = asha(max=9, brackets=3)
    brackets = [scheduler.bracket(number) for number in range(3000)]
    assert brackets == [asha(max=9, brackets=3).bracket(number) for number in range(3000)]
    assert np.bincount(brackets) / 3000 == pytest.approx([3 / 5.5, 1.5 / 5.5, 1 / 5.5], abs=0.03)  # 3.3 deviations


def test_brackets_begin_at_their_rung_and_are_not_compared() -> None:
    scheduler = asha(max=9, brackets=3)
    number = {scheduler.bracket(number): number for number in range(50)}
    second = next(other for other in range(50, 99) if scheduler.bracket(other) == 1)
    assert scheduler.decide(number[0], 1, 0.9).rung == 1
    assert scheduler.decide(number[1], 1, 0.1) == Decision("go on")
    assert scheduler.decide(number[0], 3, 0.9).rung == 3
    assert scheduler.decide(number[1], 3, 0.1).of == 1
    assert scheduler.decide(second, 3, 0.05).rank == 2
    assert scheduler.decide(number[2], 8, 0.0) == Decision("go on")


def test_more_brackets_than_rungs_allow_are_refused() -> None:
    with pytest.raises(
        UserError, match="brackets is 4, but min 1, max 9 and eta 3 give 2 rungs, so at most 3 brackets"
    ):
        asha(max=9, brackets=4)


EVENTS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 26), st.floats(allow_nan=True, width=16)), min_size=1, max_size=60
)


@given(events=EVENTS, brackets=st.integers(1, 4), maximize=st.booleans())
def test_the_same_calls_give_the_same_decisions(
    events: list[tuple[int, int, float]], brackets: int, maximize: bool
) -> None:
    first, second = (asha(maximize, max=27, brackets=brackets) for _ in range(2))
    assert [first.decide(*event) for event in events] == [second.decide(*event) for event in events]


@given(events=EVENTS, maximize=st.booleans())
def test_rank_and_cutoff_explain_every_decision(events: list[tuple[int, int, float]], maximize: bool) -> None:
    scheduler = asha(maximize, max=27)
    for number, step, value in events:
        decision = scheduler.decide(number, step, value)
        if decision.rung is None:
            assert decision.action == "go on"
            continue
        assert decision.rank is not None
        assert decision.of is not None
        assert 1 <= decision.rank <= decision.of
        within = decision.rank <= max(1, decision.of // 3) and math.isfinite(value)
        assert (decision.action == "go on") == within
        if decision.cutoff is not None and math.isfinite(value):
            assert within == (value >= decision.cutoff if maximize else value <= decision.cutoff)


def test_how_many_go_on_by_chance_is_as_computed() -> None:
    # The n-th of random values is among the best k of n with probability k/n.
    expected = sum(max(1, n // 3) / n for n in range(1, 28))
    variance = sum(max(1, n // 3) / n * (1 - max(1, n // 3) / n) for n in range(1, 28))
    rng = np.random.default_rng(0)
    counts = [actions(asha(max=9), rng.random(27).tolist()).count("go on") for _ in range(400)]
    assert np.mean(counts) == pytest.approx(expected, abs=3 * math.sqrt(variance / 400))


class QuantileRule(Asha):
    """Ray's rule: a trial stops when it is below the quantile 1 - 1/eta of those before it."""

    def _compare(self, rung: int, signed: float, values: list[float]) -> Decision:
        before = values[:-1]
        stop = bool(before) and signed < np.percentile(before, 100 * (1 - 1 / self._eta))
        return Decision("stop" if stop else "go on")


def simulate(scheduler: Asha, trials: int, most: int, seed: int) -> tuple[float, float]:
    """Share of the full grid's steps, and how far the best trial that ended is from the best there is.

    Four workers; final quality uniform in 0..1; the curves rise as 1 - exp(-step * speed / 3), by half the range of
    qualities, with speeds from 0.5 to 2, so that they cross; steps take 0.9 to 1.1 time units.
    """
    rng = np.random.default_rng(seed)
    quality, speed = rng.random(trials), rng.uniform(0.5, 2, trials)
    waiting, steps, ended = iter(range(trials)), 0, []
    running = [(rng.uniform(0.9, 1.1), next(waiting), 1) for _ in range(4)]
    while running:
        time, trial, step = heapq.heappop(running)
        steps += 1
        value = quality[trial] - 0.5 * math.exp(-step * speed[trial] / 3)
        if step == most:
            ended.append(quality[trial])
        goes_on = step < most and scheduler.decide(trial, step, value).action == "go on"
        follower = (trial, step + 1) if goes_on else next(_fresh(waiting), None)
        if follower is not None:
            heapq.heappush(running, (time + rng.uniform(0.9, 1.1), *follower))
    return steps / (trials * most), quality.max() - max(ended)


def _fresh(waiting: Iterator[int]) -> Iterator[tuple[int, int]]:
    return ((trial, 1) for trial in waiting)


@pytest.mark.parametrize(
    ("trials", "most", "eta", "published", "ours"), [(27, 9, 3, 0.35, 0.29), (64, 16, 4, 0.22, 0.175)]
)
def test_the_cost_on_simulated_curves_is_below_that_of_the_published_rule(
    trials: int, most: int, eta: int, published: float, ours: float
) -> None:
    spec = SchedulerSpec(max=most, eta=eta)
    known, found = (
        np.mean([simulate(rule(spec, True, 0), trials, most, seed) for seed in range(60)], axis=0)
        for rule in (QuantileRule, Asha)
    )
    assert known[0] == pytest.approx(
        published, abs=0.02
    )  # the simulation is a fair copy of the one they were found with
    assert found[0] == pytest.approx(ours, abs=0.02)
    assert found[1] < 0.02  # of qualities between 0 and 1
