"""The registered model: packed, logged to MLflow, loaded back in a fresh process, and only then given its version.

Whatever fails on the way, nothing is registered. Taken up again after a kill, it finishes what it had begun, once.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from raysweep import journal
from raysweep.journal import Record
from raysweep.logged_model import upload, verify
from raysweep.model_folder import ModelFolder, seal
from raysweep.problems import UserError
from raysweep.served_model import load_function
from raysweep.track.mlflow import DIGEST, KEY, Store, trial_key
from raysweep.track.pages import comparison, model_page, score, winner
from raysweep.track.process import ENVIRONMENT
from raysweep.track.updates import SWEEP, Story, Update

__all__ = ["Registered", "load_function", "register"]

VERSIONS = "mlflow.modelVersions"
PREVIOUS = "previous"  # the alias that the last champion receives
UPLOAD_SECONDS = "60"  # a model's weights may take longer than a batch of metrics


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered version; `verified` is the largest difference between its outputs and those at its export."""

    model: str
    version: str
    alias: str
    uri: str
    model_id: str
    verified: float
    run_id: str


@dataclass(frozen=True, slots=True)
class _Champion:
    """What the journal says of the trial that won."""

    trial: str
    folder: Path
    sweep: Record
    evaluated: Record
    confirmed: Record

    @property
    def arm(self) -> dict[str, Any]:
        return winner(self.confirmed)

    @property
    def data(self) -> dict[str, Any]:
        return self.sweep.get("data") or {}

    @property
    def model(self) -> str:
        return str(self.sweep["spec"]["registry"]["model"] or self.sweep["name"])

    @property
    def alias(self) -> str:
        return str(self.sweep["spec"]["registry"]["alias"])


def register(directory: Path, loader: str, append: Callable[..., object]) -> Registered | None:
    """Register the confirmed champion with its recipe's LOADER, and append("registered", **fields).

    None when there is nothing to register: no champion, no exported model, or MLflow switched off. Raises UserError
    when the model cannot be packed, stored, or loaded back as it was.
    """
    for name, value in {**ENVIRONMENT, "MLFLOW_HTTP_REQUEST_TIMEOUT": UPLOAD_SECONDS}.items():
        os.environ.setdefault(name, value)
    found = journal.records(directory / journal.FILE)
    if done := next((record for record in found if record["kind"] == "registered"), None):
        return Registered(**{key: value for key, value in done.items() if key not in ("kind", "time")})
    champion = _champion(directory, found)
    if champion is None:
        return None
    try:
        registered = _Registration(directory, champion, found).carry_out(loader)
    except (MlflowException, OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"the model could not be registered: {error}") from error
    append("registered", **asdict(registered))
    return registered


def _champion(directory: Path, found: list[Record]) -> _Champion | None:
    sweep, confirmed = found[0], next((record for record in found if record["kind"] == "confirmed"), None)
    if confirmed is None or not confirmed.get("champion") or not sweep["spec"]["tracking"]["mlflow"]["enabled"]:
        return None
    trial = confirmed["champion"]
    rows = [record for record in found if record["kind"] == "evaluated" and record["trial"] == trial]
    if not rows or not rows[-1].get("model"):
        return None
    return _Champion(trial, directory.resolve() / rows[-1]["model"], sweep, rows[-1], confirmed)


