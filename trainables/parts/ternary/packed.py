"""Ternary layers once they are trained: four weights in a byte, on disk and in memory. Smaller there, not faster.

Nothing here imports raysweep, for exported models use it. Shapes: I inputs, O outputs, N numbers of a matrix.
"""

import copy
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.parts.ternary.layer import TernaryLinear, blank_norm, eight_bits, kinds, ternary

EACH = 4  # values in a byte: of two bits, the first in the lowest; 0, 1, 2 stand for -1, 0, 1
BLOCK = 2**17  # values that are unpacked at a time, about: half a MB in float32
Structure = dict[str, dict[str, Any]]


def pack_values(values: Tensor) -> Tensor:
    """-1, 0 and 1 of any shape, N of them, in its order: uint8 [N / 4, rounded up]; the rest of the last byte is 0."""
    flat = values.flatten()
    codes = (F.pad(flat, (0, -len(flat) % EACH)) + 1).to(torch.uint8).view(-1, EACH)
    return codes[:, 0] | codes[:, 1] << 2 | codes[:, 2] << 4 | codes[:, 3] << 6


def unpack_values(packed: Tensor, count: int) -> Tensor:
    """The first `count` values, int8 [count]."""
    return _fours(packed.device).index_select(0, packed.int()).view(torch.int8)[:count]


@lru_cache(maxsize=8)
def _fours(device: torch.device) -> Tensor:
    """The four values of each byte, one beside the other in an int32, [256]: to look them up is fastest."""
    codes = torch.arange(256)[:, None] >> torch.tensor([0, 2, 4, 6]) & 3
    return (codes - 1).to(torch.int8).view(torch.int32).flatten().to(device)


class PackedTernaryLinear(nn.Module):
    """What a `TernaryLinear` answers, to the bit in float32, from a quarter of a byte a weight; it cannot be trained.

    A block of rows is unpacked, multiplied and forgotten, so that no matrix is ever whole in memory. No gradient passes
    through. There is no `weight`: code that reads one fails, instead of reading something else.
    """

    packed: Tensor
    scale: Tensor

    def __init__(self, inputs: int, outputs: int, bias: bool = True, norm: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        size = -(-inputs * outputs // EACH)
        self.register_buffer("packed", torch.full((size,), 0b01010101, dtype=torch.uint8))  # zeros, until loaded
        self.register_buffer("scale", torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False) if bias else None
        self.norm = blank_norm(inputs).requires_grad_(False) if norm else None

    @classmethod
    @torch.no_grad()
    def of(cls, layer: TernaryLinear) -> "PackedTernaryLinear":
        """On the same device, where the same values come out of its weights."""
        blank = cls(layer.in_features, layer.out_features, layer.bias is not None, layer.norm is not None)
        values, scale = ternary(layer.weight)
        same = {name: tensor for name, tensor in layer.state_dict().items() if name != "weight"}
        blank.to(layer.weight.device).load_state_dict({**same, "packed": pack_values(values), "scale": scale})
        return blank.train(layer.training)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None:
            x = self.norm(x)
        whole, step = eight_bits(x)
        given, computed = kinds(x)
        with torch.autocast(x.device.type, enabled=False):
            y = self._product(whole.to(computed)).mul_(step * self.scale).to(given)
        return y if self.bias is None else y.add_(self.bias.to(given))

    def _product(self, whole: Tensor) -> Tensor:
        """Whole numbers [..., I] times the values, [..., O]."""
        product = whole.new_empty((*whole.shape[:-1], self.out_features))
        rows = max(EACH, BLOCK // self.in_features // EACH * EACH)  # every block begins with a byte
        for start in range(0, self.out_features, rows):
            block = self.rows(start, min(start + rows, self.out_features))
            product[..., start : start + len(block)] = F.linear(whole, block.to(whole.dtype))
        return product

    def rows(self, start: int, stop: int) -> Tensor:
        """Values of these outputs, int8 [stop - start, I]; `start` is a multiple of 4."""
        assert start % EACH == 0, start
        count = (stop - start) * self.in_features
        first = start // EACH * self.in_features
        return unpack_values(self.packed[first : first - (-count // EACH)], count).view(-1, self.in_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def packed_copy(model: nn.Module) -> nn.Module:
    """A copy in which every ternary layer is packed; no float weights of theirs are copied on the way."""
    layers = [part for part in model.modules() if isinstance(part, TernaryLinear)]
    # What deepcopy is told of, it takes as copied already.
    return copy.deepcopy(model, {id(part): PackedTernaryLinear.of(part) for part in layers})


def structure(model: nn.Module) -> Structure:
    """What `rebuild` needs beside the weights, by the names of packed layers; fit for JSON."""
    return {
        name: {"norm": part.norm is not None}
        for name, part in model.named_modules()
        if isinstance(part, PackedTernaryLinear)
    }


def rebuild(model: nn.Module, structure: Structure) -> nn.Module:
    """Put blank packed layers in place of the named linear ones, in place; then load the state_dict."""
    for name, told in structure.items():
        part = model.get_submodule(name)
        outputs, inputs = shape_of(part)
        blank = PackedTernaryLinear(inputs, outputs, part.bias is not None, told["norm"])
        model.set_submodule(name, blank.train(part.training))
    return model


def shape_of(linear: Any) -> tuple[int, int]:
    """(O, I) of a linear layer; the Conv1D of transformers keeps its matrix the other way round."""
    first, second = linear.weight.shape
    return (first, second) if isinstance(linear, nn.Linear) else (second, first)
