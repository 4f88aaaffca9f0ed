"""Sizes, times, memory and where a sweep ran, on doubles of a model and with real files, processes and git."""

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from raysweep import measure
from raysweep.measure import Latency, Sizes, commit, folder_bytes, interleaved_latency, latency, machine, sizes


@dataclass
class Parameter:
    values: list[float]
    requires_grad: bool = True

    def numel(self) -> int:
        return len(self.values)

    def count_nonzero(self) -> np.int64:
        return np.count_nonzero(self.values)


class Model:
    def named_parameters(self) -> list[tuple[str, Parameter]]:
        return [
            ("encoder.embeddings.word", Parameter([1, 2, 0, 4], requires_grad=False)),
            ("encoder.layer.0.weight", Parameter([1, 0, 0])),
            ("encoder.layer.0.bias", Parameter([5, 6])),
            ("adapter.weight", Parameter([7])),
        ]


def test_parameters_are_counted_by_part_and_the_parts_add_up() -> None:
    found = sizes(Model(), embedding=["encoder.embeddings."], encoder=["encoder."])
    assert found == Sizes(total=10, trainable=6, nonzero=7, embedding=4, encoder=5, head=1)


def test_without_prefixes_everything_is_head() -> None:
    assert sizes(Model(), embedding=[], encoder=[]).head == 10


def test_a_folder_weighs_what_its_files_do(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "deep" / "er" / "b").write_bytes(b"123")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert folder_bytes(tmp_path) == 8


class Clock:
    """A clock that only work moves on, by the next of the given seconds."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, list[str]()

    def work(self, name: str, seconds: list[float]) -> None:
        self.calls.append(name)
        self.now += seconds.pop(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock.now)
    return clock


def test_latency_leaves_out_warmup_and_takes_percentiles(clock: Clock) -> None:
    seconds = [9.0, 9.0, *[count / 1000 for count in range(1, 22)]]
    found = latency(lambda: clock.work("a", seconds), warmup=2, repeats=21)
    assert found == Latency(p50_ms=pytest.approx(11), p95_ms=pytest.approx(20), mean_ms=pytest.approx(11), repeats=21)


def test_calls_are_timed_in_turns(clock: Clock) -> None:
    fast, slow = [0.5, 0.001, 0.002, 0.003], [0.5, 0.010, 0.020, 0.030]
    calls = {"fast": lambda: clock.work("fast", fast), "slow": lambda: clock.work("slow", slow)}
    found = interleaved_latency(calls, warmup=1, repeats=3)
    assert clock.calls == ["fast", "slow"] * 4
    assert {name: one.p50_ms for name, one in found.items()} == pytest.approx({"fast": 2, "slow": 20})


def test_peak_memory_is_what_the_process_itself_once_held() -> None:
    script = (
        "from raysweep.measure import peak_memory_mb\n"
        "before = peak_memory_mb(); block = b'x' * 150_000_000; del block\n"
        "print(before, peak_memory_mb())"
    )
    held = b"x" * 300_000_000  # by the parent, which is not the child's
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, after = (float(number) for number in done.stdout.split())
    assert before < len(held) / 1e6
    assert after - before == pytest.approx(150, rel=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="the system must tell")
def test_a_peak_that_is_forgotten_begins_with_what_is_held() -> None:
    script = (
        "from raysweep.measure import forget_peak_memory, peak_memory_mb\n"
        "block = b'x' * 300_000_000; del block; before = peak_memory_mb()\n"
        "assert forget_peak_memory(); block = b'x' * 100_000_000; print(before, peak_memory_mb())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, after = (float(number) for number in done.stdout.split())
    assert before - after == pytest.approx(200, rel=0.1)


def test_a_machine_is_described_in_json() -> None:
    found = machine()
    assert set(found) == {"cpu", "cores", "memory", "gpu", "python", "torch", "transformers", "ray"}
    assert json.loads(json.dumps(found)) == found
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["memory"] > 0
    assert found["python"] == platform.python_version()


def test_the_gpu_is_what_the_driver_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine()["gpu"] is None
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Model A'\necho 'Model B'\n")
    tool.chmod(0o755)
    assert machine()["gpu"] == "Model A, Model B"
    tool.write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert machine()["gpu"] is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_commit_says_whether_anything_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit(tmp_path) is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        assert commit(tmp_path) is None
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    sha = subprocess.run(["git", "-C", tmp_path, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert commit(tmp_path) == sha.stdout.strip()
    (tmp_path / "new").touch()
    assert commit(tmp_path) == sha.stdout.strip() + "+dirty"
