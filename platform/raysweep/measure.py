"""What a trained model weighs and costs, and on which machine.

Knows no framework: a model is what has `named_parameters()`.
"""

import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from raysweep.hardware import answer_of, installed


class Model(Protocol):
    """A torch module, or anything else whose parameters have `numel()`, `count_nonzero()` and `requires_grad`."""

    def named_parameters(self) -> Iterable[tuple[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of parameters. Embedding, encoder and head add up to total; a shared parameter counts once."""

    total: int
    trainable: int
    nonzero: int
    embedding: int
    encoder: int
    head: int


def sizes(model: Model, embedding: Sequence[str], encoder: Sequence[str]) -> Sizes:
    """Count parameters by the prefixes of their names: embedding's first, then encoder's; the rest is the head."""
    parts = {"embedding": 0, "encoder": 0, "head": 0}
    trainable = nonzero = 0
    for name, parameter in model.named_parameters():
        count = int(parameter.numel())
        part = (
            "embedding"
            if name.startswith(tuple(embedding))
            else "encoder"
            if name.startswith(tuple(encoder))
            else "head"
        )
        parts[part] += count
        trainable += count if parameter.requires_grad else 0
        nonzero += int(parameter.count_nonzero())
    return Sizes(total=sum(parts.values()), trainable=trainable, nonzero=nonzero, **parts)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall time of one call in milliseconds: median, 95th percentile and mean of `repeats` calls."""

    p50_ms: float
    p95_ms: float
    mean_ms: float
    repeats: int


def latency(call: Callable[[], Any], warmup: int, repeats: int) -> Latency:
    """Time a call that ends when its work is done: on a GPU it must synchronise."""
    return interleaved_latency({"call": call}, warmup, repeats)["call"]


def interleaved_latency(calls: Mapping[str, Callable[[], Any]], warmup: int, repeats: int) -> dict[str, Latency]:
    """Time several calls in turns, ABAB, so that a machine that gets slower meanwhile is as slow for all."""
    assert warmup >= 0, warmup
    assert repeats >= 1, repeats
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= warmup:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: _latency(spent) for name, spent in times.items()}


def _latency(spent: list[float]) -> Latency:
    median, high = np.percentile(spent, [50, 95])
    return Latency(float(median), float(high), float(np.mean(spent)), len(spent))


def forget_peak_memory() -> bool:
    """Let `peak_memory_mb` begin anew with what this process holds now; whether the system can (Linux alone)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak of the resident set
    except OSError:
        return False
    return True


def peak_memory_mb() -> float:
    """The most memory this process held since it started, or forgot its peak, in MB of 10^6 bytes.

    On Linux `getrusage` will not do: it begins with the peak of the process that started this one.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024 / 1e6  # in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts bytes


def machine() -> dict[str, Any]:
    """Where a sweep runs: processor, cores this process may use, memory in GB, GPU and versions; None where absent."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": round(memory / 1e9, 1),
        "gpu": _gpu(),
        "python": platform.python_version(),
        **{package: installed(package) for package in ("torch", "transformers", "ray")},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:  # not Linux
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _gpu() -> str | None:
    """Names of the GPUs, as the driver's own tool tells them: asking torch would start CUDA in this process."""
    if shutil.which("nvidia-smi") is None:
        return None
    answer = answer_of(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    return ", ".join(answer.splitlines()) or None if answer is not None else None


def commit(folder: Path) -> str | None:
    """The git commit of a folder, with "+dirty" when anything is changed or new in it; None outside of git."""
    if shutil.which("git") is None:
        return None
    git = ["git", "--no-optional-locks", "-C", str(folder)]
    sha = answer_of([*git, "rev-parse", "--verify", "HEAD"])
    if sha is None:
        return None
    return sha + "+dirty" if answer_of([*git, "status", "--porcelain"]) else sha
