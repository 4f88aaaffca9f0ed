"""The weights of a text model by name, apart from the model."""

import torch
from torch import Tensor

from trainables.parts.encoders import embeddings_of
from trainables.parts.text_model import TextModel

Weights = dict[str, Tensor]


def weights_of(model: TextModel) -> Weights:
    """Copies of all parameters that training or pruning can change: all but frozen embeddings, mostly the largest."""
    frozen = {id(weight) for weight in embeddings_of(model.encoder).parameters() if not weight.requires_grad}
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if id(weight) not in frozen}


@torch.no_grad()
def overlay(model: TextModel, weights: Weights) -> None:
    """Put `weights_of` back, in place."""
    parameters = dict(model.named_parameters())
    for name, values in weights.items():
        parameters[name].copy_(values)
