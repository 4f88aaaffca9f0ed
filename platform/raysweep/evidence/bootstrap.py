"""Intervals and paired comparisons of scores on the report split.

Two kinds of chance are counted: which examples the split holds (bootstrap), and which training seeds were run
(Student's t). Shapes: S training seeds, N examples, B bootstrap resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysweep.evidence.scores import score
from raysweep.evidence.stretches import Floats, mean_score, places
from raysweep.trial import Scoring

RESAMPLES = 2000
BLOCK = 250  # resamples worked on at once: 3 MB for 1500 examples, which stays in cache


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over training seeds, and what it may be."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better the first of two arms is, what it may be, and the two-sided p value of no difference."""

    difference: float
    low: float
    high: float
    p: float


def resampled(
    predictions: Floats, targets: Floats, statistic: Scoring, rng: np.random.Generator, resamples: int = RESAMPLES
) -> Floats:
    """Scores [S, B] of predictions [S, N] on B resamples of the examples, the same resamples for all rows.

    Stretches are resampled each by itself: they are samples of different tasks, whose sizes no chance has decided.
    """
    if not isinstance(statistic, str):
        stretches = places(statistic, len(targets))
        scores = [resampled(predictions[:, place], targets[place], name, rng, resamples) for name, place in stretches]
        return mean_score(statistic, scores)
    size, parts = len(targets), []
    for start in range(0, resamples, BLOCK):
        block = min(BLOCK, resamples - start)
        drawn = rng.integers(size, size=(block, size)) + size * np.arange(block)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=block * size).reshape(block, size).astype(np.float64)
        parts.append(score(statistic, predictions, targets, weights))
    return np.concatenate(parts, axis=1)


def bootstrap_interval(
    predictions: Floats,
    targets: Floats,
    statistic: Scoring,
    alpha: float,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean score of the seeds' predictions [S, N], with its interval."""
    scores = score(statistic, predictions, targets)[:, 0]
    return interval(scores, resampled(predictions, targets, statistic, rng, resamples), alpha, rng)


def paired_difference(
    first: Floats,
    second: Floats,
    targets: Floats,
    statistic: Scoring,
    alpha: float,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Difference:
    """First less second, both [S, N]: row s of both was trained on the same seed, and resamples hit both alike."""
    both, seeds = np.concatenate([first, second]), len(first)
    scores = score(statistic, both, targets)[:, 0]
    draws = resampled(both, targets, statistic, rng, resamples)
    return difference(scores[:seeds] - scores[seeds:], draws[:seeds] - draws[seeds:], alpha, rng)


def interval(scores: Floats, redrawn: Floats, alpha: float, rng: np.random.Generator) -> Interval:
    """The mean of the seeds' scores [S] with its 1 - alpha percentile interval; `redrawn` [S, B]: on resamples."""
    low, high = np.quantile(_draws(scores, redrawn, rng), [alpha / 2, 1 - alpha / 2])
    return Interval(float(scores.mean()), float(low), float(high))


def difference(gaps: Floats, redrawn: Floats, alpha: float, rng: np.random.Generator) -> Difference:
    """The mean of the seeds' gaps [S] with interval and p value, from the gaps on resamples, `redrawn` [S, B].

    p is twice the smaller share of draws on either side of zero, (k + 1) / (B + 1): never 0 (Davison and Hinkley 1997).
    """
    draws = _draws(gaps, redrawn, rng)
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    fewer = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    p = min(1.0, 2 * (fewer + 1) / (len(draws) + 1))
    return Difference(float(gaps.mean()), float(low), float(high), p)


def _draws(scores: Floats, redrawn: Floats, rng: np.random.Generator) -> Floats:
    """What the mean over seeds may be [B]: the seeds' mean on each resample, moved by the chance of the seeds.

    That chance is Student's t with S - 1 degrees of freedom times s / sqrt(S). Resampling so few seeds instead would
    claim too much: of three seeds without any effect all three point the same way in one case of four, and then no
    resample of them ever contradicts. With one seed it cannot be known, and only the examples' chance is counted.
    """
    draws: Floats = redrawn.mean(axis=0)
    seeds = len(scores)
    if seeds > 1:
        draws = draws + rng.standard_t(seeds - 1, size=len(draws)) * scores.std(ddof=1) / math.sqrt(seeds)
    return draws


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: at level alpha, the chance of even one false claim in the family is at most alpha."""
    adjusted, running = [0.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        running = max(running, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = running
    return adjusted
