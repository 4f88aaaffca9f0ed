"""`Sweep`: what to run next, and whether a trial goes on. A function of the journal: an event is written, then applied.

No Ray, no processes: an engine asks `next()`, tells what came back with `receive()`, and obeys. Opened on a journal
that already holds records, a sweep stands exactly where it stood, and takes the same decisions from there.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from raysweep.journal import Journal, Kind, Record, records
from raysweep.problems import did_you_mean
from raysweep.schedule import Decision, make_scheduler
from raysweep.search import Search, trial_seed
from raysweep.space import Space
from raysweep.spec import SweepSpec

Next = Literal["wait", "over"]


@dataclass(slots=True)
class TrialState:
    """One trial as the journal tells it."""

    id: str
    number: int
    role: str
    arm: str | None
    of: str | None
    config: dict[str, Any]
    seed: int
    step: int = -1
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    attempts: int = 0
    verdict: Decision | None = None  # what its last report led to
    decided: int = -1  # step of the last written decision
    broken: str | None = None  # cause of the failure that ended it
    outcome: str | None = None
    running: bool = False  # in this process; not a matter of the journal


class Sweep:
    """The state of one sweep. `listen` hears every record that this process writes."""

    def __init__(
        self, spec: SweepSpec, space: Space, journal: Journal, listen: Callable[[Record], None] = lambda record: None
    ) -> None:
        self.spec, self._space, self.journal, self._listen = spec, space, journal, listen
        self._search = Search(space, spec.objectives, spec.searcher, spec.seed)
        self._scheduler = make_scheduler(spec.scheduler, spec.primary.goal, spec.seed)
        self.trials: dict[str, TrialState] = {}
        self._exhausted = False  # a grid has no more points
        self._alike: list[str] = []  # signatures of the failures since a trial last went well
        self._active, self._clock = 0.0, 0.0  # seconds this sweep has run, in all processes; time of the last record
        self.halted: str | None = None  # why the sweep cannot go on
        for record in records(journal.path):
            self._apply(record)

    # What an engine asks

    def resume(self) -> None:
        """Take up a sweep that an earlier process left, first settling what it had decided but not yet written."""
        record = self.journal.append("resumed")
        self._apply(record)
        self._listen(record)
        for trial in [trial for trial in self.trials.values() if trial.outcome is None]:
            self._settle(trial)

    def next(self) -> TrialState | Next:
        """A trial to run now, or whether to wait for results, or that all is done."""
        if self.halted:
            return "over"
        trial = self._unfinished() or self._ask_search() or self._ask_proof()
        if trial is None:
            return "wait" if any(trial.outcome is None for trial in self.trials.values()) else "over"
        trial.running = True
        return trial

    def receive(self, trial_id: str, events: Sequence[Record]) -> bool:
        """Take in what a trial's process tells; whether the trial goes on."""
        trial = self.trials[trial_id]
        for event in events:
            if trial.outcome is None:
                self._receive(trial, dict(event))
        return trial.outcome is None and self.halted is None

    def lost(self, trial_id: str, error: str, again: bool) -> None:
        """A trial's process was lost; `again` says whether it is taken up once more."""
        trial = self.trials[trial_id]
        if trial.outcome is None:
            self._write("failed", trial, attempt=trial.attempts, cause="lost process", error=error, again=again)
            self._settle(trial)

    @property
    def winners(self) -> list[TrialState]:
        """Complete search trials, best first, one for each distinct configuration."""
        metric, sign = self.spec.primary.metric, 1 if self.spec.primary.goal == "minimize" else -1
        complete = [trial for trial in self._searched() if trial.outcome == "complete" and metric in trial.metrics]
        ranked = sorted(complete, key=lambda trial: (sign * trial.metrics[metric], trial.number))
        return list({repr(sorted(trial.config.items())): trial for trial in reversed(ranked)}.values())[::-1]

    @property
    def finalists(self) -> list[TrialState]:
        """The winners that are trained again, best first: `top` of all, or of each value of the settings `per`."""
        counts, finalists = Counter[str](), []
        for trial in self.winners:
            group = self.spec.confirm.group(trial.config)
            counts[group] += 1
            if counts[group] <= self.spec.confirm.top:
                finalists.append(trial)
        return finalists

    @property
    def seconds(self) -> float:
        """Wall time that this sweep has run, pauses between processes left out."""
        return self._active

    # What comes next

    def _searched(self) -> list[TrialState]:
        return [trial for trial in self.trials.values() if trial.role == "search"]

    def _unfinished(self) -> TrialState | None:
        """A trial that an earlier process began."""
        return next((trial for trial in self.trials.values() if trial.outcome is None and not trial.running), None)

    def _ask_search(self) -> TrialState | None:
        number, limit = len(self._searched()), self.spec.budget.wall_minutes
        out_of_time = limit is not None and self._active > 60 * limit
        if self._exhausted or number >= self.spec.budget.trials or out_of_time:
            return None
        suggestion = self._search.ask(number)
        if suggestion is None:
            self._exhausted = True
            return None
        seed = trial_seed(self.spec.seed, number)
        return self._asked(number, "search", suggestion.config, seed, params=suggestion.params)

    def _ask_proof(self) -> TrialState | None:
        """The next finalist or reference, once the search is over: each arm is trained on the same fresh seeds."""
        if any(trial.outcome is None for trial in self._searched()):
            return None
        asked = {(trial.arm, trial.seed) for trial in self.trials.values() if trial.role != "search"}
        for role, arm, origin, config in self._arms():
            for seed in self.spec.confirm.seeds:
                if (arm, seed) not in asked:
                    return self._asked(len(self.trials), role, config, seed, arm=arm, of=origin.id)
        return None

    def _arms(self) -> list[tuple[str, str, TrialState, dict[str, Any]]]:
        finalists = self.finalists
        arms = [("finalist", f"finalist-{place}", trial, trial.config) for place, trial in enumerate(finalists, 1)]
        if finalists:
            best = finalists[0]
            arms += [
                ("reference", name, best, self._space.replaced(best.config, new))
                for name, new in self.spec.references.items()
            ]
        return arms

    def _asked(
        self, number: int, role: str, config: dict[str, Any], seed: int, params: dict[str, Any] | None = None, **of: Any
    ) -> TrialState:
        name = f"t{number:04d}"
        place = {"arm": of.get("arm"), "of": of.get("of")}
        self._write("asked", name, number=number, role=role, **place, config=config, params=params or {}, seed=seed)
        return self.trials[name]

    # What comes back

    def _receive(self, trial: TrialState, event: Record) -> None:
        kind = event.pop("kind")
        if kind == "reported":
            self._report(trial, event)
        elif kind == "finished":
            self._finish(trial, event["outcome"])
        elif kind in ("started", "failed"):
            self._write(kind, trial, attempt=trial.attempts + (kind == "started"), **event)
        else:
            self._write(kind, trial, **event)

    def _report(self, trial: TrialState, event: Record) -> None:
        if event["step"] <= trial.step:
            return  # told before its process was lost, and decided then
        missing = [o.metric for o in self.spec.objectives if o.metric not in event["metrics"]]
        if missing:
            hint = did_you_mean(missing[0], list(event["metrics"]))
            error = f"the recipe reported no '{missing[0]}'" + (f" ({hint})" if hint else "")
            self._write("failed", trial, attempt=trial.attempts, cause="exception", error=error, again=False)
        else:
            self._write("reported", trial, **event)
        self._settle(trial)

    def _settle(self, trial: TrialState) -> None:
        """Write what follows from the trial's last report or failure, as far as it is not yet written."""
        verdict = trial.verdict
        if verdict is not None and verdict.rung is not None and trial.decided < trial.step:
            self._write("decided", trial, step=trial.step, **asdict(verdict))
        if trial.broken:
            self._finish(trial, "infeasible" if trial.broken in ("infeasible", "not here") else "failed")
        elif verdict is not None and verdict.action == "stop":
            self._finish(trial, "stopped")

    def _finish(self, trial: TrialState, outcome: str) -> None:
        self._write(
            "finished",
            trial,
            outcome=outcome,
            step=max(trial.step, 0),
            value=trial.metrics.get(self.spec.primary.metric),
            values=trial.metrics,
            seconds=round(trial.seconds, 3),
        )

    # The journal: written, applied, told

    def _write(self, kind: Kind, trial: TrialState | str, **fields: Any) -> None:
        name = trial if isinstance(trial, str) else trial.id
        record = self.journal.append(kind, trial=name, **fields)
        self._apply(record)
        self._listen(record)

    def _apply(self, record: Record) -> None:
        """Change the state by one record; live and replayed records take this one way."""
        if record["kind"] not in ("sweep", "resumed"):
            self._active += max(0.0, record["time"] - self._clock)
        self._clock = record["time"]
        change = getattr(self, f"_on_{record['kind']}", None)
        if change is not None:
            change(record)

    def _on_resumed(self, record: Record) -> None:
        self._alike.clear()
        self.halted = None

    def _on_asked(self, record: Record) -> None:
        keys = ("number", "role", "arm", "of", "config", "seed")
        self.trials[record["trial"]] = TrialState(record["trial"], **{key: record[key] for key in keys})
        if record["role"] == "search":
            self._search.recall(record["number"], record["params"])

    def _on_started(self, record: Record) -> None:
        self.trials[record["trial"]].attempts = record["attempt"]

    def _on_reported(self, record: Record) -> None:
        trial = self.trials[record["trial"]]
        trial.step, trial.metrics = record["step"], record["metrics"]
        trial.seconds += record["seconds"]
        if trial.role == "search":
            value = trial.metrics[self.spec.primary.metric]
            self._search.observe(trial.number, trial.step, value)
            judged = trial.step < self.spec.scheduler.max
            trial.verdict = self._scheduler.decide(trial.number, trial.step, value) if judged else None

    def _on_decided(self, record: Record) -> None:
        self.trials[record["trial"]].decided = record["step"]

    def _on_failed(self, record: Record) -> None:
        if record["again"]:
            return
        self.trials[record["trial"]].broken = record["cause"]
        if record["cause"] == "not here":
            return  # told before the sweep began, and no sign of what others will do
        self._alike.append(signature(record["error"]))
        last = self._alike[-self.spec.failures.same_error :]
        if len(last) == self.spec.failures.same_error and len(set(last)) == 1:
            self.halted = f"{len(last)} trials in a row failed alike: {record['error']}"

    def _on_finished(self, record: Record) -> None:
        trial = self.trials[record["trial"]]
        trial.outcome = record["outcome"]
        if trial.outcome in ("complete", "stopped"):
            self._alike.clear()
        if trial.role == "search":
            values = [trial.metrics[objective.metric] for objective in self.spec.objectives] if trial.metrics else None
            self._search.tell(trial.number, record["outcome"], values)


def signature(error: str) -> str:
    """What two failures have in common when only numbers, addresses and paths differ."""
    return re.sub(r"0x[0-9a-f]+|/[\w./-]+|\d+", "#", error.lower())
