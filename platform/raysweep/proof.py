"""The proof at the end of a sweep: finalists against references on the report split, from the journal and its files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.evidence import Arm, confirm
from raysweep.journal import Record
from raysweep.predictions import Journalled, load_predictions
from raysweep.problems import Problem, UserError
from raysweep.spec import SweepSpec
from raysweep.trial import Evaluation, Scored


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
        _check_others({trial: self._proofs[trial].get("others", {}) for trial in trials})
        first, loaded = self._asked[trials[0]], [self._load(trial) for trial in trials]
        main = _stacked(loaded)
        return Arm(
            name=name,
            role=first["role"],
            of=first["of"],
            config=first["config"],
            trials=trials,
            seeds=[self._asked[trial]["seed"] for trial in trials],
            select=[self._values[trial][self._metric] for trial in trials],
            predictions=main.predictions,
            targets=main.targets,
            statistic=main.statistic,
            search=self._values[first["of"]][self._metric],
            others={name: _stacked([one.others[name] for one in loaded]) for name in loaded[0].others},
        )

    def _load(self, trial: str) -> Evaluation:
        record = self._proofs[trial]
        return load_predictions(self._folder / record["predictions"], record["statistic"], record.get("others", {}))


def _stacked(scored: Sequence[Evaluation | Scored]) -> Scored:
    """One arm's predictions [S, N] of all its seeds, which were evaluated alike."""
    return Scored(np.stack([one.predictions for one in scored]), scored[0].targets, scored[0].statistic)


def _check_others(others: Mapping[str, Mapping[str, Journalled]]) -> None:
    """Raises UserError when a trial lacks a further score that another seed of its arm has."""
    names = dict.fromkeys(name for found in others.values() for name in found)
    missing = [(trial, name) for trial, found in others.items() for name in names if name not in found]
    if missing:
        hint = "was the recipe changed while the sweep ran?"
        problems = [
            Problem(f"trial '{trial}' has no '{name}', which its arm has", hint=hint) for trial, name in missing
        ]
        raise UserError(problems)
