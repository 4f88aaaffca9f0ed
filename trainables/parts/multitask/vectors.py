"""A sentence vector: pooled token states, combined, projected and normalised.

Shapes: B sentences, S tokens of all of them, P ways of pooling, H the encoder's width, F the sentence vector's.
Nothing here imports raysweep: exported models use it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.parts.adapter import blank_linear, linear_default
from trainables.parts.packed import Packed, pool

Pool = Literal["cls", "mean", "max"]
VectorKind = Literal["cls", "mean", "max", "cls+mean"]
Combine = Literal["concat", "sum", "average", "gated"]
VectorActivation = Literal["none", "tanh", "gelu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"none": nn.Identity, "tanh": nn.Tanh, "gelu": nn.GELU}
POOLS: dict[VectorKind, tuple[Pool, ...]] = {
    "cls": ("cls",), "mean": ("mean",), "max": ("max",), "cls+mean": ("cls", "mean"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VectorShape:
    """What makes a sentence vector of the states of an encoder `hidden` wide; JSON. `combine` is for two pools."""

    hidden: int
    kind: VectorKind = "mean"
    combine: Combine = "concat"
    projection: int = 0
    activation: VectorActivation = "none"
    residual: bool = False
    layer_norm: bool = False

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The ways of pooling, in the order in which `SentenceVector` takes them."""
        return POOLS[self.kind]

    @property
    def pooled(self) -> int:
        """Numbers of the combined pools, before the projection."""
        return self.hidden * (len(self.pools) if self.combine == "concat" else 1)

    @property
    def width(self) -> int:
        """F."""
        return self.projection or self.pooled


class Projection(nn.Module):
    """[B, D] -> [B, F]: activation(W x + b), plus with `residual` x itself, or R x where widths differ.

    Names and arithmetic are those of sentence-transformers' Dense.
    """

    def __init__(self, shape: VectorShape) -> None:
        super().__init__()
        wide, narrow = shape.pooled, shape.projection
        self.linear = blank_linear(wide, narrow)
        self.residual = blank_linear(wide, narrow, bias=False) if shape.residual and wide != narrow else None
        self.activation, self.adds = ACTIVATIONS[shape.activation](), shape.residual

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.linear(x))
        if not self.adds:
            return y
        return y + (x if self.residual is None else self.residual(x))


class SentenceVector(nn.Module):
    """[B, P, H] -> [B, F]: the pools combined, then the projection and the norm, where there are any.

    `gated` mixes two pools as g * first + (1 - g) * second, with g = sigmoid(W [first, second] + b) for each number.
    """

    def __init__(self, shape: VectorShape) -> None:
        super().__init__()
        self.shape = shape
        gated = shape.combine == "gated"
        self.gate = blank_linear(2 * shape.hidden, shape.hidden) if gated else None
        self.projection = Projection(shape) if shape.projection else None
        self.norm = nn.LayerNorm(shape.width) if shape.layer_norm else None

    @property
    def width(self) -> int:
        """F."""
        return self.shape.width

    def forward(self, pools: Tensor) -> Tensor:
        x = self._combined(pools)
        if self.projection is not None:
            x = self.projection(x)
        return x if self.norm is None else self.norm(x)

    def _combined(self, pools: Tensor) -> Tensor:
        if self.gate is not None:
            share = torch.sigmoid(self.gate(pools.flatten(1)))
            return share * pools[:, 0] + (1 - share) * pools[:, 1]
        if self.shape.combine == "sum":
            return pools.sum(1)
        return pools.mean(1) if self.shape.combine == "average" else pools.flatten(1)

    def structure(self) -> dict[str, Any]:
        """What `SentenceVector(VectorShape(**structure))` needs; JSON."""
        return asdict(self.shape)


def start_vector(vector: SentenceVector, generator: torch.Generator) -> None:
    """Set all weights: linear layers as torch draws them; a gate begins at one half, which is the average."""
    if vector.gate is not None:
        nn.init.zeros_(vector.gate.weight)
        nn.init.zeros_(vector.gate.bias)
    if vector.projection is not None:
        linear_default(vector.projection.linear, generator)
        if vector.projection.residual is not None:
            nn.init.kaiming_uniform_(vector.projection.residual.weight, a=math.sqrt(5), generator=generator)
    if vector.norm is not None:
        vector.norm.reset_parameters()


def pools_of(states: Tensor, batch: Packed, names: Sequence[Pool]) -> Tensor:
    """[B, P, H]: the token states [S, H] of a batch, pooled in each of these ways."""
    return torch.stack([pool(states, batch, name) for name in names], dim=1)
