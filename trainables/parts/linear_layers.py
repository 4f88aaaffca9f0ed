"""Which linear layers of an encoder are meant, whatever its architecture calls them, and of what kind they are."""

import sys
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from raysweep.problems import UserError
from trainables.parts.encoders import layers

Targets = Literal["attention", "feed_forward", "all"]
ATTENTION = {"attention", "attn", "self_attn", "crossattention"}  # what layers of transformers call it


def linear_names(model: Any, targets: Targets) -> list[str]:
    """The names in `model`, in its order, of the linear layers inside its layers, quantised and ternary ones included.

    What lies before or behind the stack of layers has none of them: embeddings, pooler, classification head. Raises
    UserError where there are none.
    """
    found = list(_linears(model, targets))
    if not found:
        meant = "" if targets == "all" else f" of the kind '{targets}'"
        raise UserError(f"no linear layers{meant}: {type(model).__name__} has none in its layers")
    return found


def _linears(model: Any, targets: Targets) -> Iterator[str]:
    stack = layers(model)
    prefix = next(name for name, part in model.named_modules() if part is stack)
    for name, part in stack.named_modules():
        inside = name.split(".")[1:2]  # behind the layer's number
        wanted = targets == "all" or (targets == "attention") == bool(ATTENTION & set(inside))
        if wanted and _is_linear(part):
            yield f"{prefix}.{name}"


def _is_linear(part: nn.Module) -> bool:
    if isinstance(part, nn.Linear) or is_conv1d(part):
        return True
    # Where transformers' ternary layers were never imported there are none; importing them takes seconds.
    bitnet = sys.modules.get("transformers.integrations.bitnet")
    return bitnet is not None and isinstance(part, bitnet.BitLinear)


def is_conv1d(part: nn.Module) -> bool:
    """Whether it is what GPT-2 has for linear layers, whose matrix lies the other way round."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(part, Conv1D)


def as_linear(part: Any) -> nn.Linear:
    """A Conv1D of transformers as a linear layer with a copy of its matrix; what is a linear layer is given back."""
    if isinstance(part, nn.Linear):
        return part
    inputs, outputs = part.weight.shape
    linear = nn.Linear(inputs, outputs, device="meta")
    linear.weight = nn.Parameter(part.weight.detach().T.contiguous(), part.weight.requires_grad)
    linear.bias = part.bias
    return linear.train(part.training)


def as_conv1d(linear: nn.Linear) -> Any:
    """The other way round; a Conv1D always has a bias."""
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):  # nothing is drawn
        part = Conv1D(linear.out_features, linear.in_features)
    part.weight = nn.Parameter(linear.weight.detach().T.contiguous(), linear.weight.requires_grad)
    part.bias = linear.bias
    return part.train(linear.training)
