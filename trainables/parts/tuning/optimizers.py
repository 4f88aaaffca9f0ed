"""The optimizers that an encoder can be tuned with: what they keep of each weight decides much of the memory."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from trainables.parts.optim import adamw, groups
from trainables.parts.silence import silenced

OptimizerName = Literal["adamw", "adamw8bit", "adafactor"]


def new_optimizer(
    name: OptimizerName, model: nn.Module, lr: float, weight_decay: float, multiple: Callable[[str], float]
) -> torch.optim.Optimizer:
    """An optimizer over the trainable parameters of `model`, in the groups of `optim.groups`.

    adamw: two moments in float32. adamw8bit: the same in 8 bits for weights of 4096 numbers or more, by blocks of 256:
    Dettmers et al. 2022, https://arxiv.org/abs/2110.02861. adafactor: no first moment, and of a matrix' second one the
    sums of its rows and columns: Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235; at most `lr` is its step, as
    a share of a weight's size.
    """
    if name == "adamw":
        return adamw(model, lr, weight_decay, multiple)
    found = groups(model, lr, weight_decay, multiple)
    if name == "adafactor":
        return torch.optim.Adafactor(found, lr=lr)
    with silenced():  # it warns of a library that it can do without
        from bitsandbytes.optim import AdamW8bit
    optimizer: torch.optim.Optimizer = AdamW8bit(found, lr=lr)
    return optimizer
