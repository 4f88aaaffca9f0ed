"""The trained weights of a model by name, apart from the model."""

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def weights_of(model: nn.Module) -> Weights:
    """Copies of all parameters that are trained; frozen ones are as they were loaded."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


@torch.no_grad()
def overlay(model: nn.Module, weights: Weights) -> None:
    """Put `weights_of` back, in place."""
    parameters = dict(model.named_parameters())
    for name, values in weights.items():
        parameters[name].copy_(values)
