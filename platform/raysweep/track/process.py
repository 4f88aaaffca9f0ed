"""The shipper's process: beside the sweep, in its own session, under a lock; and what others may ask of it."""

import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import raysweep
from raysweep import journal
from raysweep.problems import UserError
from raysweep.track.backlog import FOLDER, Backlog, backlog
from raysweep.track.lock import Taken, hold
from raysweep.track.shipper import MakeSink, Shipment, Worker
from raysweep.track.tail import first_record
from raysweep.track.updates import Story

FINAL_SECONDS = 20.0  # a shipper that is told to finish tries on for so long without progress
SYNC_SECONDS = 20.0  # the same for `sync`, where somebody waits
HUNG_SECONDS = 15.0  # more than the trackers' own timeouts: a thread that is still in a call then is left behind
LINGER = 10.0  # seconds that a shipper waits for the report after the sweep's end, if nobody tells it to finish
SYNC_LOCK_SECONDS = 40.0  # `sync` waits so long for a shipper in its final pass
LOCK_SECONDS = 90.0  # a shipper waits so long for its predecessor, which may be in its final pass
# MLflow's own retries are off: the client would hang in them for minutes, and a repeated POST can create a run twice.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def start_shipper(directory: Path) -> subprocess.Popen[bytes]:
    """Start the shipper of a sweep's folder. It finishes when its stdin is closed, or when this process dies."""
    directory = directory.resolve()
    (directory / FOLDER).mkdir(exist_ok=True)
    ours, given = str(Path(raysweep.__file__).parents[1]), os.environ.get("PYTHONPATH")
    path = f"{ours}{os.pathsep}{given}" if given else ours
    # A sweep's process that uses W&B itself names its wandb-core there; the shipper's must not end with it.
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    with (directory / FOLDER / "shipper.log").open("ab") as said:
        shipper = subprocess.Popen(
            [sys.executable, "-m", "raysweep.track", str(directory), "--parent", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            cwd="/",
            env={"OMP_NUM_THREADS": "1", **ENVIRONMENT, **inherited, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C in the terminal is for the sweep; the shipper ends after it
        )
    (directory / FOLDER / "shipper.pid").write_text(str(shipper.pid))
    return shipper


@contextmanager
def shipping(directory: Path) -> Iterator[None]:
    """A shipper runs while this block does; it is told to finish at the block's end, and not waited for."""
    shipper = start_shipper(directory)
    assert shipper.stdin is not None
    try:
        yield
    finally:
        shipper.stdin.close()


def drain(directory: Path, timeout: float) -> Backlog:
    """Wait until a shipper that was told to finish has ended, or so many seconds; what is left then."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and _alive(directory / FOLDER / "shipper.pid"):
        time.sleep(0.1)
    return status(directory)


def status(directory: Path) -> Backlog:
    """What each sink of this sweep still owes its tracker."""
    return backlog(directory, list(sinks(first_record(directory / journal.FILE)["spec"])))


def sync(directory: Path) -> Backlog:
    """Ship all that is missing, in this process; what could not be shipped. Raises UserError when a shipper runs."""
    directory = directory.resolve()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with only_one(directory, SYNC_LOCK_SECONDS):
        workers = _start(directory)
        _finish(workers, SYNC_SECONDS)
    return status(directory)


def serve(directory: Path, parent: int | None) -> None:
    """Ship until the sweep is over, or until told to finish: by SIGTERM, or by the parent's end."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("raysweep").setLevel(logging.INFO)
    with only_one(directory, LOCK_SECONDS):
        workers, over_since = _start(directory), None
        while not told.wait(0.2) and not _abandoned(parent):
            over_since = (over_since or time.monotonic()) if _over(workers) else None
            if over_since and time.monotonic() > over_since + LINGER:
                break
        _finish(workers, FINAL_SECONDS)
    if any(worker.is_alive() for worker in workers):
        os._exit(1)  # a call that never returns would keep the interpreter from ending


def sinks(spec: dict[str, Any]) -> dict[str, MakeSink]:
    """The sinks that a sweep's spec asks for. A tracker is imported when its sink is made, not before."""
    tracking = spec.get("tracking") or {}
    made: dict[str, MakeSink] = {}
    if tracking.get("mlflow", {}).get("enabled", True):
        made["mlflow"] = _make_mlflow
    if tracking.get("wandb", {}).get("mode", "offline") != "disabled":
        made["wandb"] = _make_wandb
    return made


@contextmanager
def only_one(directory: Path, patience: float) -> Iterator[None]:
    """Hold DIR/track/lock, so that no two processes ship one sweep. Raises UserError after `patience` seconds."""
    try:
        with hold(directory / FOLDER / "lock", patience):
            yield
    except Taken as holder:
        raise UserError(f"{directory}: process {holder} is shipping this sweep already") from None


def _make_mlflow(directory: Path, story: Story) -> Any:
    from raysweep.track.mlflow import MlflowSink

    return MlflowSink(directory, story)


def _make_wandb(directory: Path, story: Story) -> Any:
    from raysweep.track.wandb import WandbSink

    return WandbSink(directory, story)


def _start(directory: Path) -> list[Worker]:
    spec = first_record(directory / journal.FILE)["spec"]
    workers = [Worker(Shipment(directory, name, make)) for name, make in sinks(spec).items()]
    for worker in workers:
        worker.start()
    return workers


def _finish(workers: Sequence[Worker], patience: float) -> None:
    """Let all workers ship what is there; those that are lost in a call that does not return are left behind."""
    for worker in workers:
        worker.finish(patience)
    while any(worker.is_alive() and worker.idle < patience + HUNG_SECONDS for worker in workers):
        time.sleep(0.1)
    for worker in workers:
        if worker.is_alive():
            worker.shipment.note(f"no answer for {worker.idle:.0f} s")


def _over(workers: Sequence[Worker]) -> bool:
    return all(worker.shipment.over for worker in workers)


def _abandoned(parent: int | None) -> bool:
    """Whether the sweep's process died, or closed its end of our stdin to say that nothing more will come."""
    if parent is None:
        return False
    closed = bool(select.select([sys.stdin], [], [], 0)[0])  # nobody writes to it: readable means closed
    return closed or os.getppid() != parent


def _alive(pid_file: Path) -> bool:
    try:
        pid = int(pid_file.read_text())
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    except ChildProcessError:  # started by another process
        return _running(pid)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
