"""Penalties that draw weights towards zero: means, so that they mean the same for models of every size."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from trainables.parts.pruning.units import Group, Part


def l1(weights: Iterable[Tensor]) -> Tensor:
    """The mean |w| of all these weights."""
    weights = list(weights)
    return torch.stack([matrix.abs().sum() for matrix in weights]).sum() / sum(matrix.numel() for matrix in weights)


def group(groups: Iterable[Group], parameters: Mapping[str, Tensor]) -> Tensor:
    """The mean over units of the norm of a unit's weights over the square root of their number; no biases.

    Yuan and Lin 2006, https://doi.org/10.1111/j.1467-9868.2005.00532.x. A unit that is all zeros has gradient 0.
    """
    return torch.cat([_norms(each, parameters) for each in groups]).mean()


def _norms(units: Group, parameters: Mapping[str, Tensor]) -> Tensor:
    """The penalty of each unit, [units]."""
    norms, size = [], 0
    for part in units.parts:
        weights = parameters[part.parameter]
        if weights.ndim > 1:
            norms.append(_norms_at(part, weights))
            size += part.places.shape[1] * weights.numel() // weights.shape[part.axis]
    norm: Tensor = torch.linalg.vector_norm(torch.cat(norms, dim=1), dim=1)
    return norm / math.sqrt(size)


def _norms_at(part: Part, weights: Tensor) -> Tensor:
    """The norm of the weights at each place of each unit, [units, k]."""
    others = [axis for axis in range(weights.ndim) if axis != part.axis]
    norms: Tensor = torch.linalg.vector_norm(weights, dim=others)[part.places.to(weights.device)]
    return norms
