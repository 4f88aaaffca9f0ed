"""The statistics that compare models, each on many weightings of the examples at once: a bootstrap without sorting.

Shapes: S models, N examples, B weightings; `weights[b, n]` says how often example n counts in weighting b.
A bootstrap resample is such a weighting, so ranks come from cumulated weights in an order that is found once.
"""

import numpy as np
import numpy.typing as npt

from raysweep.trial import Statistic

Floats = npt.NDArray[np.float64]


def score(statistic: Statistic, predictions: Floats, targets: Floats, weights: Floats | None = None) -> Floats:
    """Scores [S, B] of predictions [S, N] against targets [N] under weights [B, N]; larger is better.

    Without weights each example counts once, and B is 1. A correlation with something constant is 0.
    """
    if weights is None:
        weights = np.ones((1, len(targets)))
    return {"spearman": _spearman, "pearson": _pearson, "accuracy": _accuracy, "macro_f1": _macro_f1}[statistic](
        predictions, targets, weights
    )


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
        true, predicted = targets == label, predictions == label
        size = (weights @ true) + (predicted @ weights.T)
        hits = (predicted & true) @ weights.T
        total += np.divide(2 * hits, size, out=np.zeros_like(size), where=size > 0)
        classes += size > 0
    return total / classes
