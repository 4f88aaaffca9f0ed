"""Python's search for garbage, in processes that import much.

torch, transformers, Ray and Plotly make millions of objects that stay. Importing and leaving them took 5.1 s, of which
searches were 0.6 s on the way and 1.2 s at the end.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

ALLOCATIONS, YOUNG, MIDDLE = 50_000, 20, 100  # Python's own: 700, 10, 10


def collect_rarely() -> None:
    """Search seldom while this process runs, and not at all when it ends: what it holds goes with it."""
    gc.set_threshold(ALLOCATIONS, YOUNG, MIDDLE)
    atexit.register(gc.freeze)


@contextmanager
def keeping_all() -> Iterator[None]:
    """While this block imports, nothing is searched; nor is what there is by then, ever after."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
