"""What a block of work takes: time, joules, memory, load and throughput; and the file that says so beside a model.

with Meter() as meter:
    meter.count(samples_of_an_epoch())
write_resource_usage(folder, meter.usage)
"""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from raysweep.energy import NO_GPU, NO_RAPL, POWERCAP, GpuSample, NvmlGpu, nvml_gpus, packages, processor_ticks
from raysweep.measure import forget_peak_memory, peak_memory_mb

FILE = "resource_usage.yaml"
NOT_MEASURED = "not measured"
STAT = Path("/proc/stat")
SECONDS_BETWEEN = 0.5  # two looks at the counters
UNTOLD = "the GPU does not tell"
DIGITS = 6  # significant ones in the file

Told = float | str  # a number, or why there is none


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What a block took. None is not measured, and `reasons` says why, by the field's name.

    Joules and utilisation (mean percent) are of whole processors, and of whole GPUs of this process together.
    `energy_joules` is both; it is None where one of them is there but not measured. MB are 10^6 bytes.
    `peak_memory_mb` is this process's within the block or, where the system cannot tell that, since it started, with
    all that ran in it before. `peak_gpu_memory_mb` is what the caller's function told, or else the most that was seen
    in use on the GPUs.
    """

    duration_seconds: float
    samples: int
    samples_per_second: float | None
    energy_joules: float | None
    energy_processor_joules: float | None
    energy_gpu_joules: float | None
    peak_memory_mb: float
    peak_gpu_memory_mb: float | None
    processor_utilisation_percent: float | None
    gpu_utilisation_percent: float | None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, float | None]:
        """Every number by its name."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "reasons"}

    def metrics(self, prefix: str = "resources.") -> dict[str, float]:
        """What was measured, as a report carries it."""
        return {prefix + name: float(value) for name, value in self.values().items() if value is not None}


class Meter:
    """A context manager; its `usage` is there when the block is over.

    A thread looks at the counters now and then. What runs on a GPU must be synchronised at the end of the block.
    `peak_gpu_memory_mb` is called then: mostly torch's own peak, which the caller has reset before.
    """

    usage: ResourceUsage

    def __init__(
        self,
        peak_gpu_memory_mb: Callable[[], float] | None = None,
        powercap: Path = POWERCAP,
        stat: Path = STAT,
        gpus: Callable[[], tuple[list[NvmlGpu], str | None]] = nvml_gpus,
        seconds_between: float = SECONDS_BETWEEN,
    ) -> None:
        self._peak, self._stat, self._between = peak_gpu_memory_mb, stat, seconds_between
        self._powercap, self._open_gpus = powercap, gpus

    def count(self, samples: int) -> None:
        """So many samples more were processed."""
        self._samples += samples

    def __enter__(self) -> "Meter":
        self._packages, (self._gpus, self._no_gpu) = packages(self._powercap), self._open_gpus()
        self._no_rapl = "" if self._packages else NO_RAPL
        self._samples, self._looks, self._over = 0, list[list[GpuSample]](), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="resource meter", daemon=True)
        self._ticks = _ticks(self._stat)
        forget_peak_memory()
        self.look()
        if self._packages or self._gpus:
            self._thread.start()
        self._begun = time.perf_counter()
        return self

    def __exit__(self, *error: Any) -> None:
        seconds = time.perf_counter() - self._begun
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.look()
        self.usage = self._usage(seconds)

    def look(self) -> None:
        """Read all counters once; the thread does it."""
        try:
            self._joules = sum(package.joules() for package in self._packages)
        except (OSError, ValueError) as error:  # gone, or no longer to be read
            self._packages, self._no_rapl = [], f"RAPL: {error}"
        self._looks.append([gpu.sample() for gpu in self._gpus])

    def _watch(self) -> None:
        while not self._over.wait(self._between):
            self.look()

    def _usage(self, seconds: float) -> ResourceUsage:
        processor: Told = self._no_rapl or self._joules
        gpu: Told = self._no_gpu or _spent(self._looks)
        seen: Told = self._no_gpu or _peak(self._looks)
        told: dict[str, Told] = {
            "duration_seconds": seconds,
            "samples": self._samples,
            "samples_per_second": self._samples / seconds if self._samples else "no samples were counted",
            "energy_joules": _both(processor, gpu),
            "energy_processor_joules": processor,
            "energy_gpu_joules": gpu,
            "peak_memory_mb": peak_memory_mb(),
            "peak_gpu_memory_mb": self._peak() if self._peak else seen,
            "processor_utilisation_percent": _load(self._ticks, _ticks(self._stat)),
            "gpu_utilisation_percent": self._no_gpu or _gpu_load(self._looks),
        }
        numbers: dict[str, Any] = {name: None if isinstance(one, str) else one for name, one in told.items()}
        return ResourceUsage(**numbers, reasons={name: one for name, one in told.items() if isinstance(one, str)})


