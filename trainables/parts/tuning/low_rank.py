"""A layer with a product of two thin matrices beside it: what LoRA learns where it cannot be merged into the layer.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685). Nothing here imports raysweep,
for exported models use it. Shapes: I inputs, O outputs, R the rank.
"""

from typing import Any

from torch import Tensor, nn

from trainables.parts.adapter import blank_linear
from trainables.parts.ternary.packed import shape_of

Structure = dict[str, dict[str, Any]]


class LowRank(nn.Module):
    """[..., I] -> [..., O]: base(x) + up(down(x)) * scale. Its matrices are blank until they are loaded.

    There is no `weight`: code that reads one would go past the matrices, and fails instead.
    """

    def __init__(self, base: nn.Module, inputs: int, outputs: int, rank: int, scale: float) -> None:
        super().__init__()
        self.base, self.rank, self.scale = base, rank, scale
        self.down = blank_linear(inputs, rank, bias=False)
        self.up = blank_linear(rank, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + self.up(self.down(x)) * self.scale
        return y

    def extra_repr(self) -> str:
        return f"rank={self.rank}, scale={self.scale}"


def structure(model: nn.Module) -> Structure:
    """What `rebuild` needs beside the weights, by the names of such layers; fit for JSON."""
    return {
        name: {"rank": part.rank, "scale": part.scale}
        for name, part in model.named_modules()
        if isinstance(part, LowRank)
    }


def rebuild(model: nn.Module, structure: Structure) -> nn.Module:
    """Put blank matrices beside the named linear layers, in place; what is done to those comes after, then weights."""
    for name, told in structure.items():
        base = model.get_submodule(name)
        outputs, inputs = shape_of(base)
        model.set_submodule(name, LowRank(base, inputs, outputs, told["rank"], told["scale"]).train(base.training))
    return model
