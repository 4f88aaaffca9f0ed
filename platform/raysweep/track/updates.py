"""What each journal record says to a tracker. Pure, and the same for MLflow and W&B: `Story.tell(record) -> updates`.

A record that is malformed, or of a kind that only a newer version knows, says nothing and is counted.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from raysweep.journal import Kind, Record
from raysweep.track.pages import confirmed_page, sweep_page

SWEEP = ""  # names the run of the sweep itself; every other run is named by its trial
FILES = ("sweep.yaml",)
REPORT = ("report.html",)
Status = Literal["running", "finished", "stopped", "failed"]
STATUS: dict[str, Status] = {"complete": "finished", "stopped": "stopped"}  # other outcomes: failed


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric; `time` in unix seconds, as the journal has it."""

    name: str
    value: float
    step: int
    time: float


@dataclass(frozen=True, slots=True)
class Split:
    """A data set that a run read: `digest` is the journal's hash of the rows."""

    name: str
    split: str
    digest: str
    source: str
    rows: int | None
    synthetic: bool


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known of a run before it starts."""

    name: str
    role: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Update:
    """What one record adds to one run. `last`: nothing more is expected for this run."""

    run: str
    time: float
    opening: Opening | None = None
    points: tuple[Point, ...] = ()
    summary: tuple[Point, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    splits: tuple[Split, ...] = ()
    files: tuple[str, ...] = ()
    resolved: dict[str, Any] | None = None
    status: Status | None = None
    last: bool = False


@dataclass(slots=True)
class _Facts:
    role: str
    reported: dict[int, str] = field(default_factory=dict)  # step -> its metrics as text (NaN equals NaN there)


def sweep_id(record: Record) -> str:
    """One name for one sweep on every tracker: from the first record, so it survives moving the folder."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return f"{str(record['name'])[:60]}-{digest[:10]}"


