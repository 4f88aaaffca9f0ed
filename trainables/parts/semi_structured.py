"""2:4 sparsity on sparse tensor cores: two of every four neighbours along a matrix's inputs are zero.

Only NVIDIA GPUs from compute capability 8.0 on multiply such matrices faster, and only in 16 bits. A mask alone is no
speed-up anywhere.
"""

from typing import Any

import torch
from torch import Tensor, nn

CAPABILITY = (8, 0)
DTYPES = (torch.float16, torch.bfloat16)
ROWS, COLUMNS = 32, 64  # a matrix's outputs and inputs are multiples of these; some of torch's kernels take less


def is_two_four(weight: Tensor, inputs: int = 1) -> bool:
    """Whether at most two of each four neighbours along the axis of inputs differ from zero."""
    rows = weight.detach().movedim(inputs, -1)
    if rows.shape[-1] % 4:
        return False
    return bool((rows.reshape(-1, 4).count_nonzero(1) <= 2).all())


def fits(weight: Tensor) -> bool:
    """Whether sparse tensor cores take a matrix [outputs, inputs] of this shape and kind of numbers."""
    return weight.dtype in DTYPES and weight.shape[0] % ROWS == 0 and weight.shape[1] % COLUMNS == 0


def sparse_cores(device: str) -> str | None:
    """None where sparse tensor cores are; otherwise why there are none."""
    if torch.device(device).type != "cuda" or not torch.cuda.is_available():
        return f"no sparse tensor cores on {device}"
    found = torch.cuda.get_device_capability(device)
    if found < CAPABILITY:
        return f"no sparse tensor cores below compute capability 8.0; {device} has {found[0]}.{found[1]}"
    return None


def with_sparse_kernels(model: nn.Module, device: str) -> str:
    """Convert, in place, the linear layers that sparse tensor cores take; words that say which kernels will run.

    The model must be on `device` already. Once converted it can be used, but neither trained nor saved.
    """
    if (reason := sparse_cores(device)) is not None:
        return f"dense kernels: {reason}; the 2:4 pattern alone is no speed-up"
    linears = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    patterned = {name: part for name, part in linears.items() if is_two_four(part.weight)}
    taken = {name: part for name, part in patterned.items() if fits(part.weight)}
    if not taken:
        return f"dense kernels: of {len(patterned)} matrices with the 2:4 pattern none fits in shape and 16 bits"
    for part in taken.values():
        _convert(part)
    skipped = sorted(linears.keys() - taken.keys())
    rest = f"; dense are {', '.join(skipped)}" if skipped else ""
    return f"2:4 kernels of sparse tensor cores for {len(taken)} of {len(linears)} matrices{rest}"


def _convert(linear: Any) -> None:
    sparse = torch.sparse.to_sparse_semi_structured(linear.weight.detach())
    linear.weight = nn.Parameter(sparse, requires_grad=False)
