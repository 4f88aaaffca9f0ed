"""Counters of energy and load: the processors' by RAPL, the GPUs' by NVML. What cannot be read says why.

RAPL counts whole processor packages and NVML whole GPUs: what else runs on them is in the numbers.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep import hardware

POWERCAP = Path("/sys/class/powercap")
NO_RAPL = "no RAPL counters readable"
NO_GPU = "no GPU"
NO_NVML = "nvidia-ml-py is not installed"


class Package:
    """One processor package: joules since it was opened.

    The counter (Linux, Documentation/power/powercap) is in microjoules and starts anew behind `max_energy_range_uj`,
    which a busy server reaches in less than an hour: `joules` must be asked at least once in each round.
    """

    def __init__(self, folder: Path) -> None:
        self._counter = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._last, self._spent = self._read(), 0

    def joules(self) -> float:
        now = self._read()
        step = now - self._last
        self._spent += step if step >= 0 else step + self._range + 1
        self._last = now
        return self._spent / 1e6

    def _read(self) -> int:
        return int(self._counter.read_text())


def packages(powercap: Path = POWERCAP) -> list[Package]:
    """The machine's processor packages, Intel's and AMD's alike; none unless all of them can be read.

    Domains of cores, memory and the whole platform are left out: cores are in their package, and not every machine
    counts the others.
    """
    folders = [folder for folder in sorted(powercap.glob("intel-rapl:*")) if _is_package(folder)]
    with suppress(OSError, ValueError):  # since Linux 5.10 only root may read energy_uj
        return [Package(folder) for folder in folders]
    return []


def _is_package(folder: Path) -> bool:
    name = folder / "name"
    return name.is_file() and name.read_text().startswith("package")


@dataclass(frozen=True, slots=True)
class GpuSample:
    """A GPU at one moment: joules since its driver was loaded, memory in use in MB of 10^6 bytes, load in percent.

    None stands for what this model of GPU does not tell.
    """

    joules: float | None
    memory_mb: float | None
    utilisation: float | None


class NvmlGpu:
    """One GPU as NVML (the library nvidia-ml-py) reads it."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml, self.index = nvml, index
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = nvml.nvmlDeviceGetUUID(self._handle)
        self.uuid = uuid.decode() if isinstance(uuid, bytes) else str(uuid)

    def sample(self) -> GpuSample:
        nvml = self._nvml
        return GpuSample(
            self._asked(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3),  # in mJ, since Volta
            self._asked(lambda: nvml.nvmlDeviceGetMemoryInfo(self._handle).used / 1e6),
            self._asked(lambda: float(nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)),
        )

    def _asked(self, question: Callable[[], float]) -> float | None:
        try:
            return question()
        except self._nvml.NVMLError:  # not supported by this GPU, or not within this container
            return None


def nvml_gpus() -> tuple[list[NvmlGpu], str | None]:
    """The GPUs that this process may use; if there are none that NVML reads, why."""
    try:
        import pynvml
    except ImportError:
        return [], NO_NVML if hardware.gpus() else NO_GPU
    return gpus_of(pynvml)


def gpus_of(nvml: Any) -> tuple[list[NvmlGpu], str | None]:
    """The same, of a given NVML. It stays open until the process ends."""
    try:
        nvml.nvmlInit()
        found = [NvmlGpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        return [], f"NVML: {error}" if hardware.gpus() else NO_GPU
    left = hardware.visible(found)
    return left, None if left else NO_GPU


def processor_ticks(stat: Path) -> tuple[int, int]:
    """Ticks that all cores were busy, and all their ticks, since the machine started (proc(5), /proc/stat).

    Waiting for disks is idle. Guests' ticks are within user's.
    """
    ticks = [int(number) for number in stat.read_text().splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)
