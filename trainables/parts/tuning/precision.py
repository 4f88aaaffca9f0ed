"""Training in 16 bits: weights stay float32, products are rounded, and fp16's small gradients are scaled up.

Micikevicius et al. 2018, "Mixed Precision Training", https://arxiv.org/abs/1710.03740.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

Precision = Literal["fp32", "bf16", "fp16"]
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Scaled:
    """Forward, backward and step in a precision; in fp32 they are torch's own and nothing else.

    bfloat16 has float32's exponent and needs no scaling. In fp16 the loss is multiplied by a scale, which is halved
    when a gradient overflows; such a step is not taken, and `skipped` counts it.
    """

    def __init__(self, precision: Precision, device: str) -> None:
        self.precision, self.skipped = precision, 0
        self._kind = torch.device(device).type
        self._scaler = torch.amp.GradScaler(self._kind) if precision == "fp16" else None

    def autocast(self) -> AbstractContextManager[Any]:
        """For the forward pass and the loss of a training step; what is scored or exported belongs outside."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self._kind, HALVES[self.precision])

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of this loss, scaled, to those that are there."""
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, before: Callable[[], None]) -> None:
        """One step of the gradients; `before` finds them unscaled, to clip them, and infinite in a skipped step."""
        if self._scaler is None:
            before()
            optimizer.step()
            return
        self._scaler.unscale_(optimizer)
        before()
        scale = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        self.skipped += self._scaler.get_scale() < scale

    def state(self) -> dict[str, Any]:
        """For a checkpoint: numbers alone."""
        return {"skipped": self.skipped, "scaler": {} if self._scaler is None else self._scaler.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.skipped = state["skipped"]
        if self._scaler is not None:
            self._scaler.load_state_dict(dict(state["scaler"]))
