"""AdamW whose moments are known by parameter name, so that they outlive a growth; learning rates."""

import math
from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import nn

from trainables.parts.state import arrays, tensors

Kind = Literal["constant", "linear", "cosine"]


def adamw(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    dendrites: Collection[str] = (),
    lr_multiplier: float = 1.0,
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of `model`: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101.

    Only weight matrices decay: no biases, no norms, none of the per-unit weights of a dendrite. The parameters named
    in `dendrites` learn at `lr * lr_multiplier`.
    """
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim >= 2 and name.endswith("weight") else 0.0
            key = (decay, lr_multiplier if name in dendrites else 1.0)
            groups.setdefault(key, []).append((name, parameter))
    return torch.optim.AdamW(
        [
            {"params": named, "weight_decay": decay, "lr_multiplier": multiplier, "lr": lr * multiplier}
            for (decay, multiplier), named in groups.items()
        ],
        lr=lr,
        fused=True,  # one pass over the weights: on a CPU a fifth of the default's time
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step; dendrites keep their multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]


def lr_factor(step: int, total: int, kind: Kind, warmup_ratio: float = 0.0) -> float:
    """What multiplies the learning rate of step `step` (from 0) of `total`.

    The first ceil(warmup_ratio * total) steps rise linearly and reach 1; then `linear` and `cosine` fall from 1
    towards 0, which they reach at `total`, one step after the last. No step is taken at rate 0.
    """
    warmup = math.ceil(warmup_ratio * total)
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    if kind == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress)) if kind == "cosine" else 1.0


def state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The moments and step counts of every parameter that has been trained, by name."""
    named = _named(optimizer).items()
    return {name: arrays(optimizer.state[parameter]) for name, parameter in named if optimizer.state.get(parameter)}


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put back what `state` gave; parameters that it lacks start fresh."""
    parameters = _named(optimizer)
    assert not (unknown := set(state) - set(parameters)), f"the optimizer has no parameters {sorted(unknown)}"
    optimizer.state.clear()
    for name, moments in state.items():
        device = parameters[name].device
        # The fused step keeps its step count on the parameter's device too.
        optimizer.state[parameters[name]] = {key: value.to(device) for key, value in tensors(moments).items()}


def carry_over(old: torch.optim.Optimizer, new: torch.optim.Optimizer, newest: Collection[str] = ()) -> None:
    """Hand the moments of `old` to `new` after a growth, by name.

    Parameters in `newest` start fresh even if `old` knows the name: a second try reuses the names of the first.
    """
    survivors = set(_named(new)) - set(newest)
    restore(new, {name: moments for name, moments in state(old).items() if name in survivors})


def _named(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    }
