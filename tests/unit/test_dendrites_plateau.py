"""When dendrites grow: the plateau rule over scores alone."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trainables.parts.dendrites.plateau import Plateau
from trainables.parts.dendrites.settings import DendriteSettings


def chosen(**given):
    return DendriteSettings.model_validate({"enabled": True, "patience": 2} | given)


def actions(scores, **given):
    """What a plateau says to `scores`; ends with the first "done"."""
    plateau, said = Plateau(chosen(**given)), []
    for score in scores:
        said.append(plateau.report(score)[1])
        if said[-1] == "done":
            break
    return said


def steps(scores, **given):
    """The steps (from 1) at which something happens."""
    return [(step, action) for step, action in enumerate(actions(scores, **given), 1) if action != "go on"]


def test_patience_counts_steps_without_a_better_score():
    assert steps([1, 2, 2, 3, 3, 3, 3], patience=3) == [(7, "grow")]
    assert steps(range(20), patience=1) == []


def test_patience_starts_again_after_a_growth_from_a_lower_score():
    assert steps([5, 5, 5, 1, 2, 3, 4, 4, 4]) == [(3, "grow"), (9, "grow")]


def test_a_growth_that_helps_gets_the_next_and_max_dendrites_ends_it():
    assert steps([1, 1, 1, 2, 2, 2, 3, 3, 3], max_dendrites=2) == [(3, "grow"), (6, "grow"), (9, "done")]


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_growth_that_does_not_help_is_tried_again(tries):
    growths = [(3 * number, "grow") for number in range(1, tries + 1)]
    assert steps([1] * 30, max_tries=tries) == [*growths, (3 * (tries + 1), "done")]


def test_a_growth_that_helps_makes_all_tries_available_again():
    scores = [1, 1, 1, 0, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0, 0]
    assert steps(scores, max_tries=2) == [(3, "grow"), (6, "grow"), (9, "grow"), (12, "grow"), (15, "done")]


def test_without_dendrites_the_plateau_is_the_end():
    assert steps([1, 2, 2, 2], max_dendrites=0) == [(4, "done")]


def test_disabled_never_grows_and_never_ends():
    assert steps([1] * 50, enabled=False) == []


def test_fixed_grows_on_the_step_whatever_the_scores():
    assert steps(range(20), switch="fixed", every=4) == [(4, "grow"), (8, "grow"), (12, "done")]
    assert steps([3] * 20, switch="fixed", every=4) == [(4, "grow"), (8, "grow"), (12, "done")]


def test_absolute_threshold_must_be_passed():
    assert steps([0.5, 0.625, 0.625], threshold=0.125, patience=1) == [(2, "grow")]
    assert steps([0.5, 0.625, 0.625], threshold=0.124, patience=1) == [(3, "grow")]


def test_small_steps_add_up_against_the_best_so_far():
    assert steps([0, 1, 2, 3], threshold=2.5) == [(3, "grow")]
    assert steps([0, 1, 2, 3], threshold=2.5, patience=3) == []
    assert steps([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], threshold=1.5) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_relative_threshold_is_a_share_of_the_size_of_the_best(sign):
    relative = {"threshold": 0.25, "threshold_mode": "relative", "patience": 1}
    assert steps([sign * 8, sign * 8 + 2], **relative) == [(2, "grow")]
    assert steps([sign * 8, sign * 8 + 2.5], **relative) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_never_the_best(bad):
    plateau = Plateau(chosen())
    assert [plateau.report(score) for score in (bad, 1.0, bad)] == [(False, "go on"), (True, "go on"), (False, "go on")]
    assert plateau.report(bad) == (False, "grow")
    assert plateau.best == 1.0


def test_without_any_finite_score_nothing_grows():
    assert steps([math.nan] * 30) == []


def test_nothing_is_reported_after_the_end():
    plateau = Plateau(chosen(max_dendrites=0))
    for _ in range(3):
        plateau.report(0.0)
    with pytest.raises(AssertionError, match="done"):
        plateau.report(0.0)


plans = st.fixed_dictionaries(
    {
        "patience": st.integers(1, 4),
        "max_dendrites": st.integers(0, 3),
        "max_tries": st.integers(1, 3),
        "switch": st.sampled_from(["history", "fixed"]),
        "every": st.integers(1, 4),
        "threshold": st.sampled_from([0.0, 0.25, 1.0]),
    }
)
eighths = st.integers(-40, 40).map(lambda number: number / 8)  # exact in binary, so that sums are exact


@given(plan=plans, scores=st.lists(eighths | st.just(math.nan), max_size=60), shift=st.integers(-9, 9))
@settings(deadline=None)
def test_zero_and_sign_mean_nothing(plan, scores, shift):
    assert actions(scores, **plan) == actions([score + shift for score in scores], **plan)


@given(plan=plans, scores=st.lists(eighths | st.just(math.nan), max_size=60), cut=st.integers(0, 60))
@settings(deadline=None)
def test_a_restored_plateau_goes_on_the_same(plan, scores, cut):
    whole = actions(scores, **plan)
    first, second = Plateau(chosen(**plan)), Plateau(chosen(**plan))
    said = [first.report(score)[1] for score in scores[: min(cut, len(whole))]]
    second.restore(first.state())
    said += [second.report(score)[1] for score in scores[len(said) : len(whole)]]
    assert said == whole


@given(plan=plans, scores=st.lists(eighths | st.just(math.nan), max_size=60))
@settings(deadline=None)
def test_bounds_hold_whatever_the_scores(plan, scores):
    plateau, growths, kept = Plateau(chosen(**plan)), 0, -math.inf
    for score in scores:
        best, action = plateau.report(score)
        assert best == (math.isfinite(score) and (kept == -math.inf or score > kept + plan["threshold"]))
        kept = score if best else kept
        growths += action == "grow"
        assert plateau.dendrites <= plan["max_dendrites"]
        assert growths <= plan["max_dendrites"] * plan["max_tries"]
        if action == "done":
            assert plateau.dendrites == plateau.best_dendrites
            break


@pytest.mark.parametrize(
    "given", [{"freeze_old": True}, {"switch": "fixed", "every": 1}, {"patience": 0}, {"threshold": "1e-4"}]
)
def test_settings_that_cannot_work_are_refused(given):
    with pytest.raises(ValidationError, match=next(iter(set(given) - {"switch"}))):
        chosen(backend="perforatedai", **given)
