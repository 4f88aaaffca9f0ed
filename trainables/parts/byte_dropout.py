"""Dropout that draws a byte for each value: where little else is computed, drawing is what dropout costs."""

import torch
from torch import Tensor, nn

_HALF = 2**63


class ByteDropout(nn.Module):
    """nn.Dropout with `p` rounded to a multiple of 1/256; eight values share one draw of 64 bits.

    nn.Dropout draws a number for each value, which on a CPU is much of a step without layers.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        assert 0 <= p < 1, p
        self.dropped = min(255, round(256 * p))  # of 256

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape, float; values are dropped or scaled by 256 / (256 - dropped) while training."""
        if not self.training or not self.dropped:
            return x
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-_HALF, None)
        kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * (kept.to(x.dtype) * (256 / (256 - self.dropped)))


def drop_by_bytes(module: nn.Module) -> None:
    """Put a `ByteDropout` in the place of every nn.Dropout in `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Dropout):
            setattr(module, name, ByteDropout(child.p))
        else:
            drop_by_bytes(child)
