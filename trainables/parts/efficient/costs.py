"""What a model took while it was trained, and what it costs where it is served; both in one file beside it."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from raysweep.measure import peak_memory_mb
from raysweep.resource_usage import Meter, ResourceUsage, write_resource_usage
from trainables.parts.batches import Texts
from trainables.parts.footprint import footprint
from trainables.parts.text_predictor import TextPredictor

LOADER = "trainables.parts.text_predictor:load"
GPU_LOADER = "trainables.parts.efficient.costs:load_on_gpu"
BATCH, SAMPLE = 32, 512  # texts at a time, and texts of a pass, where throughput and energy are measured
LEAST_SECONDS = 2.0  # of such passes: counters of energy move in steps of up to tenths of a second
# By its metric, what a training took, as `ResourceUsage` calls it.
SPENT = {
    "resources.train_seconds": "duration_seconds",
    "resources.train_joules": "energy_joules",
    "resources.peak_memory_mb": "peak_memory_mb",
    "resources.peak_gpu_memory_mb": "peak_gpu_memory_mb",
    "resources.processor_percent": "processor_utilisation_percent",
    "resources.gpu_percent": "gpu_utilisation_percent",
}
RESOURCE_METRICS = {
    "resources.train_seconds": "seconds of all epochs so far, with the scoring after each",
    "resources.train_joules": "joules that processors and GPUs took meanwhile, whatever else ran on them",
    "resources.peak_memory_mb": "most memory that the training process held while training, in MB of 10^6 bytes",
    "resources.peak_gpu_memory_mb": "most memory of tensors on the GPU while training, in MB of 10^6 bytes",
    "resources.processor_percent": "load of the machine's whole processor while training, the mean over its seconds",
    "resources.gpu_percent": "load of the GPU while training, the mean over its seconds",
}
# By its metric, the field of `Costs`.
SERVED = {
    "latency.p50_ms": "one_p50_ms",
    "latency.p95_ms": "one_p95_ms",
    "latency.batch16_ms": "many_ms",
    "throughput.texts_per_second": "texts_per_second",
    "size.disk_bytes": "disk_bytes",
    "size.weight_bytes": "weight_bytes",
    "memory.serving_mb": "memory_mb",
    "energy.joules_per_text": "joules_per_text",
}
COST_METRICS = {
    "latency.p50_ms": "median milliseconds from one text to its answer, on the trial's threads and device",
    "latency.p95_ms": "the 95th percentile of the same",
    "latency.batch16_ms": "median milliseconds from 16 texts to their answers",
    "throughput.texts_per_second": "texts answered in a second, 32 of similar length at a time",
    "size.disk_bytes": "bytes of the exported folder, tokenizer included",
    "size.weight_bytes": "bytes of its weights",
    "memory.serving_mb": "most memory of a fresh process that loads it on the CPU and answers 16 texts, in MB",
    "energy.joules_per_text": "joules of processors and GPUs for each text of the throughput's, whatever else ran",
}
ADDED = ("duration_seconds", "samples", "energy_joules", "energy_processor_joules", "energy_gpu_joules")
PEAKS = ("peak_memory_mb", "peak_gpu_memory_mb")
LOADS = ("processor_utilisation_percent", "gpu_utilisation_percent")


@dataclass(slots=True)
class Spent:
    """What the epochs of a trial took, also those of processes that ended before.

    `found` holds sums, peaks, and loads times their seconds; None is what one epoch could not measure. An epoch without
    a load is left out of the mean, which is over `seconds`. `reasons` are those of the first epoch that had one.
    """

    epochs: int = 0
    found: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys((*ADDED, *PEAKS, *LOADS), 0.0))
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LOADS, 0.0))
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, usage: ResourceUsage) -> None:
        """An epoch more."""
        told = usage.values()
        for name in ADDED:
            self.found[name] = _both(self.found[name], told[name], lambda one, other: one + other)
        for name in PEAKS:
            self.found[name] = _both(self.found[name], told[name], max)
        for name in LOADS:
            if (load := told[name]) is not None:
                self.found[name] = (self.found[name] or 0.0) + load * usage.duration_seconds
                self.seconds[name] += usage.duration_seconds
        self.reasons = {**usage.reasons, **self.reasons}
        self.epochs += 1

    def usage(self) -> ResourceUsage:
        """As of one block."""
        told, seconds, samples = dict(self.found), self.found["duration_seconds"], self.found["samples"]
        assert seconds is not None
        assert samples is not None
        if not self.epochs:  # nothing was spent; this process is as large as it is
            told |= {"peak_memory_mb": peak_memory_mb(), "peak_gpu_memory_mb": None}
        told["samples_per_second"] = samples / seconds if samples else None
        for name, over in self.seconds.items():
            told[name] = (self.found[name] or 0.0) / over if over else None
        lacking = {name: self.reasons.get(name, "no epoch was trained") for name, one in told.items() if one is None}
        told["samples"] = int(samples)
        return ResourceUsage(**told, reasons=lacking)  # type: ignore[arg-type]

    def metrics(self) -> dict[str, float]:
        """What was measured, by the names of RESOURCE_METRICS; before the first epoch seconds alone, which are 0."""
        told = self.usage().values()
        named = SPENT if self.epochs else {"resources.train_seconds": "duration_seconds"}
        return {metric: float(value) for metric, name in named.items() if (value := told[name]) is not None}

    def state(self) -> dict[str, Any]:
        """For a checkpoint: `restored` goes on from it."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Spent":
        """What `state` gave."""
        return cls(state["epochs"], dict(state["found"]), dict(state["seconds"]), dict(state["reasons"]))


