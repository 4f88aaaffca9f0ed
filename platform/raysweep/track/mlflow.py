"""The MLflow end of the shipper: a run for the sweep, a child run for each trial, found again by a unique tag.

MLflow drops points that it has already (same name, time, step, value), so sending again is harmless.
"""

import hashlib
import json
import logging
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from raysweep.track.backlog import FOLDER
from raysweep.track.lock import hold
from raysweep.track.updates import SWEEP, Opening, Point, Split, Story, Update

METRICS, PARAMS, TAGS = 800, 100, 100  # a request's limits are 1000 in all, 100 params and 100 tags
LONGEST_PARAM, LONGEST_TAG, LONGEST_NAME = 6000, 8000, 250  # beyond these MLflow cuts in silence, or refuses
DIGEST = 16  # characters of a hash on MLflow's pages, of the 36 that it takes; the whole hash is in the profile
LOCK_SECONDS = 30.0
PAGE = 1000  # runs in one answer
KEY = "raysweep.trial_key"
PARENT = "mlflow.parentRunId"
STATUS = {"running": "RUNNING", "finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


def tracking_uri(spec: dict[str, Any], directory: Path) -> str:
    """The sweep's MLflow store: what its file says, else an sqlite file beside the sweeps, shared by all of them."""
    given = spec["tracking"]["mlflow"].get("uri")
    return str(given) if given else f"sqlite:///{directory.resolve().parent / 'mlflow.db'}"


def trial_key(sweep: str, run: str) -> str:
    """The value of the tag by which a run is found again."""
    return f"{sweep}/{run}" if run else sweep


class Store:
    """One sweep's runs in one MLflow experiment."""

    def __init__(self, directory: Path, story: Story) -> None:
        for chatty in ("alembic", "mlflow.store.db.utils"):  # they tell of every table that they create
            logging.getLogger(chatty).setLevel(logging.WARNING)
        spec, self.sweep, self._folder = story.sweep["spec"], story.id, directory / FOLDER
        self.uri = tracking_uri(spec, directory)
        _ensure_tables(self.uri)
        self.client = MlflowClient(self.uri, self.uri)
        self.experiment = self._experiment(spec["tracking"]["mlflow"].get("experiment", "raysweep"), directory)

    def runs(self) -> dict[str, str]:
        """Ids of this sweep's runs by trial key."""
        found: dict[str, list[Run]] = {}
        for run in self._search(f"tags.`raysweep.sweep` = '{self.sweep}'"):
            found.setdefault(run.data.tags[KEY], []).append(run)
        return {key: self._one(runs) for key, runs in found.items()}

    def run(self, name: str, opening: Opening, time: float, parent: str | None) -> str:
        """The id of a run, created if there is none."""
        key = trial_key(self.sweep, name)
        with hold(self._folder / "runs.lock", LOCK_SECONDS):  # shipper and registry may want the same run
            if found := self._search(f"tags.`{KEY}` = '{key}'"):
                return self._one(found)
            tags = {KEY: key, "raysweep.sweep": self.sweep, **({PARENT: parent} if parent else {})}
            run = self.client.create_run(self.experiment, _milliseconds(time), tags, opening.name)
            return str(run.info.run_id)

    def _one(self, runs: list[Run]) -> str:
        """The run that has data. A request that was answered too late for us may have left an empty twin: it goes."""
        first, *others = sorted(runs, key=lambda run: (-len(run.data.params) - len(run.data.metrics), run.info.run_id))
        for twin in others:
            if not twin.data.params and not twin.data.metrics:
                self.client.delete_run(twin.info.run_id)
        return str(first.info.run_id)

    def _search(self, expression: str) -> list[Run]:
        found, token = list[Run](), None
        while True:
            page = self.client.search_runs([self.experiment], expression, max_results=PAGE, page_token=token)
            found, token = [*found, *page], page.token
            if not token:
                return found

    def _experiment(self, name: str, directory: Path) -> str:
        """An sqlite store resolves artifacts against the creator's working folder, unless they are told a place."""
        known = self.client.get_experiment_by_name(name)
        if known is not None and known.lifecycle_stage != "active":
            raise RuntimeError(
                f"MLflow's experiment '{name}' is deleted: restore it, or name another in the sweep's file"
            )
        if known is not None:
            return str(known.experiment_id)
        place = (directory.resolve().parent / "mlartifacts").as_uri() if self.uri.startswith("sqlite:") else None
        try:
            return str(self.client.create_experiment(name, artifact_location=place))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another sweep's shipper was faster
                raise
            return str(self.client.get_experiment_by_name(name).experiment_id)


def _ensure_tables(uri: str) -> None:
    """Create an sqlite store whole: MLflow takes over a second for its tables, and never mends a half-made file."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    with hold(path.with_name(f"{path.name}.lock"), LOCK_SECONDS):
        if not path.exists():
            beside = path.with_name(f"{path.name}.{os.getpid()}.part")
            MlflowClient(f"sqlite:///{beside}").search_experiments()
            os.replace(beside, path)


@dataclass(slots=True)
class _Change:
    """All that a batch of updates adds to one run."""

    points: list[Point] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    splits: list[Split] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    resolved: dict[str, Any] | None = None
    status: tuple[str, float] | None = None

    def add(self, update: Update) -> None:
        self.points += [*update.points, *update.summary]
        self.tags |= update.tags
        self.splits += update.splits
        self.files += update.files
        self.resolved = update.resolved or self.resolved
        self.status = (update.status, update.time) if update.status else self.status
        if update.opening:
            self.params |= update.opening.params
            self.tags["raysweep.role"] = update.opening.role


class MlflowSink:
    """Ships updates through an `MlflowClient`; raises what it raises."""

    def __init__(self, directory: Path, story: Story) -> None:
        self._directory, self._store = directory, Store(directory, story)
        self._client, self._runs = self._store.client, self._store.runs()

    def recall(self, past: Sequence[Update]) -> bool:
        return not past or self._key(SWEEP) in self._runs

    def ship(self, updates: Sequence[Update]) -> None:
        changes: dict[str, _Change] = {}
        for update in updates:
            self._ensure(update)
            changes.setdefault(update.run, _Change()).add(update)
        for run, change in changes.items():
            self._apply(self._runs[self._key(run)], change)
        if any(update.last and update.run == SWEEP for update in updates):
            self._runs = self._store.runs()  # removes empty twins

    def close(self) -> None:
        """Nothing is held open."""

    def _key(self, run: str) -> str:
        return trial_key(self._store.sweep, run)

    def _ensure(self, update: Update) -> None:
        key = self._key(update.run)
        if update.opening and key not in self._runs:
            parent = self._runs[self._key(SWEEP)] if update.run != SWEEP else None
            self._runs[key] = self._store.run(update.run, update.opening, update.time, parent)

    def _apply(self, run: str, change: _Change) -> None:
        if change.params and run != self._runs[self._key(SWEEP)]:
            change.tags[PARENT] = self._runs[self._key(SWEEP)]
        for metrics, params, tags in _requests(change):
            self._client.log_batch(run, metrics, params, tags)
        if change.splits:
            self._client.log_inputs(run, [_input(split) for split in change.splits])
        self._attach(run, change)
        if change.status:
            self._end(run, *change.status)

    def _attach(self, run: str, change: _Change) -> None:
        for name in change.files:
            if (self._directory / name).exists():
                self._client.log_artifact(run, str(self._directory / name))
        if change.resolved is not None:
            self._client.log_dict(run, change.resolved, "sweep.resolved.yaml")

    def _end(self, run: str, status: str, time: float) -> None:
        if status == "running":
            self._client.update_run(run, STATUS[status])
        else:
            self._client.set_terminated(run, STATUS[status], _milliseconds(time))


def _requests(change: _Change) -> Iterator[tuple[list[Metric], list[Param], list[RunTag]]]:
    metrics = [Metric(_name(p.name), p.value, _milliseconds(p.time), p.step) for p in change.points]
    params = [Param(_name(key), _cut(_text(value), LONGEST_PARAM)) for key, value in change.params.items()]
    tags = [RunTag(_name(key), _cut(value, LONGEST_TAG)) for key, value in change.tags.items()]
    while metrics or params or tags:
        yield metrics[:METRICS], params[:PARAMS], tags[:TAGS]
        metrics, params, tags = metrics[METRICS:], params[PARAMS:], tags[TAGS:]


def _input(split: Split) -> DatasetInput:
    """The data set by name, source and hash; no row is read."""
    profile = {"rows": split.rows, "sha256": split.digest, "synthetic": split.synthetic}
    source = json.dumps({"source": split.source, "split": split.split})
    name, digest = f"{split.name}/{split.split}", split.digest[:DIGEST]
    dataset = Dataset(name, digest, "raysweep", source, profile=json.dumps(profile))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", split.split)])


def _milliseconds(time: float) -> int:
    return round(time * 1000)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cut(text: str, length: int) -> str:
    """Text that every store takes; what is cut off is marked."""
    text = text.encode("utf-8", "replace").decode().replace("\0", "?")
    return text if len(text) <= length else f"{text[: length - 12]}... (cut)"


def _name(name: str) -> str:
    """A name that MLflow takes: letters, digits, `_ - . space /`, no odd path. A hash keeps changed names apart."""
    clean = re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
    if posixpath.normpath(clean) != clean or clean.startswith((".", "/")):
        clean = clean.replace("/", "_").strip(".") or "_"
    if clean == name and len(name) <= LONGEST_NAME:
        return name
    return f"{clean[: LONGEST_NAME - 8]}_{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:6]}"
