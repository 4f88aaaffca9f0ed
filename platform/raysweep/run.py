"""A sweep from its file to its report: the main path. Each stage reads the journal, so each can be taken up again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from raysweep import sweep_folder, track
from raysweep.journal import Journal, Record, records
from raysweep.measure import commit, machine
from raysweep.problems import UserError
from raysweep.proof import prove
from raysweep.recipe import configure, find
from raysweep.report import write_report
from raysweep.spec import VERSION, SweepSpec
from raysweep.sweep import Sweep
from raysweep.sweep_file import SweepFile, load_sweep, sweep_from_record
from raysweep.sweep_folder import SweepFolder

SECONDS_TO_SHIP = 60.0  # how long the end of a sweep waits for its trackers; what is left then, `sync` ships

Listen = Callable[[Record], None]


class Engine(Protocol):
    """Where trials run: `raysweep.engine.tune` or `raysweep.engine.inline`."""

    def run(self, sweep: Sweep, folder: Path) -> None:
        """Run the sweep's trials to the end, or until it halts."""


def begin(file: Path, overrides: Sequence[str], place: Path | None, command: str) -> SweepFolder:
    """Check file and machine, then make the sweep's folder with the journal's first record. Raises UserError."""
    loaded = load_sweep(file, overrides)
    loaded.not_here()
    place = place or Path("sweeps") / f"{loaded.spec.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = sweep_folder.create(place, loaded.text)
    journal = Journal(folder.journal)
    here = Path.cwd()
    journal.append(
        "sweep", **_head(loaded), machine=machine(), commit=commit(here), command=command, directory=str(here)
    )
    journal.close()
    return folder


def proceed(folder: SweepFolder, engine: Engine, listen: Listen, *, again: bool) -> str | None:
    """Run a sweep from where its journal stands to its report; why it could not be finished, or None."""
    last = records(folder.journal)[-1]
    if last["kind"] == "ended" and last["complete"]:
        return None  # nothing is left to go on with
    spec, space = sweep_from_record(folder.head()["spec"])
    journal = Journal(folder.journal)
    sweep = Sweep(spec, space, journal, listen)
    with track.shipping(folder.path):
        if again:
            sweep.resume()
        engine.run(sweep, folder.path)
        reason = sweep.halted or _conclude(folder, spec, journal, listen)
        listen(journal.append("ended", reason=reason or "all trials are done", complete=reason is None))
        write_report(folder.path)
    journal.close()
    if not _waiting(_shipped(folder.path)):
        track.drain(folder.path, SECONDS_TO_SHIP)  # for the report, which is sent last
    return reason


def catch_up(folder: SweepFolder) -> tuple[track.Backlog, str | None]:
    """Ship what the trackers lack and register the model if that is missing; what is missing even then, and why."""
    spec, journal = SweepSpec.model_validate(folder.head()["spec"]), Journal(folder.journal)
    backlog = track.sync(folder.path)
    reason = _registered(backlog, folder, spec, journal, lambda record: None)
    if reason is None and _ended_short(folder):
        journal.append("ended", reason="all trials are done", complete=True)
        write_report(folder.path)
        backlog = track.sync(folder.path)
    journal.close()
    return backlog, reason


def _ended_short(folder: SweepFolder) -> bool:
    """Whether the sweep came to its end, but something was missing there."""
    ends = [record for record in records(folder.journal) if record["kind"] in ("ended", "registered")]
    return any(not end["complete"] for end in ends if end["kind"] == "ended") and ends[-1]["kind"] == "registered"


def _head(loaded: SweepFile) -> dict[str, Any]:
    facts = loaded.recipe.inspect(configure(loaded.recipe, loaded.first_config()))
    spec = loaded.spec
    resolved = spec.model_dump(by_alias=True)
    return {"version": VERSION, "name": spec.name, "recipe": spec.recipe, "spec": resolved, "data": asdict(facts)}


def _conclude(folder: SweepFolder, spec: SweepSpec, journal: Journal, listen: Listen) -> str | None:
    """The proof, then the registered model; what stood in the way of the proof, or None."""
    if spec.confirm.top == 0:
        return None
    found = records(folder.journal)
    if not any(record["kind"] == "confirmed" for record in found):
        confirmed = prove(found, spec, folder.path)
        if confirmed is None:
            return "no finalist could be trained to the end, so there is nothing to confirm"
        listen(journal.append("confirmed", **confirmed))
    # The trials' runs first, so that the model's metrics land on one that is there.
    return _registered(_shipped(folder.path), folder, spec, journal, listen)


def _shipped(folder: Path) -> track.Backlog:
    """Wait for the trackers, but not for one that is down; what they still lack."""
    deadline = time.monotonic() + SECONDS_TO_SHIP
    while time.monotonic() < deadline:
        backlog = track.status(folder)
        if not any(sink.unshipped and sink.error is None for sink in backlog.sinks):
            break
        time.sleep(0.1)
    return backlog


def _waiting(backlog: track.Backlog) -> list[track.SinkBacklog]:
    return [sink for sink in backlog.sinks if sink.unshipped]


def _registered(
    backlog: track.Backlog, folder: SweepFolder, spec: SweepSpec, journal: Journal, listen: Listen
) -> str | None:
    """Register the champion if MLflow has all trials; a model does not wait for W&B. Why not, or None."""
    if behind := [sink for sink in _waiting(backlog) if sink.sink == "mlflow"]:
        error = f": {behind[0].error}" if behind[0].error else ""
        hint = f"once that is mended: raysweep sync {folder.path}"
        return f"the model is not registered, for MLflow is behind{error}; {hint}"
    return _register(folder, spec, journal, listen)


def _register(folder: SweepFolder, spec: SweepSpec, journal: Journal, listen: Listen) -> str | None:
    """Register the champion; why that could not be done, or None."""
    from raysweep.registry import register  # MLflow takes over a second to import; only the end of a sweep needs it

    try:
        register(folder.path, find(spec.recipe).LOADER, lambda kind, **fields: listen(journal.append(kind, **fields)))
    except UserError as error:
        return f"{error}; once that is mended: raysweep sync {folder.path}"
    return None
