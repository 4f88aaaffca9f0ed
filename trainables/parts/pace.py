"""What makes a training step quick beside what it computes."""

import ctypes
import ctypes.util
import sys

# glibc's mallopt parameters (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_HELD = 1 << 30  # bytes


def hold_memory() -> bool:
    """Let this process keep freed memory of up to 1 GiB for its next tensors; whether the C library can (glibc alone).

    Without it every step gives its large tensors (the embedding table's gradient, activations) back to the system and
    faults their pages in again: an eighth of a step's time on a CPU.
    """
    name = ctypes.util.find_library("c") if sys.platform == "linux" else None
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    return mallopt is not None and all(mallopt(what, _HELD) == 1 for what in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
