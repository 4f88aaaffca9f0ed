"""Counters of energy and load, on folders and a library as the kernel and the driver make them."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep import energy, hardware
from raysweep.energy import NO_GPU, NO_NVML, POWERCAP, GpuSample, gpus_of, nvml_gpus, packages, processor_ticks
from raysweep.hardware import Gpu
from tests.counters import domain


def test_packages_alone_are_counted(tmp_path: Path) -> None:
    first = domain(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 7)
    others = [
        domain(tmp_path, "intel-rapl:0:0", "core"),
        domain(tmp_path, "intel-rapl:0/intel-rapl:0:1", "dram"),
        domain(tmp_path, "intel-rapl:2", "psys"),
        domain(tmp_path, "intel-rapl-mmio:0", "package-0"),  # the same package again
    ]
    (tmp_path / "intel-rapl").mkdir()
    found = packages(tmp_path)
    for counter in (*others, first):
        counter.write_text("8500000\n")
    second.write_text("1000007\n")
    assert [package.joules() for package in found] == [3.5, 1.0]


@given(
    st.integers(2, 10**12).flatmap(
        lambda most: st.tuples(st.just(most), st.integers(0, most), st.lists(st.integers(0, most), max_size=20))
    )
)
def test_a_counter_that_starts_anew_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[int, int, list[int]]
) -> None:
    most, start, steps = drawn  # from one look to the next at most one round
    powercap = tmp_path_factory.mktemp("powercap")
    counter = domain(powercap, "intel-rapl:0", "package-0", start, most)
    (package,) = packages(powercap)
    now = start
    for step in steps:
        now = (now + step) % (most + 1)  # `max_energy_range_uj` is the last value before 0
        counter.write_text(str(now))
        package.joules()
    assert package.joules() == sum(steps) / 1e6


def test_unless_all_packages_can_be_read_there_are_none(tmp_path: Path) -> None:
    assert packages(tmp_path / "absent") == []
    domain(tmp_path, "intel-rapl:0", "package-0")
    counter = domain(tmp_path, "intel-rapl:1", "package-1")
    counter.unlink()
    counter.mkdir()  # reading it fails, for root too
    assert packages(tmp_path) == []


@pytest.mark.skipif(not packages(), reason="no RAPL counters readable")
def test_this_machines_counters_go_up() -> None:
    found = packages(POWERCAP)
    before = sum(package.joules() for package in found)
    while (after := sum(package.joules() for package in found)) == before:
        pass
    assert after > before


class NVMLError(Exception):
    """What the library raises."""


class Nvml:
    """The library with GPUs of these facts: an answer that is None is an error."""

    NVMLError = NVMLError

    def __init__(self, *gpus: dict[str, Any], driver: bool = True) -> None:
        self.gpus, self.driver = gpus, driver

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:  # noqa: N802
        return self.gpus[index]

    def __getattr__(self, name: str) -> Any:
        def answer(handle: dict[str, Any]) -> Any:
            if handle.get(name) is None:
                raise NVMLError("Not Supported")
            return handle[name]

        return answer


def gpu(
    uuid: str | bytes = "GPU-a", millijoules: int | None = 0, used: int = 0, load: int | None = 0
) -> dict[str, Any]:
    return {
        "nvmlDeviceGetUUID": uuid,
        "nvmlDeviceGetTotalEnergyConsumption": millijoules,
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=used),
        "nvmlDeviceGetUtilizationRates": None if load is None else SimpleNamespace(gpu=load),
    }


@pytest.fixture(autouse=True)
def all_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_gpu_tells_joules_megabytes_and_percent() -> None:
    found, reason = gpus_of(
        Nvml(gpu(millijoules=12_500, used=3_000_000_000, load=40), gpu(millijoules=None, load=None))
    )
    assert [one.sample() for one in found] == [GpuSample(12.5, 3000.0, 40.0), GpuSample(None, 0.0, None)]
    assert reason is None


def test_only_this_processes_gpus_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(gpu("GPU-a"), gpu(b"GPU-b"), gpu("GPU-c"))
    for allowed, left in (("1", ["GPU-b"]), ("GPU-c,0", ["GPU-c", "GPU-a"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
        assert [one.uuid for one in gpus_of(nvml)[0]] == left
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_of(nvml) == ([], NO_GPU)


def test_why_no_gpu_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Gpu, ...]] = [(), (Gpu(0, "GPU-a", "A", 16, (8, 0)),)]
    for gpus, lacking, broken in zip(seen, (NO_GPU, NO_NVML), (NO_GPU, "NVML: Driver Not Loaded"), strict=True):
        monkeypatch.setattr(hardware, "gpus", lambda gpus=gpus: gpus)
        monkeypatch.setitem(sys.modules, "pynvml", None)
        assert nvml_gpus() == ([], lacking)
        monkeypatch.setitem(sys.modules, "pynvml", Nvml(driver=False))
        assert nvml_gpus() == ([], broken)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(gpu("GPU-a")))
    assert [one.uuid for one in energy.nvml_gpus()[0]] == ["GPU-a"]


def test_ticks_of_disks_are_idle_and_guests_count_once(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 2 30 400 50 6 7 8 90 1\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert processor_ticks(stat) == (100 + 2 + 30 + 6 + 7 + 8, 100 + 2 + 30 + 400 + 50 + 6 + 7 + 8)
