"""What a block of work takes, by counters that the test moves, and the file that says so."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from raysweep import resource_usage
from raysweep.energy import NO_GPU, GpuSample
from raysweep.resource_usage import Meter, ResourceUsage, write_resource_usage
from tests.counters import domain

NEVER = 3600.0  # seconds between the thread's looks, so that the test looks itself


class FakeGpu:
    """Tells the given samples, then the last of them."""

    def __init__(self, *samples: GpuSample) -> None:
        self._samples = itertools.chain(samples, itertools.repeat(samples[-1]))

    def sample(self) -> GpuSample:
        return next(self._samples)


def meter(folder: Path, gpus: Sequence[FakeGpu] = (), reason: str | None = NO_GPU, **changes: Any) -> Meter:
    found: Any = (list(gpus), None if gpus else reason)
    given = {"powercap": folder, "stat": folder / "stat", "gpus": lambda: found, "seconds_between": NEVER, **changes}
    return Meter(**given)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, which the test sets."""
    now = [100.0]
    monkeypatch.setattr(resource_usage.time, "perf_counter", lambda: now[0])
    return now


def test_joules_seconds_load_and_throughput_are_those_of_the_block(tmp_path: Path, clock: list[float]) -> None:
    counter, stat = domain(tmp_path, "intel-rapl:0", "package-0", 4_000_000, most=9_999_999), tmp_path / "stat"
    stat.write_text("cpu 100 0 100 800 0 0 0 0\n")
    with meter(tmp_path) as found:
        found.count(30)
        counter.write_text("9000000")
        found.look()
        counter.write_text("3000000")  # the counter has started anew
        found.count(20)
        stat.write_text("cpu 130 0 100 860 10 0 0 0\n")
        clock[0] += 4
    usage = found.usage
    assert usage.energy_processor_joules == usage.energy_joules == 9.0
    assert (usage.duration_seconds, usage.samples, usage.samples_per_second) == (4.0, 50, 12.5)
    assert usage.processor_utilisation_percent == 30.0
    assert usage.peak_memory_mb > 10
    assert set(usage.reasons) == {"energy_gpu_joules", "peak_gpu_memory_mb", "gpu_utilisation_percent"}
    assert set(usage.reasons.values()) == {NO_GPU}


