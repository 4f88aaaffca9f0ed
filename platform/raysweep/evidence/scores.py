"""The statistics that compare models, each on many weightings of the examples at once: a bootstrap without sorting.

Shapes: S models, N examples, B weightings; `weights[b, n]` says how often example n counts in weighting b.
A bootstrap resample is such a weighting, so ranks come from cumulated weights in an order that is found once.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from raysweep.evidence.stretches import Floats, mean_score, places
from raysweep.trial import Scoring, Statistic

Truths = npt.NDArray[np.bool_]


def score(statistic: Scoring, predictions: Floats, targets: Floats, weights: Floats | None = None) -> Floats:
    """Scores [S, B] of predictions [S, N] against targets [N] under weights [B, N]; larger is better.

    Without weights each example counts once, and B is 1. A correlation with something constant is 0, as is the F1 of a
    class that is neither there nor predicted. Of stretches, each must have some weight.
    """
    if weights is None:
        weights = np.ones((1, len(targets)))
    if isinstance(statistic, str):
        return SCORES[statistic](predictions, targets, weights)
    parts = places(statistic, len(targets))
    scores = [SCORES[name](predictions[:, place], targets[place], weights[:, place]) for name, place in parts]
    return mean_score(statistic, scores)


def best_score(statistic: Scoring, targets: Floats) -> float | None:
    """The score of perfect predictions; None where it depends on which examples are counted."""
    if not isinstance(statistic, str):
        found = [best_score(name, targets[place]) for name, place in places(statistic, len(targets))]
        known = [np.array(best) for best in found if best is not None]
        return float(mean_score(statistic, known)) if len(known) == len(found) else None
    if statistic != "mean":
        return 1.0
    return float(targets[0]) if np.ptp(targets) == 0 else None


def _spearman(predictions: Floats, targets: Floats, weights: Floats) -> Floats:
    ranked = _centred_ranks(targets, weights)
    return np.stack([_correlation(_centred_ranks(row, weights), ranked, weights) for row in predictions])


def _centred_ranks(values: Floats, weights: Floats) -> Floats:
    """Ranks [B, N] less their mean (n + 1) / 2; equal values share the mean of their ranks."""
    distinct, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    first = np.searchsorted(place[order], np.arange(len(distinct)))
    heaps = np.add.reduceat(weights[:, order], first, axis=1)  # weight of each distinct value
    ranks = np.cumsum(heaps, axis=1) - (heaps - 1) / 2
    ranks -= (weights.sum(axis=1, keepdims=True) + 1) / 2
    centred: Floats = np.take(ranks, place, axis=1)
    return centred


def _pearson(predictions: Floats, targets: Floats, weights: Floats) -> Floats:
    centred = _centred(targets, weights)
    return np.stack([_correlation(_centred(row, weights), centred, weights) for row in predictions])


def _centred(values: Floats, weights: Floats) -> Floats:
    """Values less their weighted mean [B, N], in units of their plain deviation, so that rounding is near 1e-16."""
    spread = np.std(values)
    unit = (values - values.mean()) / spread if spread > 1e-12 * np.abs(values).max() else np.zeros_like(values)
    centred: Floats = unit - (weights @ unit / weights.sum(axis=1))[:, None]
    return centred


def _correlation(first: Floats, second: Floats, weights: Floats) -> Floats:
    """Weighted correlation [B] of rows that are centred already; 0 where one of them is constant."""
    weighted = weights * first
    product = np.einsum("bn,bn->b", weighted, second)
    scale = np.sqrt(np.einsum("bn,bn->b", weighted, first) * np.einsum("bn,bn,bn->b", weights, second, second))
    correlation: Floats = np.divide(product, scale, out=np.zeros_like(product), where=scale > 1e-9)
    return correlation


def _accuracy(predictions: Floats, targets: Floats, weights: Floats) -> Floats:
    right = (predictions == targets).astype(np.float64)
    share: Floats = right @ weights.T / weights.sum(axis=1)
    return share


def _macro_f1(predictions: Floats, targets: Floats, weights: Floats) -> Floats:
    """The mean F1 = 2 TP / (true + predicted) of the classes that occur among targets or predictions."""
    total, classes = np.zeros((len(predictions), len(weights))), np.zeros((len(predictions), len(weights)))
    for label in np.union1d(targets, predictions):
        hits, size = _overlap(predictions == label, targets == label, weights)
        total += np.divide(2 * hits, size, out=np.zeros_like(size), where=size > 0)
        classes += size > 0
    return total / classes


def _f1(predictions: Floats, targets: Floats, weights: Floats) -> Floats:
    """F1 of the label 1."""
    hits, size = _overlap(predictions == 1, targets == 1, weights)
    return np.divide(2 * hits, size, out=np.zeros_like(size), where=size > 0)


def _overlap(predicted: Truths, true: Truths, weights: Floats) -> tuple[Floats, Floats]:
    """Of one class [S, B]: how often it is both predicted and true, and how often either, both counted twice."""
    hits = (predicted & true).astype(np.float64) @ weights.T
    return hits, predicted.astype(np.float64) @ weights.T + weights @ true.astype(np.float64)


def _matthews(predictions: Floats, targets: Floats, weights: Floats) -> Floats:
    """Matthews correlation; of more than two classes R_K, the correlation of their indicators (Gorodkin 2004)."""
    total = weights.sum(axis=1)
    right = (predictions == targets).astype(np.float64) @ weights.T
    both = first = second = np.zeros_like(right)
    for label in np.union1d(targets, predictions):
        predicted = (predictions == label).astype(np.float64) @ weights.T
        true = weights @ (targets == label).astype(np.float64)
        both, first, second = both + predicted * true, first + predicted**2, second + true**2
    scale = np.sqrt((total**2 - first) * (total**2 - second))
    correlation: Floats = np.divide(right * total - both, scale, out=np.zeros_like(scale), where=scale > 1e-9)
    return correlation


def _mean(predictions: Floats, targets: Floats, weights: Floats) -> Floats:
    share: Floats = predictions @ weights.T / weights.sum(axis=1)
    return share


SCORES: dict[Statistic, Callable[[Floats, Floats, Floats], Floats]] = {
    "spearman": _spearman,
    "pearson": _pearson,
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "f1": _f1,
    "matthews": _matthews,
    "mean": _mean,
}
