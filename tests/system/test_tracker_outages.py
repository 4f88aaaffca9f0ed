"""Trackers that die, hang and come back, and shippers that are killed: nothing is missing, nothing is doubled."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep import track
from raysweep.journal import FILE, records
from raysweep.problems import UserError
from raysweep.track import process
from raysweep.track.process import start_shipper
from raysweep.track.updates import sweep_id
from raysweep.track.wandb_file import Written, fragments, read
from tests import journals
from tests.mlflow_server import Server, assert_complete, serving

QUIET = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "server") as running:
        yield running


def written(directory: Path, trial: str) -> Written:
    """What W&B's offline files hold of a trial."""
    sweep = sweep_id(records(directory / FILE)[0])
    return read(fragments(directory / "track", f"{sweep}-{trial}"))


def assert_complete_in_wandb(directory: Path) -> None:
    """Each reported step of each trial stands in W&B's files once, with its values and its time."""
    for trial in {record["trial"] for record in records(directory / FILE) if record["kind"] == "asked"}:
        rows = written(directory, trial).rows
        assert all(len(copies) == 1 for copies in rows.values()), (trial, rows)
        found = [r for r in records(directory / FILE) if r["kind"] == "reported" and r["trial"] == trial]
        assert sorted(rows) == [record["step"] for record in found]
        for record in found:
            [row] = rows[record["step"]]
            assert row["spearman"] == pytest.approx(record["metrics"]["spearman"])
            assert row["_timestamp"] == pytest.approx(record["time"])


