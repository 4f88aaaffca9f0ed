"""How much of another arm's remaining error the winner takes away, which is comparable where scores near the best are.

Of two steps from 0.90 to 0.91 and from 0.98 to 0.99 the first leaves 9/10 of the error, the second half of it.
Shapes: S training seeds, B bootstrap resamples; the first of 2 rows is the winner, the second the other arm.
"""

from dataclasses import dataclass

import numpy as np

from raysweep.evidence.stretches import Floats

NO_ERROR = 1e-9  # less is rounding


@dataclass(frozen=True, slots=True)
class ErrorReduction:
    """The share of the other arm's error that is gone, 1 where all is, with what it may be; below 0 there is more."""

    value: float
    low: float
    high: float


def error_reduction(errors: Floats, redrawn: Floats, alpha: float, rng: np.random.Generator) -> ErrorReduction | None:
    """1 - error / other error of the seeds' means, from the errors [2, S] and those on resamples [2, S, B].

    None where the other arm has no error in more than alpha / 2 of the draws: then nothing bounds it from below.
    """
    reductions = _reduction(joint_draws(errors, redrawn, rng))
    low, high = np.quantile(reductions, [alpha / 2, 1 - alpha / 2], method="nearest")  # -inf has no mean with others
    value = _reduction(errors.mean(axis=1)[:, None])[0]
    return ErrorReduction(float(value), float(low), float(high)) if np.isfinite([value, low]).all() else None


def joint_draws(values: Floats, redrawn: Floats, rng: np.random.Generator) -> Floats:
    """What the means over seeds of several arms may be [A, B], from values [A, S] and those on resamples [A, S, B].

    The arms' means on each resample, moved by the seeds' chance: Student's t in A dimensions with S - 1 degrees of
    freedom and the seeds' covariance, so that any difference of two arms varies as the paired difference does.
    """
    draws: Floats = redrawn.mean(axis=1)
    seeds = values.shape[1]
    if seeds > 1:
        deviations = values - values.mean(axis=1, keepdims=True)
        normal, chi2 = rng.normal(size=(seeds, draws.shape[1])), rng.chisquare(seeds - 1, size=draws.shape[1])
        draws = draws + deviations @ normal / np.sqrt(seeds * chi2)
    return draws


def _reduction(errors: Floats) -> Floats:
    """Of errors [2, B]; minus infinity where the other arm has none. The seeds' chance takes no error below 0."""
    ours, theirs = np.maximum(errors, 0.0)
    ratio = np.divide(ours, theirs, out=np.full_like(ours, np.inf), where=theirs > NO_ERROR)
    reduction: Floats = 1 - ratio
    return reduction
