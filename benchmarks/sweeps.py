"""A sweep of the recipe `idle`, ready for an engine, as the file of such a sweep would make it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.nothing import STEPS
from raysweep.journal import FILE, Journal, Record
from raysweep.sweep import Sweep
from raysweep.sweep_file import sweep_from_record


def idle_sweep(
    folder: Path,
    trials: int,
    work: dict[str, Any],
    workers: int,
    listen: Callable[[Record], None] = lambda record: None,
) -> Sweep:
    """A sweep over `quality`; on a folder that already holds a journal it stands where that one stood."""
    spec, space = sweep_from_record(
        {
            "name": "idle",
            "recipe": "idle",
            "space": {**work, "quality": {"uniform": [0, 1]}},
            "objectives": [{"metric": "score"}],
            "scheduler": {"max": STEPS, "eta": 3},
            "budget": {"trials": trials},
            "resources": {"max_parallel": workers},
            "confirm": {"top": 0},
        }
    )
    return Sweep(spec, space, Journal(folder / FILE), listen)
