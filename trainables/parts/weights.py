"""The weights of a model by name, apart from the model."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainables.parts.encoders import embeddings_of
from trainables.parts.text_model import TextModel

Weights = dict[str, Tensor]


def weights_of(model: TextModel) -> Weights:
    """Copies of all parameters that training or pruning can change: all but frozen embeddings, mostly the largest."""
    frozen = {id(weight) for weight in embeddings_of(model.encoder).parameters() if not weight.requires_grad}
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if id(weight) not in frozen}


def learning(model: nn.Module) -> Weights:
    """Copies of all parameters that learn at present: what is frozen is as it was at the start."""
    named = model.named_parameters()
    return {name: weight.detach().clone() for name, weight in named if weight.requires_grad}


@torch.no_grad()
def overlay(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put `weights_of` or `learning` back, in place."""
    parameters = dict(model.named_parameters())
    for name, values in weights.items():
        parameters[name].copy_(values)
