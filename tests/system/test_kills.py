"""Processes killed for real, at random moments: the sweep goes on, and nothing is lost or done twice."""

import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from commands import QUIET, TOY, kill, run, start, toy_file, wait_for

from raysweep.journal import FILE, Journal, Record, records
from raysweep.space import compile_space
from raysweep.spec import SweepSpec
from raysweep.sweep import Sweep
from raysweep.yaml_file import Place


def decisions(found: list[Record]) -> list[tuple[object, ...]]:
    kept = [record for record in found if record["kind"] in ("decided", "finished")]
    return [(r["trial"], r["step"], r.get("action"), r.get("rank"), r.get("outcome"), r.get("value")) for r in kept]


def replayed(found: list[Record], folder: Path) -> list[Record]:
    """An uninterrupted sweep, in which the same reports arrive in the same order."""
    journal = Journal(folder / FILE)
    journal.append("sweep", **{key: value for key, value in found[0].items() if key not in ("kind", "time")})
    spec = SweepSpec.model_validate(found[0]["spec"])
    sweep = Sweep(spec, compile_space(spec.space, spec.constraints, Place()), journal)
    for record in found[1:]:
        event = {key: value for key, value in record.items() if key not in ("time", "trial", "attempt")}
        if record["kind"] == "asked":
            trial = sweep.next()
            assert not isinstance(trial, str)
            assert (trial.id, trial.config, trial.seed) == (record["trial"], record["config"], record["seed"])
        elif (
            record["kind"] == "failed"
        ):  # the recipe never fails here: a process was lost, for good if killed too often
            sweep.lost(record["trial"], record["error"], record["again"])
        elif record["kind"] in ("started", "reported", "saved", "opened", "evaluated") or (
            record.get("outcome") == "complete"
        ):
            sweep.receive(record["trial"], [event])
    return records(folder / FILE)


def assert_whole(found: list[Record], folder: Path) -> None:
    asked = [record["trial"] for record in found if record["kind"] == "asked"]
    finished = [record["trial"] for record in found if record["kind"] == "finished"]
    assert len(set(asked)) == len(asked) == 14  # 10 of the search, a finalist and a reference on two seeds
    assert sorted(finished) == sorted(asked)
    reported = Counter((record["trial"], record["step"]) for record in found if record["kind"] == "reported")
    assert set(reported.values()) == {1}
    saved: dict[str, int] = {}
    for record in found:
        if record["kind"] == "saved":
            saved[record["trial"]] = record["step"]
        if record["kind"] == "started":
            assert record["step"] >= saved.get(record["trial"], 0)  # never from the start where a checkpoint is
    assert decisions(replayed(found, folder)) == decisions(found)
    assert found[-1]["kind"] == "ended"
    assert found[-1]["complete"]


@pytest.mark.parametrize("whom", ["driver", "trial", pytest.param("both", marks=pytest.mark.slow)])
def test_kill_nine_at_random_moments(tmp_path: Path, whom: str) -> None:
    rng = np.random.default_rng(list(whom.encode()))
    folder = tmp_path / "sweep"
    process = start("run", toy_file(tmp_path), "--dir", folder, *QUIET, cwd=tmp_path)
    for _ in range(2 if whom != "trial" else 3):
        size = len(records(folder / FILE)) if (folder / FILE).exists() else 0
        more = size + int(rng.integers(6, 25))
        found = wait_for(folder, lambda found, more=more: len(found) >= more or _over(found), process)  # type: ignore[misc]
        time.sleep(float(rng.uniform(0, 0.1)))
        if whom in ("trial", "both"):
            kill(next(record["process"] for record in reversed(found) if record["kind"] == "started"))
        if whom in ("driver", "both"):
            process.kill()
            process.communicate()
            process = start("resume", folder, cwd=tmp_path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert_whole(records(folder / FILE), tmp_path / "replayed")


def _over(found: list[Record]) -> bool:
    return any(record["kind"] == "ended" for record in found)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupts_end_cleanly_and_can_be_resumed(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "sweep"
    process = start("run", toy_file(tmp_path), "--dir", folder, *QUIET, cwd=tmp_path)
    wait_for(folder, lambda found: sum(record["kind"] == "reported" for record in found) > 5, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=15)  # it takes 1.4 s; the rest is for a busy machine
    assert process.returncode == 128 + number
    assert output.strip().endswith(f"raysweep resume {folder}")
    assert "Traceback" not in output
    code, output = run("resume", folder, cwd=tmp_path)
    assert code == 0, output
    found = records(folder / FILE)
    assert_whole(found, tmp_path / "replayed")
    code, output = run("resume", folder, cwd=tmp_path)  # once more: there is nothing to go on with
    assert code == 0, output
    assert records(folder / FILE) == found


def test_three_identical_failures_stop_the_real_sweep(tmp_path: Path) -> None:
    file = toy_file(tmp_path, TOY.replace("seconds: 0.05", "trouble: raise"))  # at step 2: without rungs, all reach it
    fifo = ["--set", "scheduler.type=fifo"]
    code, output = run("run", file, "--dir", tmp_path / "sweep", *QUIET, *fifo, cwd=tmp_path)
    assert code == 1
    assert "3 trials in a row failed alike: ValueError: no luck in" in output
    assert "Traceback" not in output
    found = records(tmp_path / "sweep" / FILE)
    assert not found[-1]["complete"]


def test_a_trial_process_that_dies_by_itself_is_taken_up_again(tmp_path: Path) -> None:
    file = toy_file(tmp_path, TOY.replace("seconds: 0.05", "trouble: die"))
    fewer = ["--set", "budget.trials=2", "--set", "references={}"]
    code, output = run("run", file, "--dir", tmp_path / "sweep", *QUIET, *fewer, cwd=tmp_path)
    assert code == 0, output
    found = records(tmp_path / "sweep" / FILE)
    lost = [record for record in found if record["kind"] == "failed"]
    assert lost
    assert {record["cause"] for record in lost} == {"lost process"}
    assert all(record["again"] for record in lost)
    assert not [record for record in found if record.get("outcome") == "failed"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    process = start("run", toy_file(tmp_path), "--dir", folder, *QUIET, cwd=tmp_path)
    wait_for(folder, lambda found: len(found) > 1, process)
    code, output = run("resume", folder, cwd=tmp_path)
    assert code == 2
    assert f"is in use by process {process.pid}" in output.replace("\n", " ")
    process.terminate()
    process.communicate(timeout=10)
