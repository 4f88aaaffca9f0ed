"""A sweep from its file to its report: the main path. Each stage reads the journal, so each can be taken up again."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from raysweep import registry, sweep_folder, track
from raysweep.journal import Journal, Record, records
from raysweep.measure import commit, machine
from raysweep.proof import prove
from raysweep.recipe import configure
from raysweep.report import write_report
from raysweep.spec import VERSION, SweepSpec
from raysweep.sweep import Sweep
from raysweep.sweep_file import SweepFile, load_sweep, sweep_from_record
from raysweep.sweep_folder import SweepFolder

SECONDS_TO_DRAIN = 60.0  # how long the end of a sweep waits for its trackers

Listen = Callable[[Record], None]


class Engine(Protocol):
    """Where trials run: `raysweep.engine.tune` or `raysweep.engine.inline`."""

    def run(self, sweep: Sweep, folder: Path) -> None:
        """Run the sweep's trials to the end, or until it halts."""


def begin(file: Path, overrides: Sequence[str], place: Path, command: str) -> SweepFolder:
    """Check everything, then make the sweep's folder with the journal's first record. Raises UserError."""
    loaded = load_sweep(file, overrides)
    folder = sweep_folder.create(place, loaded.text)
    journal = Journal(folder.journal)
    journal.append("sweep", **_head(loaded), machine=machine(), commit=commit(Path.cwd()), command=command)
    journal.close()
    return folder


def proceed(folder: SweepFolder, engine: Engine, listen: Listen, *, again: bool) -> str | None:
    """Run a sweep from where its journal stands to its report; why it could not be finished, or None."""
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
    track.drain(folder.path, SECONDS_TO_DRAIN)
    return reason


def _head(loaded: SweepFile) -> dict[str, Any]:
    spec = loaded.spec
    facts = loaded.recipe.inspect(configure(loaded.recipe, loaded.first_config()))
    return {
        "version": VERSION,
        "name": spec.name,
        "recipe": spec.recipe,
        "spec": spec.model_dump(by_alias=True),
        "data": asdict(facts),
    }


def _conclude(folder: SweepFolder, spec: SweepSpec, journal: Journal, listen: Listen) -> str | None:
    """The proof, then the registered model; what stood in the way, or None."""
    found = records(folder.journal)
    done = {record["kind"] for record in found}
    if spec.confirm.top == 0:
        return None
    if "confirmed" not in done:
        confirmed = prove(found, spec, folder.path)
        if confirmed is None:
            return "no trial could be confirmed; see the failures in the report"
        listen(journal.append("confirmed", **confirmed))
    return None
