"""A sweep as its journal tells it so far: what report, status and progress display are made of. No files, no clock."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from raysweep.evidence import ArmResult, Comparison, Confirmation
from raysweep.journal import Record
from raysweep.report.trial_view import TrialState, TrialView
from raysweep.spec import SweepSpec

SweepState = Literal["empty", "running", "interrupted", "ended"]
Phase = Literal["search", "confirm", "over"]
# Stands in until a sweep record is read, so that an empty journal has a view too; `begun` tells them apart.
UNKNOWN = SweepSpec.model_validate(
    {"name": "empty", "recipe": "none", "space": {}, "objectives": [{"metric": "score"}]}
)


@dataclass(slots=True)
class RungView:
    """What the rung at a step did: how many arrived and went on, and the value that was last enough."""

    step: int
    arrived: int = 0
    went_on: int = 0
    cutoff: float | None = None

    @property
    def stopped(self) -> int:
        return self.arrived - self.went_on


@dataclass(slots=True)
class SweepView:
    """The whole sweep. `add` takes one record in constant time; `from_records` takes a journal cut anywhere."""

    spec: SweepSpec = UNKNOWN
    header: Record = field(default_factory=dict)
    trials: dict[str, TrialView] = field(default_factory=dict)
    sessions: list[tuple[float, float]] = field(default_factory=list)  # first and last record of each process
    varying: dict[str, None] = field(default_factory=dict)  # settings that differ between trials, in order
    opened: list[str] = field(default_factory=list)
    confirmed: Confirmation | None = None
    registered: Record | None = None
    ended: Record | None = None
    live: bool = True

    @classmethod
    def from_records(cls, records: Iterable[Record], running: bool = False) -> "SweepView":
        """`running` says whether a process holds the sweep now: the journal alone cannot tell."""
        view = cls()
        for record in records:
            view.add(record)
        view.live = running and view.ended is None
        if not view.live:
            view._interrupt()
        return view

    @property
    def begun(self) -> bool:
        return bool(self.header)

    @property
    def state(self) -> SweepState:
        if not self.begun:
            return "empty"
        return "ended" if self.ended else "running" if self.live else "interrupted"

    @property
    def phase(self) -> Phase:
        if self.ended:
            return "over"
        return "confirm" if self.confirming else "search"

    @property
    def data(self) -> dict[str, Any]:
        return self.header.get("data") or {}

    @property
    def machine(self) -> dict[str, Any]:
        return self.header.get("machine") or {}

    @property
    def synthetic(self) -> bool:
        return bool(self.data.get("synthetic"))

    @property
    def resumed(self) -> int:
        return max(0, len(self.sessions) - 1)

    @property
    def elapsed(self) -> float:
        """Seconds that the sweep was worked on; the time between a kill and its resume does not count."""
        return sum(last - first for first, last in self.sessions)

    @property
    def metric(self) -> str:
        return self.spec.primary.metric

    @property
    def maximize(self) -> bool:
        return self.spec.primary.goal == "maximize"

    @property
    def search(self) -> list[TrialView]:
        return [trial for trial in self.trials.values() if trial.role == "search"]

    @property
    def confirming(self) -> list[TrialView]:
        return [trial for trial in self.trials.values() if trial.role != "search"]

    @property
    def running(self) -> list[TrialView]:
        return [trial for trial in self.trials.values() if trial.state == "running"]

    @property
    def best(self) -> TrialView | None:
        """The best complete search trial: a stopped one was measured after fewer steps and cannot be it."""
        return self._top([trial for trial in self.search if trial.state == "complete"])

    @property
    def leading(self) -> TrialView | None:
        """The search trial with the best last value, complete or not."""
        return self._top([trial for trial in self.search if trial.state not in ("failed", "infeasible")])

    @property
    def rungs(self) -> list[RungView]:
        """The rungs that decided something, by step."""
        rungs: dict[int, RungView] = {}
        for decision in (made for trial in self.trials.values() for made in trial.decisions.values()):
            rung = rungs.setdefault(decision["rung"], RungView(decision["rung"]))
            rung.arrived += 1
            rung.went_on += decision["action"] == "go on"
            rung.cutoff = decision["cutoff"] if decision["cutoff"] is not None else rung.cutoff
        return [rungs[step] for step in sorted(rungs)]

    @property
    def proof_trials(self) -> int:
        """How many trainings the confirm phase takes: each finalist and reference with every seed."""
        confirm = self.spec.confirm
        top = confirm.top * max(1, len({confirm.group(trial.config) for trial in self.search}))
        if self.confirming:  # only now is it known how many different configurations are complete
            complete = {repr(sorted(t.config.items())): t.config for t in self.search if t.state == "complete"}
            groups = Counter(confirm.group(config) for config in complete.values())
            top = sum(min(confirm.top, count) for count in groups.values())
        return (top + len(self.spec.references)) * len(confirm.seeds) if top else 0

    @property
    def arms(self) -> list[ArmResult]:
        return self.confirmed.arms if self.confirmed else []

    @property
    def comparisons(self) -> list[Comparison]:
        return self.confirmed.comparisons if self.confirmed else []

    @property
    def others(self) -> dict[str, str]:
        """The further scores of all arms, and the statistic of each."""
        return {name: other.statistic for arm in self.arms[:1] for name, other in arm.others.items()}

    @property
    def winner(self) -> ArmResult | None:
        return next((arm for arm in self.arms if self.confirmed and arm.arm == self.confirmed.winner), None)

    @property
    def champion(self) -> TrialView | None:
        """The trial whose model is registered."""
        return self.trials.get(self.confirmed.champion) if self.confirmed else None

    def counts(self) -> dict[TrialState, int]:
        """Search trials by state, only states that occur."""
        counts: dict[TrialState, int] = {}
        for trial in self.search:
            counts[trial.state] = counts.get(trial.state, 0) + 1
        return counts

    def measured(self, arm: ArmResult, name: str) -> float | None:
        """A measurement's mean over the arm's trials that have it; None when none has."""
        found = [self.trials[trial].measured.get(name) for trial in arm.trials if trial in self.trials]
        values = [value for value in found if value is not None]
        return sum(values) / len(values) if values else None

    def add(self, record: Record) -> None:
        """Take the next record of the journal in."""
        kind, time = record["kind"], record["time"]
        if kind in ("sweep", "resumed"):
            self.sessions.append((time, time))
        elif self.sessions:
            self.sessions[-1] = (self.sessions[-1][0], max(time, self.sessions[-1][1]))
        self._add_to_sweep(record)
        if kind != "asked" and record.get("trial") in self.trials:
            self.trials[record["trial"]].add(record, self.metric)

    def _add_to_sweep(self, record: Record) -> None:
        match record["kind"]:
            case "sweep":
                self.header, self.spec = record, SweepSpec.model_validate(record["spec"])
            case "resumed":
                self.ended = None
                self._interrupt()
            case "asked":
                self._ask(record)
            case "opened":
                self.opened.append(record["trial"])
            case "confirmed":
                self.confirmed = Confirmation.from_dict(record)
            case "registered":
                self.registered = record
            case "ended":
                self.ended = record
                self._interrupt()

    def _ask(self, record: Record) -> None:
        names = ("number", "role", "arm", "of", "config", "seed")
        trial = TrialView(record["trial"], **{name: record[name] for name in names})
        first = next(iter(self.trials.values()), trial).config
        for path in {**first, **trial.config}:
            if path not in first or path not in trial.config or first[path] != trial.config[path]:
                self.varying[path] = None
        self.trials[trial.id] = trial

    def _interrupt(self) -> None:
        for trial in self.trials.values():
            if trial.state == "running":
                trial.state = "interrupted"

    def _top(self, trials: list[TrialView]) -> TrialView | None:
        measured = [(trial.score, trial) for trial in trials if trial.score is not None]
        return max(measured, key=lambda pair: pair[0] if self.maximize else -pair[0])[1] if measured else None
