"""AdamW whose moments are known by parameter name, so that they outlive a growth; learning rates."""

import math
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.parts.state import arrays, tensors

Kind = Literal["constant", "linear", "cosine", "plateau"]


class RowAdamW(torch.optim.AdamW):
    """AdamW that changes, of a parameter with a sparse gradient, only the rows in that gradient.

    Rows that a batch does not touch keep weights and moments, as in torch's SparseAdam; those it does touch decay too.
    The state has AdamW's names.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        rows: list[tuple[dict[str, Any], Tensor, Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    rows.append((group, parameter, parameter.grad.coalesce()))
                    parameter.grad = None
        loss = super().step(closure)
        for group, parameter, gradient in rows:
            self._step_rows(group, parameter, gradient)
        return loss

    def _step_rows(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        steps, touched, values = float(state["step"]), gradient.indices()[0], gradient.values()
        mean = state["exp_avg"][touched].lerp_(values, 1 - first)
        square = state["exp_avg_sq"][touched].mul_(second).addcmul_(values, values, value=1 - second)
        state["exp_avg"][touched], state["exp_avg_sq"][touched] = mean, square
        scale = square.sqrt().div_(math.sqrt(1 - second**steps)).add_(group["eps"])
        moved = parameter[touched].mul_(1 - group["lr"] * group["weight_decay"])
        parameter[touched] = moved.addcdiv_(mean, scale, value=-group["lr"] / (1 - first**steps))


def adamw(
    model: nn.Module, lr: float, weight_decay: float = 0.0, multiple: Callable[[str], float] = lambda _: 1.0
) -> RowAdamW:
    """AdamW over the trainable parameters of `model`: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101.

    Only weight matrices decay: no biases, no norms, none of the per-unit weights of a dendrite. A parameter learns at
    `lr` times the multiple of its name.
    """
    # fused goes over the weights once where the default goes over them for each term
    return RowAdamW(groups(model, lr, weight_decay, multiple), lr=lr, fused=True)


def groups(model: nn.Module, lr: float, weight_decay: float, multiple: Callable[[str], float]) -> list[dict[str, Any]]:
    """The trainable parameters of `model` by weight decay and learning rate, as `adamw` says; one group at least."""
    found: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim >= 2 and name.endswith("weight") else 0.0
            found.setdefault((decay, multiple(name)), []).append((name, parameter))
    return [
        {"params": named, "weight_decay": decay, "lr_multiplier": times, "lr": lr * times}
        for (decay, times), named in found.items()
    ] or [{"params": [], "param_names": [], "lr_multiplier": 1.0}]  # where all is frozen; torch wants a group


def clip_gradient(model: nn.Module, largest: float) -> None:
    """Scale all gradients, sparse ones too, so that their norm together is at most `largest`."""
    found = []
    for parameter in model.parameters():
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()  # a row that stands twice has one gradient, its sum
                found.append(parameter.grad.values())
            else:
                found.append(parameter.grad)
    if not found:
        return
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(values) for values in found]))
    for values in found:
        values.mul_((largest / (norm + 1e-6)).clamp(max=1.0))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step; each group keeps its multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]


def lr_factor(step: int, total: int, kind: Kind, warmup_ratio: float = 0.0) -> float:
    """What multiplies the learning rate of step `step` (from 0) of `total`.

    The first ceil(warmup_ratio * total) steps rise linearly and reach 1; then `linear` and `cosine` fall from 1
    towards 0, which they reach at `total`, one step after the last. No step is taken at rate 0. `plateau` does not go
    by steps: see `FallingRate`.
    """
    warmup = math.ceil(warmup_ratio * total)
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    if kind == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress)) if kind == "cosine" else 1.0


@dataclass(slots=True)
class FallingRate:
    """A factor of the learning rate that falls when a score has stopped rising, as torch's ReduceLROnPlateau does."""

    factor: float = 1.0
    best: float | None = None
    waited: int = 0

    def report(self, score: float, patience: int, times: float, least: float) -> None:
        """Take an epoch's score, to be maximised; after more than `patience` epochs without a better one, fall."""
        if self.best is None or score > self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited > patience:
            self.factor, self.waited = max(least, self.factor * times), 0

    def state(self) -> dict[str, Any]:
        """For a checkpoint: `FallingRate(**state)` goes on from it."""
        return asdict(self)


def state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The moments and step counts of every parameter that has been trained, by name."""
    named = _named(optimizer).items()
    return {name: arrays(optimizer.state[parameter]) for name, parameter in named if optimizer.state.get(parameter)}


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put back what `state` gave; parameters that it lacks start fresh."""
    parameters = _named(optimizer)
    assert not (unknown := set(state) - set(parameters)), f"the optimizer has no parameters {sorted(unknown)}"
    fused = optimizer.defaults.get("fused")
    optimizer.state.clear()
    for name, moments in state.items():
        device, found = parameters[name].device, tensors(moments)
        optimizer.state[parameters[name]] = {
            # A step count is a number in bitsandbytes; in torch it is on the CPU, unless the step is fused.
            key: value.to(device) if isinstance(value, Tensor) and (key != "step" or fused) else value
            for key, value in found.items()
        }


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
