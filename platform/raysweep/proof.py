"""The proof at the end of a sweep: finalists against references on the report split, from the journal and its files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.evidence import Arm, confirm
from raysweep.journal import Record
from raysweep.spec import SweepSpec


def prove(found: Sequence[Record], spec: SweepSpec, folder: Path) -> dict[str, Any] | None:
    """The content of the `confirmed` record, or None when no finalist could be evaluated."""
    trials = Trials(found, spec.primary.metric, folder)
    arms = [trials.arm(name) for name in trials.arms]
    if not any(arm.role == "finalist" for arm in arms):
        return None
    return confirm(arms, spec.confirm.alpha, spec.seed, spec.primary.goal == "maximize").to_dict()


class Trials:
    """The trials of the proof as the journal tells them; one that failed is missing from its arm."""

    def __init__(self, found: Sequence[Record], metric: str, folder: Path) -> None:
        self._metric, self._folder = metric, folder
        self._asked = {record["trial"]: record for record in found if record["kind"] == "asked"}
        self._values = {record["trial"]: record["values"] for record in found if record["kind"] == "finished"}
        self._proofs = {record["trial"]: record for record in found if record["kind"] == "evaluated"}

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(self._asked[trial]["arm"] for trial in sorted(self._proofs)))

    def arm(self, name: str) -> Arm:
        """One arm, its trials in the order of their seeds."""
        trials = [trial for trial in self._proofs if self._asked[trial]["arm"] == name]
        trials.sort(key=lambda trial: int(self._asked[trial]["seed"]))
        first, loaded = self._asked[trials[0]], [self._load(trial) for trial in trials]
        return Arm(
            name=name,
            role=first["role"],
            of=first["of"],
            config=first["config"],
            trials=trials,
            seeds=[self._asked[trial]["seed"] for trial in trials],
            select=[self._values[trial][self._metric] for trial in trials],
            predictions=np.stack([predictions for predictions, _ in loaded]),
            targets=loaded[0][1],
            statistic=self._proofs[trials[0]]["statistic"],
            search=self._values[first["of"]][self._metric],
        )

    def _load(self, trial: str) -> tuple[Any, Any]:
        with np.load(self._folder / self._proofs[trial]["predictions"]) as arrays:
            return arrays["predictions"], arrays["targets"]
