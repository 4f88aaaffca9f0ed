"""Python's search for garbage, in processes that import much.

torch, transformers, Ray and Plotly make millions of objects that stay. They are searched again and again while more are
imported, and once more when the process ends.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

ALLOCATIONS, YOUNG, MIDDLE = 50_000, 10, 10  # Python's own: 700, 10, 10


def collect_rarely() -> None:
    """Search seldom while this process runs, and not at all when it ends: what it holds goes with it."""
    gc.set_threshold(ALLOCATIONS, YOUNG, MIDDLE)
    atexit.register(gc.freeze)


@contextmanager
def without_searches() -> Iterator[None]:
    """Nothing is searched while this block imports."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
