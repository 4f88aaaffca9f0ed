"""The W&B end of the shipper: one run a trial, all in this process, written to offline files under DIR/track.

With `mode: online` each run's files are sent by `wandb sync` as soon as the trial is over: W&B's own live connection
can hang on finish and loses a killed process's rows, its files do not.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import wandb

from raysweep.recipe import nested
from raysweep.track.backlog import FOLDER
from raysweep.track.updates import SWEEP, Opening, Story, Update
from raysweep.track.wandb_file import Written, fragments, is_stub, read

FLUSH_SECONDS = 1.0  # by default W&B keeps up to 15 s of rows in memory
SETTLE_SECONDS = 5.0  # finish() returns a moment before the last rows are written; measured: below 0.1 s
ORPHAN_SECONDS = 10.0  # how long the writer of a killed shipper may take to notice its death; measured: below 0.5 s
SYNC_SECONDS = 60.0


class WandbSink:
    """Writes updates of trials. A kill loses the last rows of runs that are not over; `recall` writes them again."""

    def __init__(self, directory: Path, story: Story) -> None:
        self._folder, self._sweep = directory / FOLDER, story.id
        settings = story.sweep["spec"]["tracking"]["wandb"]
        self._project, self._online = settings.get("project", "raysweep"), settings.get("mode") == "online"
        self._synthetic = bool((story.sweep.get("data") or {}).get("synthetic"))
        self._openings: dict[str, tuple[Opening, dict[str, str]]] = {}
        self._written: dict[str, Written] = {}
        self._open: dict[str, Any] = {}
        self._folder.mkdir(exist_ok=True)
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            os.environ[name] = str(self._folder)
        _await_orphan(self._folder / "wandb.pid")
        self._remove_stubs()

    def recall(self, past: Sequence[Update]) -> bool:
        over = {update.run for update in past if update.last}
        for update in past:
            if update.opening:
                self._openings[update.run] = (update.opening, update.tags)
            if update.run not in over:
                self._say(update)
        return True

    def ship(self, updates: Sequence[Update]) -> None:
        for update in updates:
            self._say(update)
            if update.last and update.run in self._open:
                self._finish(update.run, failed=update.status == "failed")
        if self._online:
            self._send()

    def close(self) -> None:
        try:
            for run in list(self._open):
                self._open.pop(run).finish(exit_code=1)  # a later fragment says how it ended, if the sweep goes on
        finally:
            wandb.teardown()  # a wandb-core that met an error may hold its runs "in use" for ever

    def _say(self, update: Update) -> None:
        if update.run == SWEEP:
            return
        if update.opening:
            self._openings[update.run] = (update.opening, update.tags)
            return
        written = self._known(update.run)
        row = {point.name: point.value for point in update.points}
        step = update.points[0].step if update.points else -1
        if row and step not in written.rows:
            written.rows[step] = []
            self._run(update.run).log({**row, "_timestamp": update.time}, step=step, commit=True)
        said: dict[str, Any] = {**_texts(update.tags), **{point.name: point.value for point in update.summary}}
        if news := {key: value for key, value in said.items() if written.summary.get(key) != value}:
            written.summary |= news
            self._run(update.run).summary.update(news)

    def _known(self, run: str) -> Written:
        """What W&B has of this run, this process's part included."""
        if run not in self._written:
            self._written[run] = read(self._fragments(run))
        return self._written[run]

    def _run(self, run: str) -> Any:
        if run not in self._open:
            (self._folder / "wandb.pid").write_text(str(os.getpid()))
            self._await_next_second(run)
            self._open[run] = self._init(run, *self._openings[run])
        return self._open[run]

    def _init(self, run: str, opening: Opening, tags: dict[str, str]) -> Any:
        settings = wandb.Settings(
            mode="offline",
            root_dir=str(self._folder),
            console="off",
            silent=True,
            disable_git=True,
            disable_job_creation=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            x_transaction_log_flush_interval=FLUSH_SECONDS,
        )
        return wandb.init(
            project=self._project,
            id=self._id(run),
            name=opening.name,
            group=self._sweep,
            job_type=opening.role,
            config={**nested(opening.params), "raysweep": _texts(tags)},
            tags=[opening.role, "synthetic"] if self._synthetic else [opening.role],
            reinit="create_new",
            dir=str(self._folder),
            settings=settings,
        )

    def _finish(self, run: str, failed: bool) -> None:
        """End the run and look whether its rows are in the files: W&B reports no error on a full disk."""
        self._open.pop(run).finish(exit_code=int(failed))
        wanted, deadline = self._written.pop(run).rows.keys(), time.monotonic() + SETTLE_SECONDS
        while (lost := wanted - read(self._fragments(run)).rows.keys()) and time.monotonic() < deadline:
            time.sleep(0.02)
        if lost:
            raise OSError(f"W&B's files lack {len(lost)} rows of {run}; is the disk full? See {self._folder}/wandb")

    def _send(self) -> None:
        running = {self._id(run) for run in self._open}
        for file in sorted(self._folder.glob(f"wandb/offline-run-*/run-{self._sweep}-*.wandb")):
            if file.stem.removeprefix("run-") not in running and not _marker(file).exists():
                _sync(file)

    def _fragments(self, run: str) -> list[Path]:
        return fragments(self._folder, self._id(run))

    def _id(self, run: str) -> str:
        return f"{self._sweep}-{run}"

    def _await_next_second(self, run: str) -> None:
        """Folders of fragments are named by the second: two in one second would be one, and the first overwritten."""
        while any(time.strftime("%Y%m%d_%H%M%S") in file.parent.name for file in self._fragments(run)):
            time.sleep(0.05)

    def _remove_stubs(self) -> None:
        for file in filter(is_stub, self._folder.glob(f"wandb/offline-run-*/run-{self._sweep}-*.wandb")):
            file.unlink()


def _texts(tags: dict[str, str]) -> dict[str, str]:
    """Our own tags; those of MLflow are for MLflow."""
    return {key: value for key, value in tags.items() if not key.startswith("mlflow.")}


def _marker(file: Path) -> Path:
    return file.with_name(f"{file.name}.synced")


def _sync(file: Path) -> None:
    command = [sys.executable, "-m", "wandb", "sync", str(file.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SYNC_SECONDS, check=False)
    if not _marker(file).exists():  # the exit status is 1 also for a run that was killed, though it was sent
        said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise RuntimeError(f"wandb sync {file.parent.name}: {said[-1]}")


def _await_orphan(pid_file: Path) -> None:
    """The wandb-core of a killed shipper still writes for a moment; rows must not be counted before it is gone."""
    if not pid_file.exists():
        return
    owner, deadline = pid_file.read_text(), time.monotonic() + ORPHAN_SECONDS
    while time.monotonic() < deadline and any(_serves(command, owner) for command in _commands()):
        time.sleep(0.05)


def _commands() -> Iterable[list[str]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue


def _serves(command: list[str], owner: str) -> bool:
    return (
        "wandb-core" in command[0] and owner in command[command.index("--pid") + 1 :] if "--pid" in command else False
    )