def _both(processor: Told, gpu: Told) -> Told:
    """Their sum; a GPU that is not there takes nothing."""
    if isinstance(processor, str):
        return processor if not isinstance(gpu, str) else f"{processor}, {gpu}"
    if isinstance(gpu, str):
        return processor if gpu == NO_GPU else gpu
    return processor + gpu


def _spent(looks: Sequence[Sequence[GpuSample]]) -> Told:
    """Joules of all GPUs between the first look and the last."""
    spent = [last.joules - first.joules for first, last in zip(looks[0], looks[-1], strict=True)
             if first.joules is not None and last.joules is not None]  # fmt: skip
    return sum(spent) if len(spent) == len(looks[0]) else UNTOLD


def _peak(looks: Sequence[Sequence[GpuSample]]) -> Told:
    """The most memory in use on all GPUs at one look."""
    used = [[gpu.memory_mb for gpu in look if gpu.memory_mb is not None] for look in looks]
    return max(sum(one) for one in used) if all(used) else UNTOLD


def _gpu_load(looks: Sequence[Sequence[GpuSample]]) -> Told:
    """The mean over GPUs and looks; the first look tells of the time before it."""
    loads = [gpu.utilisation for look in looks[1:] for gpu in look if gpu.utilisation is not None]
    return sum(loads) / len(loads) if loads else UNTOLD


def _ticks(stat: Path) -> tuple[int, int] | None:
    return processor_ticks(stat) if stat.is_file() else None


def _load(before: tuple[int, int] | None, after: tuple[int, int] | None) -> Told:
    """Percent of all cores' ticks that were busy; None stands for a system that does not count them."""
    if before is None or after is None:
        return "no /proc/stat"
    busy, ticks = after[0] - before[0], after[1] - before[1]
    return 100 * busy / ticks if ticks > 0 else "the block was over within one tick of the processor's clock"


def write_resource_usage(
    folder: Path,
    training: ResourceUsage,
    serving: Mapping[str, float | str | None] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> Path:
    """Write resource_usage.yaml into a folder, whole or not at all; its path.

    `serving` are facts of the model in use with their units in their names, such as `latency_ms`; None becomes "not
    measured", with what `reasons` says of it.
    """
    content = {"training": _group(training.values(), training.reasons)}
    if serving:
        content["serving"] = _group(serving, reasons or {})
    path = folder / FILE
    beside = folder / f"{FILE}.part"
    with beside.open("w", encoding="utf-8") as opened:
        YAML().dump(content, opened)
    os.replace(beside, path)
    return path


def _group(values: Mapping[str, float | str | None], reasons: Mapping[str, str]) -> dict[str, float | str]:
    return {name: _said(value, reasons.get(name)) for name, value in values.items()}


def _said(value: float | str | None, reason: str | None) -> float | str:
    if value is None:
        return f"{NOT_MEASURED}: {reason}" if reason else NOT_MEASURED
    if isinstance(value, float):
        assert math.isfinite(value), value
        return float(f"{value:.{DIGITS}g}")
    return value