def _both(one: float | None, other: float | None, how: Callable[[float, float], float]) -> float | None:
    return None if one is None or other is None else how(one, other)


@contextmanager
def metered(device: str) -> Iterator[Meter]:
    """A Meter whose block ends when the device has ended its work; GPU memory is the peak of torch's tensors in it."""
    if torch.device(device).type != "cuda":
        with Meter() as meter:
            yield meter
        return
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    with Meter(lambda: torch.cuda.max_memory_allocated(device) / 1e6) as meter:
        yield meter
        torch.cuda.synchronize(device)


@dataclass(frozen=True, slots=True)
class Costs:
    """What an exported model costs, as COST_METRICS says of each. None is not measured: `reasons` says why, by name."""

    one_p50_ms: float
    one_p95_ms: float
    many_ms: float
    texts_per_second: float
    disk_bytes: int
    weight_bytes: int
    memory_mb: float | None
    joules_per_text: float | None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """What was measured."""
        found = {metric: getattr(self, name) for metric, name in SERVED.items()}
        return {metric: float(value) for metric, value in found.items() if value is not None}


def load_on_gpu(folder: Path) -> Callable[..., Any]:
    """As `text_predictor.load`, on the GPU."""
    return TextPredictor(folder, "cuda").predict


def serving_costs(
    folder: Path,
    texts: Texts,
    device: str,
    threads: int,
    repeats: int,
    memory: bool,
    least_seconds: float = LEAST_SECONDS,
) -> Costs:
    """Costs of the model in a folder, from texts to answers that this process holds, with so many threads of torch.

    Each latency is of `repeats` calls, throughput and energy of passes over the first 512 texts for `least_seconds`.
    The memory is that of a fresh process on the CPU.
    """
    on_gpu = torch.device(device).type == "cuda"
    cost = footprint(
        {"model": folder}, texts, GPU_LOADER if on_gpu else LOADER, threads, repeats, memory and not on_gpu
    )["model"]
    held = footprint({"model": folder}, texts, LOADER, threads, 1)["model"].memory if memory and on_gpu else cost.memory
    usage = _passes(TextPredictor(folder, device), texts[:SAMPLE], device, threads, least_seconds)
    joules, speed = usage.energy_joules, usage.samples_per_second
    assert speed is not None
    reasons = {} if joules is not None else {"joules_per_text": usage.reasons["energy_joules"]}
    return Costs(
        one_p50_ms=cost.one.p50_ms,
        one_p95_ms=cost.one.p95_ms,
        many_ms=cost.many.p50_ms,
        texts_per_second=speed,
        disk_bytes=cost.disk_bytes,
        weight_bytes=cost.weight_bytes,
        memory_mb=None if held is None else held.peak_mb,
        joules_per_text=None if joules is None else joules / usage.samples,
        reasons=reasons | ({} if memory else {"memory_mb": "measure.memory is false"}),
    )


def _passes(model: TextPredictor, texts: Texts, device: str, threads: int, least_seconds: float) -> ResourceUsage:
    """Of whole passes over the texts, the first of which is not counted."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model.predict(texts, batch_size=BATCH)
        with metered(device) as meter:
            end, over = time.perf_counter() + least_seconds, False
            while not over:
                model.predict(texts, batch_size=BATCH)
                meter.count(len(texts))
                over = time.perf_counter() >= end
    finally:
        torch.set_num_threads(before)
    return meter.usage


def kept_costs(file: Path, measure: Callable[[], Costs]) -> Costs:
    """Costs that are in a file, or else measured and left there, so that all who tell them tell the same."""
    if file.is_file():
        return Costs(**json.loads(file.read_text()))
    costs = measure()
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.part")
    beside.write_text(json.dumps(asdict(costs), indent=1) + "\n")
    os.replace(beside, file)
    return costs


def write_usage(folder: Path, spent: Spent, costs: Costs) -> Path:
    """resource_usage.yaml in a model's folder: of training, and of serving by the names of its metrics."""
    told = {name: metric.replace(".", "_") for metric, name in SERVED.items()}
    reasons = {told[name]: reason for name, reason in costs.reasons.items()}
    return write_resource_usage(
        folder, spent.usage(), {key: getattr(costs, name) for name, key in told.items()}, reasons
    )
