"""How well predictions follow targets, both of shape (N,). Constant input has no order: its correlation is 0."""

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


def _finite(predictions: Array) -> bool:
    return bool(np.isfinite(predictions).all())
