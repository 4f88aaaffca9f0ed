"""What one trial predicted on the report split, and what scores it: written where it was trained, read for the proof.

The predictions stand in a file, what scores them in the journal: a text, or of several stretches a list of lists
[statistic, size, chance].
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.trial import Evaluation, Scored, Scoring, Statistic, Stretch

Journalled = Statistic | list[list[Any]]


def save_predictions(evaluation: Evaluation, path: Path) -> None:
    """Write the arrays `predictions` and `targets`, and those of each further score under `other/NAME/`."""
    arrays = _arrays("", evaluation)
    for name, scored in evaluation.others.items():
        arrays |= _arrays(_prefix(name), scored)
    fresh = path.with_name(f".{path.name}")
    np.savez(fresh, **arrays)  # type: ignore[arg-type]
    os.replace(fresh, path)


def load_predictions(path: Path, statistic: Journalled, others: Mapping[str, Journalled]) -> Evaluation:
    """What `save_predictions` wrote, without metrics; the statistics are as the journal has them."""
    with np.load(path) as arrays:
        further = {
            name: Scored(arrays[f"{_prefix(name)}predictions"], arrays[f"{_prefix(name)}targets"], scoring(kind))
            for name, kind in others.items()
        }
        return Evaluation({}, arrays["predictions"], arrays["targets"], scoring(statistic), further)


def journalled(statistic: Scoring) -> Journalled:
    """What scores predictions, as the journal has it."""
    if isinstance(statistic, str):
        return statistic
    return [[name, int(size), float(chance)] for name, size, chance in statistic]


def scoring(found: Journalled) -> Scoring:
    """What a journal has, as a recipe gave it."""
    return found if isinstance(found, str) else tuple(Stretch(*one) for one in found)


def _prefix(name: str) -> str:
    return f"other/{name}/"


def _arrays(prefix: str, scored: Evaluation | Scored) -> dict[str, np.ndarray]:
    return {f"{prefix}predictions": scored.predictions, f"{prefix}targets": scored.targets}
