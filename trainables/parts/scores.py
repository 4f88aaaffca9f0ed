"""How well predictions follow targets, both of shape (N,). Constant input has no order: its correlation is 0.

Classes are numbers from 0; what is predicted for a model that has diverged is no class but NaN, and scores NaN.
"""

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]


def spearman(predictions: Array, targets: Array) -> float:
    """Rank correlation in -1..1; NaN where a prediction is not finite, so that a diverged model is seen."""
    return pearson(stats.rankdata(predictions), stats.rankdata(targets)) if _finite(predictions) else float("nan")


def pearson(predictions: Array, targets: Array) -> float:
    """Linear correlation in -1..1; NaN where a prediction is not finite."""
    if not _finite(predictions):
        return float("nan")
    if np.ptp(predictions) == 0 or np.ptp(targets) == 0:
        return 0.0
    return float(stats.pearsonr(predictions, targets).statistic)


def accuracy(predictions: Array, targets: Array) -> float:
    """The share of right classes."""
    return float(np.mean(predictions == targets)) if _finite(predictions) else float("nan")


def f1(predictions: Array, targets: Array) -> float:
    """F1 of the positive class, number 1; 0 where it neither occurs nor is predicted."""
    return _f1(predictions, targets, 1) if _finite(predictions) else float("nan")


def macro_f1(predictions: Array, targets: Array) -> float:
    """The mean F1 of the classes that occur among predictions or targets."""
    if not _finite(predictions):
        return float("nan")
    return float(np.mean([_f1(predictions, targets, label) for label in np.union1d(predictions, targets)]))


def _f1(predictions: Array, targets: Array, label: float) -> float:
    found, wanted = predictions == label, targets == label
    size = found.sum() + wanted.sum()
    return float(2 * (found & wanted).sum() / size) if size else 0.0


def matthews(predictions: Array, targets: Array) -> float:
    """The correlation of two classes, -1..1 (Matthews 1975)."""
    return pearson(predictions, targets)


def mean(predictions: Array, targets: Array) -> float:
    """Of predictions that are each example's score already; targets are the best there can be."""
    return float(np.mean(predictions))


SCORES = {
    "spearman": spearman, "pearson": pearson, "accuracy": accuracy, "f1": f1, "macro_f1": macro_f1,
    "matthews": matthews, "mean": mean,
}  # fmt: skip


def _finite(predictions: Array) -> bool:
    return bool(np.isfinite(predictions).all())
