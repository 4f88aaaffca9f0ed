"""The share that is pruned rises as it should, and is exact at both ends; masks are chosen when they are due."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.parts.pruning.schedules import due, regrow_share_at, span, sparsity_at
from trainables.parts.pruning.settings import PruningSettings


def settings(schedule: str = "linear", **changes: Any) -> PruningSettings:
    chosen: dict[str, Any] = {"target": "weights", "sparsity": 0.5, "epochs": 1, "schedule": schedule, **changes}
    return PruningSettings(**chosen)


@st.composite
def any_settings(draw: st.DrawFn, regrow: str | None = None) -> PruningSettings:
    schedule = draw(st.sampled_from(["one_shot", "linear", "cubic", "sigmoid", "steps"]))
    low, high = sorted(draw(st.tuples(st.floats(0, 0.99), st.floats(0, 0.99))))
    begin, end = sorted(draw(st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True)))
    return settings(
        schedule,
        initial_sparsity=0.0 if schedule == "one_shot" else low,
        sparsity=high,
        begin=begin / 100,
        end=end / 100,
        every=draw(st.integers(1, 40)),
        steps=draw(st.integers(2, 9)),
        regrow=regrow or draw(st.sampled_from(["none", "gradient"])),
    )


TOTALS = st.integers(0, 150)


def shares(of: PruningSettings, total: int) -> list[float]:
    return [sparsity_at(of, step, total) for step in range(total)]


def test_cubic_is_that_of_zhu_and_gupta() -> None:
    assert shares(settings("cubic", initial_sparsity=0.1), 3) == pytest.approx([0.1, 0.45, 0.5], abs=1e-15)
    falls = [0.8 * (1 - (1 - step / 10) ** 3) for step in range(11)]
    assert shares(settings("cubic", sparsity=0.8), 11) == pytest.approx(falls, abs=1e-15)


def test_linear_rises_by_equal_parts() -> None:
    assert shares(settings("linear", initial_sparsity=0.1), 5) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_sigmoid_reaches_both_ends_and_half_way_in_the_middle() -> None:
    found = shares(settings("sigmoid", initial_sparsity=0.1), 101)
    assert (found[0], found[100]) == (0.1, 0.5)
    assert found[50] == pytest.approx(0.3)
    # the logistic curve of slope 10 itself, from 1 / (1 + e^5) to 1 / (1 + e^-5)
    assert (found[60] - 0.1) / 0.4 == pytest.approx((0.7310586 - 0.0066929) / (0.9933071 - 0.0066929), abs=1e-6)


def test_steps_are_equal_plateaus_and_the_last_step_is_at_the_end() -> None:
    rising = settings("steps", sparsity=0.8, initial_sparsity=0.2, steps=3, end=0.9, every=1)
    found = shares(rising, 10)
    assert found == pytest.approx([0.2] * 3 + [0.4] * 3 + [0.6] * 3 + [0.8])
    assert found[9] == 0.8
    assert [step for step in range(10) if due(rising, step, 10)] == [0, 3, 6, 9]


def test_one_shot_chooses_once() -> None:
    once = settings("one_shot", begin=0.4)
    assert shares(once, 5) == [0, 0, 0.5, 0.5, 0.5]
    assert [step for step in range(5) if due(once, step, 5)] == [2]


def test_masks_are_due_every_so_many_steps_and_at_the_end() -> None:
    found = settings("linear", begin=0.1, end=0.8, every=30)
    assert [step for step in range(100) if due(found, step, 100)] == [10, 40, 70, 80]


def test_regrowth_goes_on_until_the_end_though_the_share_is_reached() -> None:
    found = settings("one_shot", end=0.75, every=25, regrow="gradient", regrow_share=0.2)
    assert [step for step in range(100) if due(found, step, 100)] == [0, 25, 50, 75]
    assert [regrow_share_at(found, step, 100) for step in (0, 25, 50, 75, 80)] == pytest.approx([0.2, 0.15, 0.05, 0, 0])


@pytest.mark.parametrize("schedule", ["one_shot", "linear", "cubic", "sigmoid", "steps"])
@pytest.mark.parametrize("total", [0, 1])
def test_a_stage_of_no_steps_or_one_prunes_all_at_once(schedule: str, total: int) -> None:
    assert sparsity_at(settings(schedule), 0, total) == 0.5
    assert due(settings(schedule), 0, total)
    assert regrow_share_at(settings(schedule, regrow="gradient"), 0, total) == 0


@given(any_settings(), TOTALS)
def test_the_share_never_falls_and_keeps_its_bounds(of: PruningSettings, total: int) -> None:
    found = shares(of, total)
    first, last = span(of, total)
    assert all(earlier <= later for earlier, later in pairwise(found))
    assert set(found[:first]) <= {0.0}
    assert all(of.initial_sparsity <= share <= of.sparsity for share in found[first:])
    assert set(found[last:]) <= {of.sparsity}
    if of.schedule != "one_shot" and first < last:
        assert found[first] == of.initial_sparsity


@given(any_settings(), TOTALS)
def test_the_last_choice_has_exactly_the_final_share(of: PruningSettings, total: int) -> None:
    chosen = [step for step in range(max(1, total)) if due(of, step, total)]
    first, last = span(of, total)
    assert chosen[0] == first
    assert chosen[-1] <= last
    assert sparsity_at(of, chosen[-1], total) == of.sparsity
    assert not due(of, last + 1, total)


@given(any_settings(regrow="gradient"), TOTALS)
def test_ever_less_is_exchanged(of: PruningSettings, total: int) -> None:
    first, last = span(of, total)
    found = [regrow_share_at(of, step, total) for step in range(first, last + 1)]
    assert all(0 <= later <= earlier <= of.regrow_share for earlier, later in pairwise(found))
    assert found[-1] == 0
    assert first == last or found[0] == of.regrow_share


@given(any_settings(regrow="none"), TOTALS)
def test_without_regrowth_nothing_is_exchanged(of: PruningSettings, total: int) -> None:
    assert {regrow_share_at(of, step, total) for step in range(total + 1)} == {0.0}
