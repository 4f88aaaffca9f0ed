"""What makes a training step quick beside what it computes."""

import ctypes
import ctypes.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

# glibc's mallopt parameters (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_HELD = 1 << 30  # bytes


def hold_memory() -> bool:
    """Let this process keep freed memory of up to 1 GiB for its next tensors; whether the C library can (glibc alone).

    Without it every step gives its large tensors (the embedding table's gradient, activations) back to the system and
    faults their pages in again.
    """
    mallopt = _of_glibc("mallopt")
    return mallopt is not None and all(mallopt(what, _HELD) == 1 for what in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))


def let_go_of_memory() -> bool:
    """Give back what is held beyond need, so that a trial is not measured with what one before it has left."""
    trim = _of_glibc("malloc_trim")
    return trim is not None and trim(0) == 1


def _of_glibc(function: str) -> Any:
    """None where the C library is another."""
    name = ctypes.util.find_library("c") if sys.platform == "linux" else None
    return getattr(ctypes.CDLL(name), function, None) if name else None


@contextmanager
def products(kind: Literal["float32", "bfloat16"]) -> Iterator[None]:
    """Within, "bfloat16" lets float32 matrix products on the CPU round their factors so, where it is faster (AMX).

    Weights, sums and everything else stay float32. For training: what is measured or exported belongs outside.
    """
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    if kind == "bfloat16":
        matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
