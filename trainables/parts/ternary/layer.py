"""BitNet b1.58's linear layer as it is trained: float weights that each product sees as -1, 0 or 1 times one scale.

Ma et al. 2024, "The Era of 1-bit LLMs: All Large Language Models are in 1.58 Bits" (arXiv 2402.17764), and Wang et al.
2023, "BitNet" (arXiv 2310.11453). Shapes: T tokens, I inputs, O outputs. Nothing here imports raysweep.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 127  # of 8 bits, with as many numbers below zero
NORM_EPS = 1e-6  # as transformers' BitNet has it


def ternary(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Values in -1, 0, 1, int8 and shaped as `weights`, and their scale, the mean of |w|, float32 [].

    Zeros alone give zeros and a scale of 0. Halves of the scale are rounded to even, that is to 0.
    """
    weights = weights.detach().float()
    scale = weights.abs().mean()
    return (weights / _divisor(scale)).round_().clamp_(-1, 1).to(torch.int8), scale


def eight_bits(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers from -127 to 127, int8 [..., I], and a step [..., 1], float32: x is about one times the other.

    Each token has its own step, that of its largest number, so its answer does not depend on the tokens beside it.
    """
    x = x.detach().float()
    step = x.abs().amax(-1, keepdim=True) / LARGEST
    return (x / _divisor(step)).round_().to(torch.int8), step


def _divisor(scale: Tensor) -> Tensor:
    """What zeros, too, can be divided by."""
    return scale.clamp_min(torch.finfo(scale.dtype).tiny)


def kinds(x: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """The kind of numbers that a product with x gives, as any linear layer's, and the kind it is computed in.

    Sums of whole numbers can be larger than float16 knows; bfloat16 holds 127, and all others of 8 bits, exactly.
    """
    device = x.device.type
    given = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return given, torch.float32 if given == torch.float16 else given


class _Product(torch.autograd.Function):
    """[..., I] and float weights [O, I] to [..., O]. Gradients are those of the plain product of what was rounded.

    The whole numbers are multiplied, and scaled afterwards: in float32 their sums are exact up to 132,000 inputs, in
    whatever order and blocks, so that packed weights give the same bits.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        whole, step = eight_bits(x)
        values, scale = ternary(weight)
        ctx.save_for_backward(whole, step, values, scale)
        given, computed = kinds(x)
        ctx.kinds = computed, x.dtype, weight.dtype
        with torch.autocast(x.device.type, enabled=False):
            product = F.linear(whole.to(computed), values.to(computed))
        return product.mul_(step * scale).to(given)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        whole, step, values, scale = ctx.saved_tensors
        computed, of_x, of_weight = ctx.kinds
        gradient = gradient.to(computed)
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient @ values.to(computed) * scale).to(of_x)
        if ctx.needs_input_grad[1]:
            rounded = (whole * step).to(computed)
            to_weight = (gradient.flatten(0, -2).T @ rounded.flatten(0, -2)).to(of_weight)
        return to_x, to_weight


class TernaryLinear(nn.Linear):
    """[..., I] -> [..., O] by ternary weights and inputs in 8 bits; what is trained, and saved, are float weights.

    Rounding passes gradients on as they are (the straight-through estimator). With `norm` inputs go through an RMSNorm
    first, as the paper's do; where a layer of normalisation stands before already, there is no need for it. It takes
    the weights of `linear` themselves, no copies.
    """

    def __init__(self, linear: nn.Linear, norm: bool = False) -> None:
        with torch.device("meta"):  # nothing is drawn
            super().__init__(linear.in_features, linear.out_features, bias=False)
        self.weight, self.bias = linear.weight, linear.bias
        self.norm = blank_norm(linear.in_features, linear.weight.device, linear.weight.dtype) if norm else None
        self.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None:
            x = self.norm(x)
        y: Tensor = _Product.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(y.dtype)


def blank_norm(width: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> nn.RMSNorm:
    """As the paper starts it: every gain is 1."""
    return nn.RMSNorm(width, NORM_EPS, device=device, dtype=dtype)
