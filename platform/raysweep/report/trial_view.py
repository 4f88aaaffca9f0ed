"""One trial as the journal tells it so far."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from raysweep.journal import Record

TrialState = Literal["waiting", "running", "interrupted", "complete", "stopped", "failed", "infeasible"]
OVER: tuple[TrialState, ...] = ("complete", "stopped", "failed", "infeasible")
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]")


@dataclass(slots=True)
class TrialView:
    """What a trial was given, how it went, how it ended. `curve` holds the metrics of each step, `pace` its seconds."""

    id: str
    number: int
    role: Literal["search", "finalist", "reference"]
    arm: str | None
    of: str | None
    config: dict[str, Any]
    seed: int
    state: TrialState = "waiting"
    attempt: int = 0
    restored: int = 0
    step: int = 0
    began: float = 0.0  # unix seconds of the last start
    seconds: float = 0.0  # of all steps reported
    value: float | None = None  # of the primary objective, at the last step
    curve: dict[int, dict[str, float]] = field(default_factory=dict)
    pace: dict[int, float] = field(default_factory=dict)
    decisions: dict[int, Record] = field(default_factory=dict)
    failures: list[Record] = field(default_factory=list)
    adaptations: list[Record] = field(default_factory=list)
    evaluated: Record | None = None

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def score(self) -> float | None:
        """The value, if it is a finite number."""
        return self.value if self.value is not None and math.isfinite(self.value) else None

    @property
    def last(self) -> dict[str, float]:
        """The metrics of the last step; empty before the first."""
        return self.curve[max(self.curve)] if self.curve else {}

    @property
    def measured(self) -> dict[str, float]:
        """What is known of the trained model by name: last metrics, numbers of its card, report metrics."""
        evaluated = self.evaluated or {}
        card = dict(_numbers(evaluated.get("card") or {}))
        return {**dict(_numbers(self.last)), **card, **dict(_numbers(evaluated.get("metrics") or {}))}

    @property
    def ending(self) -> str:
        """Why it ended as it did: the stop decision's reason or the last error; empty for all other trials."""
        if self.state == "stopped" and self.decisions:
            return str(self.decisions[max(self.decisions)]["reason"])
        return str(self.failures[-1]["error"]) if self.state in ("failed", "infeasible") and self.failures else ""

    def series(self, metric: str) -> list[tuple[int, float]]:
        """Steps and finite values of one metric, by step."""
        values = ((step, self.curve[step].get(metric)) for step in sorted(self.curve))
        return [(step, value) for step, value in values if value is not None and math.isfinite(value)]

    def add(self, record: Record, metric: str) -> None:
        """Take the next record of this trial in; `metric` is the sweep's primary objective."""
        match record["kind"]:
            case "started":
                self._start(record)
            case "reported":
                self._report(record, metric)
            case "decided":
                self.decisions[record["step"]] = record
            case "failed":
                self.failures.append({**record, "error": plain(record["error"])})
            case "adapted":
                self.adaptations.append(record)
            case "evaluated":
                self.evaluated = record
            case "finished":
                self._finish(record)

    def _start(self, record: Record) -> None:
        """A new attempt goes on from `restored`; steps already reported are not reported again, so the curve stays."""
        self.state, self.attempt, self.began, self.restored = (
            "running",
            record["attempt"],
            record["time"],
            record["step"],
        )

    def _report(self, record: Record, metric: str) -> None:
        self.step = record["step"]
        self.curve[self.step], self.pace[self.step] = record["metrics"], record["seconds"]
        self.seconds += record["seconds"]
        self.value = record["metrics"].get(metric)

    def _finish(self, record: Record) -> None:
        self.state, self.step, self.value = record["outcome"], record["step"], record["value"]
        self.seconds = record["seconds"]


def plain(text: str) -> str:
    """Text without colours and control characters, which error messages bring along, in one line."""
    return " ".join(_CONTROL.sub(" ", text).split())


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers of a nested mapping under dotted names; truth values are none."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{prefix}{name}", float(value)