class _Registration:
    """One champion's way into the registry. Its trial key, a tag on all that is made, says what exists already."""

    def __init__(self, directory: Path, champion: _Champion, found: list[Record]) -> None:
        story = Story()
        self._openings = {update.run: update for record in found for update in story.tell(record) if update.opening}
        self._champion, self._store = champion, Store(directory, story)
        self._client, self._key = self._store.client, trial_key(story.id, champion.trial)

    def carry_out(self, loader: str) -> Registered:
        with _default_store(self._store.uri):
            made = self._known() or self._make(seal(self._champion.folder, loader))
        name, number, alias = self._champion.model, str(made.version), self._champion.alias
        model_id = made.source.removeprefix("models:/")
        # What MLflow's page of the model shows as its versions; its own client writes it only in `register_model`.
        self._client.set_logged_model_tags(model_id, {VERSIONS: json.dumps([{"name": name, "version": number}])})
        self._promote(number, alias)
        verified = float(made.tags["raysweep.verified"])
        return Registered(name, number, alias, f"models:/{name}/{number}", model_id, verified, made.run_id)

    def _known(self) -> ModelVersion | None:
        expression = f"name = '{self._champion.model}' and tags.`{KEY}` = '{self._key}'"
        return next(iter(self._client.search_model_versions(expression)), None)

    def _make(self, folder: ModelFolder) -> ModelVersion:
        """A new version, after its model was loaded back. A model that fails is deleted."""
        self._remove_leftovers()
        run = self._run()
        model = self._begin(folder, run)
        try:
            model = upload(self._client, model, folder)
            difference = verify(self._store.uri, model, folder)
            self._client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
            self._log_metrics(model, run)
        except BaseException:
            self._client.delete_logged_model(model.model_id)
            raise
        return self._version(model, folder, difference)

    def _remove_leftovers(self) -> None:
        """Models of a killed attempt: MLflow would register even one whose upload was cut off."""
        for model in self._client.search_logged_models([self._store.experiment], f"tags.`{KEY}` = '{self._key}'"):
            self._client.delete_logged_model(model.model_id)

    def _run(self) -> str:
        """The champion's run. If it was not shipped yet, it is made here, and the shipper finds it."""
        run = None
        for update in (self._openings[SWEEP], self._openings[self._champion.trial]):
            run = self._open(update, run)
        assert run is not None
        return run

    def _open(self, update: Update, parent: str | None) -> str:
        assert update.opening is not None
        return self._store.run(update.run, update.opening, update.time, parent)

    def _begin(self, folder: ModelFolder, run: str) -> LoggedModel:
        champion = self._champion
        params = {path: json.dumps(value) for path, value in champion.arm["config"].items()}
        tags = {KEY: self._key, "raysweep.sha256": folder.sha256, "data.synthetic": self._synthetic()}
        return self._client.create_logged_model(self._store.experiment, champion.sweep["name"], run, tags, params)

    def _log_metrics(self, model: LoggedModel, run: str) -> None:
        """Report metrics, tied to the model and to the report split; the same points that the shipper sends."""
        data, evaluated = self._champion.data, self._champion.evaluated
        digest = data.get("hashes", {}).get("report", "")[:DIGEST]
        dataset = {"dataset_name": f"{data['name']}/report", "dataset_digest": digest} if digest else {}
        time = round(evaluated["time"] * 1000)
        for metric, value in evaluated["metrics"].items():
            self._client.log_metric(run, f"report/{metric}", value, time, 0, model_id=model.model_id, **dataset)

    def _version(self, model: LoggedModel, folder: ModelFolder, difference: float) -> ModelVersion:
        champion, name = self._champion, self._champion.model
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        tags = {
            KEY: self._key,
            "raysweep.sweep": self._store.sweep,
            "raysweep.trial": champion.trial,
            "raysweep.verified": repr(difference),
            "raysweep.sha256": folder.sha256,
            "raysweep.commit": str(champion.sweep.get("commit")),
            "data.synthetic": self._synthetic(),
            "validation_status": "passed",
            "report": score(champion.arm),
            "verdict": "; ".join(map(comparison, champion.confirmed["comparisons"])),
        }
        uri = f"models:/{name}@{champion.alias}"
        page = model_page(champion.sweep, champion.confirmed, champion.evaluated, uri, folder.columns)
        source = f"models:/{model.model_id}"
        return self._client.create_model_version(
            name, source, model.source_run_id, tags, description=page, model_id=model.model_id
        )

    def _promote(self, made: str, alias: str) -> None:
        """Move the alias; the version that had it becomes `previous`."""
        name = self._champion.model
        before = self._client.get_registered_model(name).aliases.get(alias)
        if before is not None and str(before) != made:
            self._client.set_registered_model_alias(name, PREVIOUS, str(before))
        self._client.set_registered_model_alias(name, alias, made)

    def _synthetic(self) -> str:
        return "true" if self._champion.data.get("synthetic") else "false"


@contextmanager
def _default_store(uri: str) -> Iterator[None]:
    """MLflow looks for the model of a new version in the process's default store, whatever the client's store is."""
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
