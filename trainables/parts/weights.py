"""The trained weights of a model by name, apart from the model."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def weights_of(model: nn.Module, frozen: Collection[str] = ()) -> Weights:
    """Copies of all parameters that are trained, and of these frozen ones; others are as they were loaded."""
    named = dict(model.named_parameters())
    return {name: weight.detach().clone() for name, weight in named.items() if weight.requires_grad or name in frozen}


@torch.no_grad()
def overlay(model: nn.Module, weights: Weights) -> None:
    """Put `weights_of` back, in place."""
    parameters = dict(model.named_parameters())
    for name, values in weights.items():
        parameters[name].copy_(values)