def wait_until_shipped(directory: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not (left := track.status(directory)).empty:
        assert time.monotonic() < deadline, f"{left}\n{(directory / 'track' / 'shipper.log').read_text()[-3000:]}"
        time.sleep(0.1)


def unshipped(directory: Path) -> dict[str, int]:
    return {sink.sink: sink.unshipped for sink in track.status(directory).sinks}


def test_a_shipper_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    directory, rng = tmp_path / "sweeps" / "tiny", random.Random(11)
    events = journals.sweep("tiny", 16)
    journals.write(directory, events[:20])
    for part in range(3):
        shipper = start_shipper(directory)
        journals.write(directory, events[20 + 30 * part : 50 + 30 * part])
        time.sleep(2.0 + rng.random())  # imports take 2 s; then it is in the middle of shipping
        shipper.kill()
        shipper.wait()
    journals.write(directory, events[110:])
    with track.shipping(directory):
        wait_until_shipped(directory)
    assert track.drain(directory, 30).empty
    assert_complete(f"sqlite:///{tmp_path / 'sweeps' / 'mlflow.db'}", directory)
    assert_complete_in_wandb(directory)


def test_a_server_that_dies_and_one_that_hangs_hold_up_neither_sweep_nor_wandb(server: Server, tmp_path: Path) -> None:
    directory, tracking = tmp_path / "sweeps" / "tiny", {"mlflow": {"uri": server.uri}}
    events = journals.sweep("tiny", 8, tracking)
    journals.write(directory, events[:30])
    with track.shipping(directory):
        wait_until_shipped(directory)
        server.kill()
        journals.write(directory, events[30:50])
        await_wandb_alone(directory)
        server.start()
        wait_until_shipped(directory)
        server.signal(signal.SIGSTOP)
        journals.write(directory, events[50:])
        await_wandb_alone(directory)
        time.sleep(2.5)  # beyond the client's timeout: its request is answered after it gave up
        server.signal(signal.SIGCONT)
        wait_until_shipped(directory)
    assert track.drain(directory, 30).empty
    assert_complete(server.uri, directory)
    assert_complete_in_wandb(directory)


def await_wandb_alone(directory: Path) -> None:
    deadline = time.monotonic() + 30
    while unshipped(directory)["wandb"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert unshipped(directory)["mlflow"] > 0


@pytest.mark.slow
def test_a_sweep_whose_tracker_was_never_there_is_synced_later(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SYNC_LOCK_SECONDS", 1.0)
    directory, tracking = tmp_path / "sweeps" / "tiny", {"mlflow": {"uri": server.uri}, "wandb": {"mode": "disabled"}}
    server.kill()
    journals.write(directory, journals.sweep("tiny", 2, tracking))
    shipper = start_shipper(directory)
    time.sleep(4)
    assert unshipped(directory)["mlflow"] > 0
    with pytest.raises(UserError, match=f"process {shipper.pid} is shipping"):
        track.sync(directory)
    shipper.kill()
    shipper.wait()
    server.start()
    assert track.sync(directory).empty
    assert_complete(server.uri, directory)


def test_a_shipper_finishes_when_the_sweeps_process_dies(tmp_path: Path) -> None:
    directory = journals.write(tmp_path / "sweeps" / "tiny", journals.sweep("tiny", 2)[:20])
    script = (
        "import os, sys, pathlib\n"
        "from raysweep.track import start_shipper\n"
        "print(start_shipper(pathlib.Path(sys.argv[1])).pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(directory)], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL
    left = track.drain(directory, 60)
    assert left.empty, left
    assert not Path(f"/proc/{died.stdout.strip()}/cmdline").exists() or not _is_shipper(int(died.stdout))
    assert_complete(f"sqlite:///{tmp_path / 'sweeps' / 'mlflow.db'}", directory)


def _is_shipper(process: int) -> bool:
    return b"raysweep.track" in Path(f"/proc/{process}/cmdline").read_bytes()


@pytest.mark.slow
def test_online_runs_wait_in_their_files_while_wandb_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the port of `discard`: nobody listens
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    tracking = {"mlflow": {"enabled": False}, "wandb": {"mode": "online"}}
    directory = journals.write(tmp_path / "sweeps" / "tiny", journals.sweep("tiny", 1, tracking))
    [owed] = track.sync(directory).sinks
    assert owed.unshipped > 0
    assert owed.error
    assert sorted(written(directory, "t0000").rows) == [1, 2, 3, 4]


def test_wandb_can_read_its_own_files_back(tmp_path: Path) -> None:
    tracking = {"mlflow": {"enabled": False}}
    directory = journals.write(tmp_path / "sweeps" / "tiny", journals.sweep("tiny", 2, tracking))
    assert track.sync(directory).empty
    assert_complete_in_wandb(directory)
    trial = written(directory, "t0002")
    assert trial.summary["raysweep.outcome"] == "complete"
    assert trial.summary["report/spearman"] == pytest.approx(0.72)
    sweep = sweep_id(records(directory / FILE)[0])
    [file, *_] = fragments(directory / "track", f"{sweep}-t0000")
    shown = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(file)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **QUIET, "WANDB_CONFIG_DIR": str(tmp_path)},
    ).stdout
    assert "raysweep.outcome" in shown
    assert "synthetic" in file.read_bytes().decode(errors="replace")


def test_stubs_of_killed_writers_are_removed(tmp_path: Path) -> None:
    tracking = {"mlflow": {"enabled": False}}
    directory = journals.write(tmp_path / "sweeps" / "tiny", journals.sweep("tiny", 2, tracking))
    run = f"{sweep_id(records(directory / FILE)[0])}-t0000"
    stub = directory / "track" / "wandb" / f"offline-run-20200101_000000-{run}" / f"run-{run}.wandb"
    stub.parent.mkdir(parents=True)
    stub.write_bytes(b":W&B\xe1\xbe\x00")
    assert track.sync(directory).empty
    assert not stub.exists()
    assert_complete_in_wandb(directory)


@pytest.mark.slow
def test_a_full_disk_is_told_and_made_good(tmp_path: Path) -> None:
    """The trackers' folder is on a disk of 1 MB; W&B itself reports no error on a full disk."""
    directory, small = tmp_path / "sweeps" / "tiny", tmp_path / "sweeps" / "tiny" / "track"
    small.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        journals.write(directory, journals.sweep("tiny", 8, {"mlflow": {"enabled": False}}))
        filler = small / "filler"
        filler.write_bytes(b"\0" * (900 * 1024))
        with track.shipping(directory):
            time.sleep(12)
            [owed] = track.status(directory).sinks
            assert owed.unshipped > 0
            filler.unlink()
            subprocess.run(["mount", "-o", "remount,size=50m", str(small)], check=True)
            wait_until_shipped(directory)
        assert track.drain(directory, 30).empty
        assert_complete_in_wandb(directory)
    finally:
        shutil.rmtree(small, ignore_errors=True)
        subprocess.run(["umount", "-l", str(small)], check=True)