PEAKS = """
from raysweep.resource_usage import Meter
before = bytes(bytearray(400_000_000))
del before
with Meter() as first:
    pass
with Meter() as second:
    held = bytearray(200_000_000)
    held[::4096] = b"x" * len(held[::4096])
print(first.usage.peak_memory_mb, second.usage.peak_memory_mb)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system must tell")
def test_the_peak_is_the_blocks_own() -> None:
    # In a process of its own: another test's trial may have told the allocator here to keep what is freed.
    told = subprocess.run([sys.executable, "-c", PEAKS], check=True, capture_output=True, text=True).stdout
    first, second = (float(one) for one in told.split())
    assert second - first == pytest.approx(200, rel=0.2)


def test_gpus_are_added_up_and_the_first_look_is_no_part_of_the_load(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0")
    first = FakeGpu(GpuSample(100, 500, 99), GpuSample(110, 900, 40), GpuSample(130, 600, 20))
    second = FakeGpu(GpuSample(7, 50, 99), GpuSample(8, 70, 10), GpuSample(9.5, 80, 30))
    with meter(tmp_path, [first, second]) as found:
        found.look()
    usage = found.usage
    assert (usage.energy_gpu_joules, usage.energy_joules) == (32.5, 32.5)
    assert (usage.peak_gpu_memory_mb, usage.gpu_utilisation_percent) == (970, 25)
    with meter(tmp_path, [first], peak_gpu_memory_mb=lambda: 123.0) as found:
        pass
    assert found.usage.peak_gpu_memory_mb == 123.0


@pytest.mark.parametrize(
    ("rapl", "gpu", "reason", "total"),
    [
        (False, None, NO_GPU, "no RAPL counters readable, no GPU"),
        (False, 5.0, None, "no RAPL counters readable"),
        (True, None, NO_GPU, None),  # all that there is was measured
        (True, None, "nvidia-ml-py is not installed", "nvidia-ml-py is not installed"),
        (True, "old", None, "the GPU does not tell"),
    ],
)
def test_a_sum_that_lacks_a_part_is_none(
    tmp_path: Path, rapl: bool, gpu: float | str | None, reason: str | None, total: str | None
) -> None:
    if rapl:
        domain(tmp_path, "intel-rapl:0", "package-0")
    joules = None if gpu == "old" else 5.0
    with meter(tmp_path, [FakeGpu(GpuSample(joules, 1, 1))] if gpu else [], reason) as found:
        pass
    assert found.usage.reasons.get("energy_joules") == total
    assert (found.usage.energy_joules is None) == (total is not None)


def test_the_thread_looks_while_the_block_runs_and_ends_with_it(tmp_path: Path) -> None:
    counter = domain(tmp_path, "intel-rapl:0", "package-0", most=9_999_999)
    looked = threading.Event()

    class Watched(FakeGpu):
        def sample(self) -> GpuSample:
            if threading.current_thread() is not threading.main_thread() and counter.read_text() == "8000000":
                looked.set()
            return super().sample()

    with meter(tmp_path, [Watched(GpuSample(1, 1, 1))], seconds_between=0.001) as found:
        counter.write_text("8000000")
        assert looked.wait(20)
        counter.write_text("1000000")
    assert found.usage.energy_processor_joules == 11.0
    assert "resource meter" not in {thread.name for thread in threading.enumerate()}


def test_counters_that_vanish_are_not_measured(tmp_path: Path) -> None:
    counter = domain(tmp_path, "intel-rapl:0", "package-0")
    with meter(tmp_path) as found:
        counter.unlink()
    assert found.usage.energy_joules is None
    assert found.usage.reasons["energy_joules"].startswith("RAPL: ")


def test_a_block_that_fails_is_told_of_too(tmp_path: Path) -> None:
    found = meter(tmp_path)
    with pytest.raises(ValueError, match="no luck"), found:
        raise ValueError("no luck")
    assert found.usage.samples == 0
    assert found.usage.reasons["samples_per_second"] == "no samples were counted"
    assert found.usage.reasons["processor_utilisation_percent"] == "no /proc/stat"


def test_this_machine_is_metered() -> None:
    with Meter() as found:
        time.sleep(0.05)
        found.count(10)
    usage = found.usage
    assert usage.duration_seconds >= 0.05
    assert usage.samples_per_second == pytest.approx(10 / usage.duration_seconds)
    for name, value in usage.values().items():
        assert (value is None) == (name in usage.reasons)
    load = usage.processor_utilisation_percent
    assert load is None or 0 <= load <= 100


USAGE = ResourceUsage(
    duration_seconds=12.3456789,
    samples=50,
    samples_per_second=4.05,
    energy_joules=None,
    energy_processor_joules=None,
    energy_gpu_joules=1e-7,
    peak_memory_mb=900.0,
    peak_gpu_memory_mb=None,
    processor_utilisation_percent=25.0,
    gpu_utilisation_percent=None,
    reasons={"energy_joules": "no RAPL counters readable, no GPU"},
)


def test_the_file_has_units_and_says_what_was_not_measured(tmp_path: Path) -> None:
    serving = {"latency_p50_ms": 3.0, "load_ms": None, "joules": None, "device": "cpu"}
    path = write_resource_usage(tmp_path, USAGE, serving, {"joules": NO_GPU})
    assert [file.name for file in tmp_path.iterdir()] == ["resource_usage.yaml"] == [path.name]
    groups = YAML(typ="safe").load(path)
    assert list(groups) == ["training", "serving"]
    told = groups["training"]
    assert list(told) == [*USAGE.values()]
    assert told["duration_seconds"] == 12.3457
    assert told["energy_gpu_joules"] == 1e-7
    assert told["energy_joules"] == "not measured: no RAPL counters readable, no GPU"
    assert (told["samples"], told["peak_gpu_memory_mb"]) == (50, "not measured")
    assert groups["serving"] == serving | {"load_ms": "not measured", "joules": f"not measured: {NO_GPU}"}


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    path = write_resource_usage(tmp_path, USAGE)
    before = path.read_text()
    with pytest.raises(AssertionError):
        write_resource_usage(tmp_path, USAGE, {"latency_p50_ms": float("nan")})
    assert path.read_text() == before
    write_resource_usage(tmp_path, USAGE, {"latency_p50_ms": 1.0})
    assert path.read_text() == before + "serving:\n  latency_p50_ms: 1.0\n"


def test_a_report_carries_what_was_measured() -> None:
    assert USAGE.metrics() == {
        "resources.duration_seconds": 12.3456789,
        "resources.samples": 50.0,
        "resources.samples_per_second": 4.05,
        "resources.energy_gpu_joules": 1e-7,
        "resources.peak_memory_mb": 900.0,
        "resources.processor_utilisation_percent": 25.0,
    }
