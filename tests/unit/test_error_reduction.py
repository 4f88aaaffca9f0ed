"""How much of another arm's error is gone: by hand, as often inside its interval as promised, and None if undefined."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from raysweep.evidence import Arm, confirm, error_reduction
from raysweep.evidence.bootstrap import difference, resampled
from raysweep.evidence.error_reduction import joint_draws
from raysweep.evidence.scores import best_score, score

Floats = npt.NDArray[np.float64]
TARGETS = np.tile([0.0, 1.0], 200)


def noisy(rng: np.random.Generator, shares: Floats) -> Floats:
    """Predictions [S, N] of labels, right with each seed's share."""
    return np.where(rng.random((len(shares), len(TARGETS))) < shares[:, None], TARGETS, 1 - TARGETS)


def errors_of(rng: np.random.Generator, *arms: Floats) -> tuple[Floats, Floats]:
    """Errors [2, S] and those on resamples [2, S, B] of two arms' predictions."""
    both = np.concatenate(arms)
    found, redrawn = score("accuracy", both, TARGETS)[:, 0], resampled(both, TARGETS, "accuracy", rng, 500)
    return 1 - found.reshape(2, -1), 1 - redrawn.reshape(2, len(arms[0]), -1)


def with_mistakes(*counts: int) -> Floats:
    predictions = np.tile(TARGETS, (len(counts), 1))
    for row, count in zip(predictions, counts, strict=True):
        row[:count] = 1 - row[:count]
    return predictions


def test_half_the_mistakes_are_half_the_error() -> None:
    rng = np.random.default_rng(0)
    found = error_reduction(*errors_of(rng, with_mistakes(40), with_mistakes(80)), 0.05, rng)
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert 0 < found.low < 0.5 < found.high < 1
    back = error_reduction(*errors_of(rng, with_mistakes(80), with_mistakes(40)), 0.05, rng)
    assert back is not None
    assert back.value == pytest.approx(-1)


def test_the_means_of_the_seeds_are_compared() -> None:
    rng = np.random.default_rng(0)
    found = error_reduction(*errors_of(rng, with_mistakes(30, 50), with_mistakes(110, 130)), 0.3, rng)
    assert found is not None
    assert found.value == pytest.approx(1 - 40 / 120)


def test_a_winner_without_mistakes_takes_all_of_the_error_away() -> None:
    rng = np.random.default_rng(0)
    found = error_reduction(*errors_of(rng, with_mistakes(0, 0, 0), with_mistakes(70, 75, 80)), 0.05, rng)
    assert found is not None
    assert (found.value, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize(("mistakes", "defined"), [(0, False), (2, False), (3, False), (5, True), (40, True)])
def test_it_is_undefined_where_too_many_resamples_leave_the_other_arm_no_error(mistakes: int, defined: bool) -> None:
    # a resample misses k of 400 examples with a chance of nearly e^-k: 0.05 for 3, 0.007 for 5; 0.025 is too much
    rng = np.random.default_rng(0)
    found = error_reduction(*errors_of(rng, with_mistakes(1), with_mistakes(mistakes)), 0.05, rng)
    assert (found is not None) == defined


def test_seeds_that_scatter_as_widely_as_the_error_leave_it_undefined() -> None:
    rng = np.random.default_rng(0)
    errors = np.array([[0.1, 0.1, 0.1], [0.02, 0.1, 0.3]])
    assert error_reduction(errors, np.repeat(errors[:, :, None], 1000, axis=2), 0.05, rng) is None


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_a_difference_of_joint_draws_varies_as_the_paired_difference(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    values = rng.normal(size=(2, seeds)) + rng.normal(size=seeds)
    redrawn = np.repeat(values[:, :, None], 40_000, axis=2)  # no chance but the seeds'
    joint = joint_draws(values, redrawn, rng)
    paired = difference(values[0] - values[1], redrawn[0] - redrawn[1], 0.1, rng)
    width = paired.high - paired.low
    assert np.quantile(joint[0] - joint[1], [0.05, 0.95]) == pytest.approx([paired.low, paired.high], abs=0.03 * width)
    assert joint.mean(axis=1) == pytest.approx(values.mean(axis=1), abs=0.2 * width)


@pytest.mark.parametrize(("seeds", "seed_noise"), [(1, 0.0), (3, 0.02), (5, 0.02)])
def test_the_interval_holds_the_true_reduction_as_often_as_it_promises(seeds: int, seed_noise: float) -> None:
    rng, hits = np.random.default_rng(7), 0
    for _ in range(300):
        luck = seed_noise * rng.normal(size=(2, seeds))
        found = error_reduction(*errors_of(rng, noisy(rng, 0.85 + luck[0]), noisy(rng, 0.75 + luck[1])), 0.1, rng)
        assert found is not None
        hits += found.low <= 1 - 0.15 / 0.25 <= found.high
    assert hits / 300 >= 0.9 - 3 * math.sqrt(0.9 * 0.1 / 300)


def test_the_best_mean_is_what_the_targets_say() -> None:
    assert best_score("mean", np.full(4, 5.0)) == 5
    assert best_score("mean", np.array([1.0, 2.0])) is None
    assert best_score("spearman", np.array([1.0, 2.0])) == 1


@pytest.mark.parametrize(("best", "reduction"), [([1.0, 1.0], 0.5), ([2.0, 2.0], 1 - 1.1 / 1.2), ([1.0, 2.0], None)])
def test_a_comparison_says_by_how_much_the_error_shrank(best: list[float], reduction: float | None) -> None:
    def arm(name: str, role: Any, mean: float) -> Arm:
        given = np.tile([mean - 0.01, mean + 0.01], (3, 40))
        trials = [f"{name}-{seed}" for seed in range(3)]
        return Arm(name, role, "t0000", {}, trials, [0, 1, 2], [mean] * 3, given, np.tile(best, 40), "mean", mean)

    (found,) = confirm([arm("finalist-1", "finalist", 0.9), arm("plain", "reference", 0.8)], 0.05, 0).comparisons
    assert (found.error_reduction.value if found.error_reduction else None) == pytest.approx(reduction)
