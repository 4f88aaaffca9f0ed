"""What served models cost beside each other: milliseconds, bytes on disk, and the memory of a process that serves one.

A model is a folder and a loader: `load(folder)(texts, batch_size=...)` answers.
"""

import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysweep.measure import Latency, folder_bytes, interleaved_latency
from trainables.parts.batches import Texts

THREADS = "OMP_NUM_THREADS"
MANY = 16  # texts of a batch
WARMUP = 5  # calls of each model that are not counted
LONGEST = 600  # seconds that a process may take to load a model and answer once

CHILD = """
import json, pkgutil, sys
from raysweep.measure import peak_memory_mb
loader, folder, texts = json.load(sys.stdin)
load = pkgutil.resolve_name(loader)
before = peak_memory_mb()
load(folder)(texts, batch_size=len(texts))
print(json.dumps([before, peak_memory_mb()]))
"""


@dataclass(frozen=True, slots=True)
class Memory:
    """MB of 10^6 bytes that a fresh process held at most: before it loaded the model, and once it had answered.

    The loader's module is imported before; what it imports only when it loads counts with the model.
    """

    before_mb: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a model costs: from a text to its answer, from 16 texts to theirs, on disk, and in memory if asked for."""

    one: Latency
    many: Latency
    disk_bytes: int
    weight_bytes: int
    memory: Memory | None


def footprint(
    folders: Mapping[str, Path], texts: Texts, loader: str, threads: int, repeats: int, memory: bool = True
) -> dict[str, Footprint]:
    """Each model's footprint on the CPU; all are timed in turns on the same texts with so many threads.

    `loader` is "module:function". Raises RuntimeError when a process that serves a model ends without an answer.
    """
    with _threads(threads):
        models = {name: pkgutil.resolve_name(loader)(folder) for name, folder in folders.items()}
        one, many = (_times(models, texts, size, repeats) for size in (1, MANY))
    held = _memories(folders, _batches(texts, MANY)[0], loader, threads) if memory else {}
    return {
        name: Footprint(one[name], many[name], folder_bytes(folder), weight_bytes(folder), held.get(name))
        for name, folder in folders.items()
    }


def weight_bytes(folder: Path) -> int:
    """Bytes of the weights alone: .safetensors and .onnx, with what .onnx files keep beside."""
    files = (file for file in folder.rglob("*") if file.suffix == ".safetensors" or ".onnx" in file.name)
    return sum(file.stat().st_size for file in files)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads for torch, and for what reads OMP_NUM_THREADS when it loads a model."""
    before, told = torch.get_num_threads(), os.environ.get(THREADS)
    torch.set_num_threads(count)
    os.environ[THREADS] = str(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        os.environ.pop(THREADS)
        if told is not None:
            os.environ[THREADS] = told


def _times(models: Mapping[str, Callable[..., Any]], texts: Texts, size: int, repeats: int) -> dict[str, Latency]:
    """Every model's n-th call has the same texts."""

    def answer(model: Callable[..., Any], batches: Iterator[Texts]) -> None:
        model(next(batches), batch_size=size)

    batches = _batches(texts, size)
    calls = {name: partial(answer, model, cycle(batches)) for name, model in models.items()}
    return interleaved_latency(calls, WARMUP, repeats)


def _batches(texts: Texts, size: int) -> list[Texts]:
    """Batches of exactly `size` texts: the last ones that do not fill one are left out, too few ones are repeated."""
    enough: Sequence[Any] = list(texts) * -(-size // len(texts))
    return [enough[start : start + size] for start in range(0, len(enough) - size + 1, size)]


def _memories(folders: Mapping[str, Path], texts: Texts, loader: str, threads: int) -> dict[str, Memory]:
    """Of each model the mean of two processes, once in this order and once in the other."""
    held: dict[str, list[list[float]]] = {name: [] for name in folders}
    for name in [*folders, *reversed(list(folders))]:
        held[name].append(_held(folders[name], texts, loader, threads))
    return {name: Memory(*np.mean(both, axis=0).tolist()) for name, both in held.items()}


def _held(folder: Path, texts: Texts, loader: str, threads: int) -> list[float]:
    """MB, as `Memory` has them."""
    place = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([loader, str(folder), list(texts)]),
        env=os.environ | {"PYTHONPATH": place, THREADS: str(threads)},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise RuntimeError(f"{loader} could not serve {folder} in a process of its own: {reason}")
    before, peak = json.loads(done.stdout.splitlines()[-1])
    return [before, peak]
