"""The file of what one trial predicted on the report split: written where it was trained, read for the proof."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raysweep.trial import Evaluation, Scored, Statistic


def save_predictions(evaluation: Evaluation, path: Path) -> None:
    """Write the arrays `predictions` and `targets`, and those of each further score under `other/NAME/`."""
    arrays = _arrays("", evaluation)
    for name, scored in evaluation.others.items():
        arrays |= _arrays(_prefix(name), scored)
    fresh = path.with_name(f".{path.name}")
    np.savez(fresh, **arrays)  # type: ignore[arg-type]
    os.replace(fresh, path)


def load_predictions(path: Path, statistic: Statistic, others: Mapping[str, Statistic]) -> Evaluation:
    """What `save_predictions` wrote, without metrics; the statistics are the journal's."""
    with np.load(path) as arrays:
        further = {
            name: Scored(arrays[f"{_prefix(name)}predictions"], arrays[f"{_prefix(name)}targets"], kind)
            for name, kind in others.items()
        }
        return Evaluation({}, arrays["predictions"], arrays["targets"], statistic, further)


def _prefix(name: str) -> str:
    return f"other/{name}/"


def _arrays(prefix: str, scored: Evaluation | Scored) -> dict[str, np.ndarray]:
    return {f"{prefix}predictions": scored.predictions, f"{prefix}targets": scored.targets}
