"""The adapter: a small layer behind mean pooling that maps the encoder's H numbers for a sentence to d.

Shapes: B sentences, H, d. Nothing here imports raysweep, for exported models use it.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

Init = Literal["default", "identity", "pca"]
Position = Literal["pre", "post"]


class Hidden(nn.Module):
    """[B, H] -> [B, d]: V relu(U x + c), with m hidden units."""

    def __init__(self, in_dim: int, width: int, out_dim: int) -> None:
        super().__init__()
        self.inner, self.outer = blank_linear(in_dim, width), blank_linear(width, out_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.outer(torch.relu(self.inner(x)))
        return y


class Adapter(nn.Module):
    """[B, H] -> [B, d]: `linear(x)`, plus `hidden(x)` and `x` itself where asked for.

    `hidden_width` > 0 adds a plain hidden layer beside the linear one, the parameter-matched control of dendrites:
    it starts without effect, as a dendrite does.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        residual: bool = False,
        hidden_width: int = 0,
        dropout: float = 0.0,
        dropout_position: Position = "pre",
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        assert not residual or in_dim == out_dim, (in_dim, out_dim)
        self.in_dim, self.out_dim, self.residual, self.hidden_width = in_dim, out_dim, residual, hidden_width
        self.noise_std = noise_std
        self.linear = blank_linear(in_dim, out_dim)
        self.hidden = Hidden(in_dim, hidden_width, out_dim) if hidden_width else None
        self.before = nn.Dropout(dropout if dropout_position == "pre" else 0.0)
        self.after = nn.Dropout(dropout if dropout_position == "post" else 0.0)

    def forward(self, pooled: Tensor) -> Tensor:
        """[B, H] -> [B, d]; dropout and noise only while training."""
        x = self.before(pooled)
        y: Tensor = self.linear(x)
        if self.hidden is not None:
            y = y + self.hidden(x)
        if self.residual:
            y = y + pooled
        y = self.after(y)
        return y + self.noise_std * torch.randn_like(y) if self.training and self.noise_std else y

    def structure(self) -> dict[str, Any]:
        """What `from_structure` needs to build an adapter that takes this one's weights; JSON."""
        return {
            "in_dim": self.in_dim,
            "out_dim": self.out_dim,
            "residual": self.residual,
            "hidden_width": self.hidden_width,
        }


def from_structure(structure: dict[str, Any]) -> Adapter:
    """An adapter without weights, dropout or noise, ready for `load_state_dict`."""
    return Adapter(**structure)


def initialise(adapter: Adapter, kind: Init, seed: int, sample: Tensor | None = None) -> None:
    """Set all weights from `seed`. `default` is `nn.Linear`'s own; the others leave the bias zero.

    `identity` keeps the first d of H coordinates; `pca` projects on the d widest directions of `sample` [N, H],
    N >= d, as in https://sbert.net (dimensionality reduction).
    """
    generator = torch.Generator().manual_seed(seed)
    linear_default(adapter.linear, generator)
    if adapter.hidden is not None:
        linear_default(adapter.hidden.inner, generator)
        nn.init.zeros_(adapter.hidden.outer.weight)
    if kind == "default":
        return
    nn.init.zeros_(adapter.linear.bias)
    if kind == "identity":
        nn.init.eye_(adapter.linear.weight)
        return
    assert sample is not None
    with torch.no_grad():
        adapter.linear.weight.copy_(principal_directions(sample, adapter.out_dim))


def principal_directions(sample: Tensor, count: int) -> Tensor:
    """[N, H] -> [count, H]: orthonormal directions of largest variance, widest first, largest entry positive."""
    centred = sample.double() - sample.double().mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    rows = vectors.T.flip(0)[:count]
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    directions: Tensor = (rows * largest.sign()).to(sample.dtype)
    return directions


def output_width(hidden: int, compression: float | None, out_dim: int | None) -> int:
    """d: `out_dim`, or `int(hidden * compression)` (0.10 of 384 is 38), or `hidden`; at least 1."""
    return out_dim if out_dim is not None else max(1, int(hidden * (1.0 if compression is None else compression)))


def matched_width(in_dim: int, out_dim: int, dendrites: int) -> int:
    """Width of the plain hidden layer with as many parameters as so many dendrites add, to within half a unit."""
    layer = in_dim * out_dim + out_dim
    grown = dendrites * (layer + out_dim) + out_dim * dendrites * (dendrites - 1) // 2
    return round(grown / (in_dim + 1 + out_dim))


def blank_linear(in_dim: int, out_dim: int, bias: bool = True) -> nn.Linear:
    """A linear layer whose weights are not drawn yet; `nn.Linear` would draw them from torch's global generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, in_dim, out_dim, bias=bias)  # type: ignore[no-untyped-call]
    return layer


def linear_default(linear: nn.Linear, generator: torch.Generator) -> None:
    """What `nn.Linear.reset_parameters` does, from a generator of our own."""
    nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(linear.in_features)
    nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