class Story:
    """The records so far, as far as the next one needs them."""

    def __init__(self) -> None:
        self.sweep: Record = {}
        self.id = ""
        self.over = False
        self.skipped = 0
        self._trials: dict[str, _Facts] = {}
        self._outcomes: Counter[str] = Counter()
        self._best: float | None = None

    def tell(self, record: Record) -> list[Update]:
        """The updates that this record makes."""
        try:
            if record["kind"] not in get_args(Kind):
                raise ValueError(record["kind"])
            says = getattr(self, f"_{record['kind']}", None)
            return list(says(record, float(record["time"]))) if says else []
        except (AttributeError, KeyError, TypeError, ValueError):
            self.skipped += 1
            return []

    def _sweep(self, record: Record, time: float) -> Iterator[Update]:
        spec = record["spec"]
        opening = Opening(str(record["name"]), "sweep", {"recipe": record["recipe"], **_flat(spec)})
        self.sweep, self.id = record, sweep_id(record)
        yield Update(
            SWEEP,
            time,
            opening,
            tags=self._origin() | {"mlflow.note.content": sweep_page(record)},
            splits=self._splits("train", "select"),
            files=FILES,
            resolved=spec,
        )

    def _resumed(self, record: Record, time: float) -> Iterator[Update]:
        self.over = False
        yield Update(SWEEP, time, status="running")

    def _asked(self, record: Record, time: float) -> Iterator[Update]:
        trial, role, arm = record["trial"], str(record["role"]), record.get("arm")
        params = {"seed": record.get("seed"), **record["config"]}
        tags = {"raysweep.trial": trial, "raysweep.number": str(record.get("number"))}
        tags |= {f"raysweep.{key}": str(record[key]) for key in ("arm", "of", "seed") if record.get(key) is not None}
        self._trials.setdefault(trial, _Facts(role))
        opening = Opening(f"{trial} {arm}" if arm else trial, role, params)
        yield Update(trial, time, opening, tags=self._origin() | tags, splits=self._splits("train", "select"))

    def _started(self, record: Record, time: float) -> Iterator[Update]:
        said = {f"raysweep.{key}": str(record[key]) for key in ("attempt", "node", "process") if key in record}
        restored = {"raysweep.restored_step": str(record["step"])} if record.get("step") else {}
        yield Update(self._known(record), time, tags=said | restored, status="running")

    def _reported(self, record: Record, time: float) -> Iterator[Update]:
        trial, step = self._known(record), int(record["step"])
        values = {name: float(value) for name, value in record["metrics"].items()}
        facts = self._trials[trial]
        # A trial taken up from a checkpoint repeats steps. The same values again say nothing; others are newer points,
        # and trackers show the newest of a step.
        if facts.reported.get(step) != (said := json.dumps(values, sort_keys=True)):
            facts.reported[step] = said
            seconds = {"step_seconds": float(record["seconds"])} if record.get("seconds") is not None else {}
            yield Update(trial, time, points=_points(values | seconds, step, time))

    def _decided(self, record: Record, time: float) -> Iterator[Update]:
        sentence = f"{record['action']} at step {record['step']}: {record['reason']}"
        yield Update(self._known(record), time, tags={"raysweep.decision": sentence})

    def _adapted(self, record: Record, time: float) -> Iterator[Update]:
        tags = {"raysweep.accumulate": str(record["accumulate"]), "raysweep.adapted": str(record.get("reason", ""))}
        yield Update(self._known(record), time, tags=tags)

    def _failed(self, record: Record, time: float) -> Iterator[Update]:
        tags = {f"raysweep.{key}": str(record[key]) for key in ("cause", "error", "attempt") if key in record}
        yield Update(self._known(record), time, tags=tags)

    def _finished(self, record: Record, time: float) -> Iterator[Update]:
        trial, outcome = self._known(record), str(record["outcome"])
        facts = self._trials[trial]
        search, status = facts.role == "search", STATUS.get(outcome, "failed")
        facts.reported = {}
        last = search or status != "finished"
        yield Update(trial, time, tags={"raysweep.outcome": outcome}, status=status, last=last)
        if search:
            yield Update(SWEEP, time, points=self._progress(outcome, record.get("value"), time))

    def _progress(self, outcome: str, value: float | None, time: float) -> tuple[Point, ...]:
        self._outcomes[outcome] += 1
        done = self._outcomes.total()
        counts = {f"trials/{name}": float(count) for name, count in self._outcomes.items()} | {
            "trials/done": float(done)
        }
        metric, sign = self._primary()
        if outcome == "complete" and value is not None and value == value:
            self._best = value if self._best is None else max(value * sign, self._best * sign) * sign
        best = {f"best/{metric}": self._best} if self._best is not None else {}
        return _points(counts | best, done, time)

    def _opened(self, record: Record, time: float) -> Iterator[Update]:
        yield Update(self._known(record), time, splits=self._splits(record["split"]))
        yield Update(SWEEP, time, splits=self._splits(record["split"]))

    def _evaluated(self, record: Record, time: float) -> Iterator[Update]:
        values = {f"report/{name}": float(value) for name, value in record["metrics"].items()}
        card = {f"card.{key}": str(value) for key, value in (record.get("card") or {}).items()}
        yield Update(self._known(record), time, summary=_points(values, 0, time), tags=card, last=True)

    def _confirmed(self, record: Record, time: float) -> Iterator[Update]:
        told = {f"confirmed/{arm['arm']}": arm for arm in record["arms"]}
        for arm in record["arms"]:
            told |= {f"confirmed/{arm['arm']}/{name}": other for name, other in arm.get("others", {}).items()}
        scores = {f"{name}/{key}": one[key] for name, one in told.items() for key in ("mean", "low", "high")}
        values = {name: float(value) for name, value in scores.items() if value is not None}
        tags = {f"raysweep.{key}": str(record[key]) for key in ("winner", "champion") if record.get(key)}
        note = {"mlflow.note.content": sweep_page(self.sweep) + confirmed_page(record)}
        yield Update(SWEEP, time, summary=_points(values, 0, time), tags=tags | note)
        if (champion := record.get("champion")) in self._trials:
            yield Update(champion, time, tags={"raysweep.champion": "true"})

    def _registered(self, record: Record, time: float) -> Iterator[Update]:
        said = ("model", "version", "alias", "uri", "model_id", "verified")
        yield Update(
            SWEEP, time, tags={f"raysweep.registered.{key}": str(record[key]) for key in said if key in record}
        )

    def _ended(self, record: Record, time: float) -> Iterator[Update]:
        self.over = True
        status: Status = "finished" if record.get("complete") else "stopped"
        yield Update(
            SWEEP, time, tags={"raysweep.ended": str(record["reason"])}, files=REPORT, status=status, last=True
        )

    def _known(self, record: Record) -> str:
        trial = str(record["trial"])
        if trial not in self._trials:
            raise ValueError(f"no trial {trial}")
        return trial

    def _primary(self) -> tuple[str, int]:
        """Name of the primary objective, and 1 where larger is better, else -1."""
        objectives = self.sweep["spec"]["objectives"]
        primary = next((objective for objective in objectives if objective.get("primary")), objectives[0])
        return str(primary["metric"]), 1 if primary.get("goal", "maximize") == "maximize" else -1

    def _origin(self) -> dict[str, str]:
        """Tags that say where every run of this sweep comes from."""
        sweep, machine, data = self.sweep, self.sweep.get("machine") or {}, self.sweep.get("data") or {}
        tags = {"raysweep.sweep": self.id, "data.synthetic": "true" if data.get("synthetic") else "false"}
        tags |= {f"machine.{key}": str(value) for key, value in machine.items() if value is not None}
        tags |= {"mlflow.source.type": "LOCAL", "mlflow.source.name": f"raysweep: {sweep['recipe']}"}
        if sweep.get("commit"):
            tags["mlflow.source.git.commit"] = str(sweep["commit"])
        return tags | {"raysweep.command": str(sweep.get("command", ""))}

    def _splits(self, *names: str) -> tuple[Split, ...]:
        data = self.sweep.get("data") or {}
        hashes, rows = data.get("hashes", {}), data.get("rows", {})
        source, synthetic = str(data.get("source", "")), bool(data.get("synthetic"))
        return tuple(
            Split(str(data["name"]), name, hashes[name], source, rows.get(name), synthetic)
            for name in names
            if name in hashes
        )


def _points(values: dict[str, float], step: int, time: float) -> tuple[Point, ...]:
    return tuple(Point(name, value, step, time) for name, value in values.items())


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
