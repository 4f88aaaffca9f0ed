"""Several objectives at once: the Pareto front and the volume it dominates."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Goal = Literal["maximize", "minimize"]
Floats = npt.NDArray[np.float64]


def pareto_front(points: Sequence[Sequence[float]], goals: Sequence[Goal]) -> list[int]:
    """Indices of the points that no other dominates; a point with a value that is not finite is never among them."""
    costs = _costs(points, goals)
    finite = np.isfinite(costs).all(axis=1)
    others = costs[finite]
    return [index for index in np.flatnonzero(finite).tolist() if not _dominated(costs[index], others)]


def _dominated(cost: Floats, others: Floats) -> bool:
    return bool(((others <= cost).all(axis=1) & (others < cost).any(axis=1)).any())


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float], goals: Sequence[Goal]) -> float:
    """The volume that the points dominate up to a reference point; exact, by slices along the last objective."""
    costs, corner = _costs(points, goals), _costs([reference], goals)[0]
    return _volume(costs[(np.isfinite(costs) & (costs < corner)).all(axis=1)], corner)


def _volume(costs: Floats, corner: Floats) -> float:
    if len(costs) == 0:
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - costs.min())
    costs = costs[costs[:, -1].argsort()]
    depths = np.diff(np.append(costs[:, -1], corner[-1]))
    return sum(
        float(depth) * _volume(costs[:last, :-1], corner[:-1]) for last, depth in enumerate(depths, 1) if depth > 0
    )


def _costs(points: Sequence[Sequence[float]], goals: Sequence[Goal]) -> Floats:
    signs = np.array([1.0 if goal == "minimize" else -1.0 for goal in goals])
    costs: Floats = np.asarray(points, dtype=np.float64).reshape(-1, len(goals)) * signs
    return costs
