"""The sides of `benchmarks.pruning`, each in a process of its own: they time models in turns, and say what they saw."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measured import write_result
from benchmarks.pruning_removal import WARMUP, Found, Options, removal, text_model
from trainables.parts import optim
from trainables.parts.batches import in_parts, tokens_of
from trainables.parts.encoders import Encoder, train_mode
from trainables.parts.footprint import footprint
from trainables.parts.onnx_files import save_onnx
from trainables.parts.pace import hold_memory
from trainables.parts.packed import Packed, pack
from trainables.parts.pruning.selection import two_of_four
from trainables.parts.pruning.session import Pruning
from trainables.parts.pruning.settings import PruningSettings, RegulariserSettings
from trainables.parts.quantise import Kind, QuantiseSettings
from trainables.parts.task_data import TaskDataSettings, labels_of, read_examples
from trainables.parts.text_model import TextModel
from trainables.parts.text_predictor import save_model

KINDS = [kind for kind in get_args(Kind) if kind != "none"]
LOADER = "trainables.parts.sparse_predictor:load"
BATCH = 32  # texts of a training step
MASKS: dict[str, dict[str, Any]] = {  # what is pruned, and how, while training
    "weights": {"target": "weights"},
    "heads and neurons": {"target": "heads+neurons"},
    "weights by movement": {"target": "weights", "importance": "movement"},
    "weights that come back": {"target": "weights", "regrow": "gradient"},
}
# The weight matrices of ModernBERT-base with a classifier of two labels, outputs and inputs: 22 layers, and the head.
MODERNBERT = [*[(2304, 768), (768, 768), (2304, 768), (768, 1152)] * 22, (768, 768), (2, 768)]
SQUARE = (768, 768)


def quantised(options: Options) -> Found:
    """Milliseconds from text to answer of the model as exported for torch, for ONNX Runtime and in fewer bits."""
    model, encoder = text_model(options)
    data = TaskDataSettings(task="sst2", source=options["data"])
    texts, calibration = read_examples(data, "report").texts[:160], read_examples(data, "train").texts[:1000]
    told = {"kind": "classification", "labels": list(labels_of(data)), "max_length": encoder.max_length, "stride": 0}
    with TemporaryDirectory() as place:
        folders = {kind: Path(place, kind) for kind in ("torch", *KINDS)}
        save_model(folders["torch"], model, encoder.tokenizer, told, texts[:8])
        for kind in KINDS:
            settings = QuantiseSettings(kind=kind)
            save_onnx(settings, model, encoder.tokenizer, told, texts[:8], calibration, folders[kind])
        found = footprint(folders, texts, LOADER, options["threads"], options["repeats"], memory=False)
    times = {1: {kind: cost.one.p50_ms for kind, cost in found.items()}}
    times[16] = {kind: cost.many.p50_ms for kind, cost in found.items()}
    sizes = {kind: cost.weight_bytes for kind, cost in found.items()}
    return [{"kind": kind, "batch": size, "bytes": sizes[kind], "ms": times[size]} for size in times for kind in found]


def masking(options: Options) -> Found:
    """Seconds of training steps with and without masks, in turns, and those spent on masks alone."""
    return [{"masks": name, "seconds": masked_steps(options, settings)} for name, settings in MASKS.items()]


def masked_steps(options: Options, settings: dict[str, Any]) -> dict[str, float]:
    """Of a mean step; the share that is pruned rises at every 32nd."""
    steps, (plain, encoder), (model, _) = options["steps"], text_model(options), text_model(options)
    rising = PruningSettings(**settings, sparsity=0.5, epochs=1, schedule="cubic", every=32)
    pruning = Pruning(rising, RegulariserSettings(), model, steps, 1, lambda: iter(()))
    untouched, masked = training_step(plain), training_step(model)
    batches = training_batches(options, encoder, WARMUP + steps)
    for batch, targets in islice(batches, WARMUP):
        untouched(batch, targets, None, 0)
        masked(batch, targets, None, 0)
    pruning.start()
    spent = {"plain": 0.0, "masked": 0.0, "masks alone": 0.0}
    for step, (batch, targets) in enumerate(batches):
        spent["plain"] += untouched(batch, targets, None, step)[0]
        whole, alone = masked(batch, targets, pruning, step)
        spent["masked"] += whole
        spent["masks alone"] += alone
    return {name: seconds / steps for name, seconds in spent.items()}


def training_step(model: TextModel) -> Callable[[Packed, Tensor, Pruning | None, int], tuple[float, float]]:
    """A step of training that tells its seconds, and those of its masks."""
    optimizer = optim.adamw(model, 1e-5)
    train_mode(model)

    def take(batch: Packed, targets: Tensor, pruning: Pruning | None, step: int) -> tuple[float, float]:
        begun = time.perf_counter()
        F.cross_entropy(model(batch), targets).backward()  # type: ignore[no-untyped-call]
        alone = timed(lambda: pruning.before_step(step)) if pruning else 0.0
        optim.clip_gradient(model, 1.0)
        optimizer.step()
        alone += timed(pruning.after_step) if pruning else 0.0
        optimizer.zero_grad()
        return time.perf_counter() - begun, alone

    return take


def timed(call: Callable[[], Any]) -> float:
    """Seconds of a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def training_batches(options: Options, encoder: Encoder, count: int) -> Iterator[tuple[Packed, Tensor]]:
    """So many batches of the training rows in their order, with their labels."""
    rows = read_examples(TaskDataSettings(task="sst2", source=options["data"]), "train")
    texts, labels = rows.texts[: BATCH * count], torch.tensor(rows.targets[: BATCH * count]).long()
    tokens = tokens_of(encoder.tokenizer, texts, 128)
    for chosen in in_parts(np.arange(len(texts)), BATCH):
        yield pack(tokens, chosen), labels[chosen]


def two_four(options: Options) -> dict[str, float]:
    """Seconds to choose two of every four weights: of a whole ModernBERT-base, and of one matrix, as a loop too."""
    generator = torch.Generator().manual_seed(1)
    matrices = [torch.randn(shape, generator=generator) for shape in MODERNBERT]
    weights = sum(matrix.numel() for matrix in matrices)
    square = torch.randn(SQUARE, generator=generator)
    two_of_four(square.abs(), 1)
    return {
        "weights": weights,
        "all": timed(lambda: [two_of_four(matrix.abs(), 1) for matrix in matrices]),
        "square": timed(lambda: two_of_four(square.abs(), 1)),
        "square, as a loop": timed(lambda: looped(square)),
    }


def looped(weights: Tensor) -> Tensor:
    """The same by a loop over rows and blocks, as it is often written."""
    kept = torch.ones_like(weights, dtype=torch.bool)
    for row in range(len(weights)):
        for start in range(0, weights.shape[1], 4):
            least = torch.topk(weights[row, start : start + 4].abs(), 2, largest=False).indices
            kept[row, start + least] = False
    return kept


SIDES: dict[str, Callable[[Options], Any]] = {
    "removal": removal,
    "quantise": quantised,
    "masking": masking,
    "two_four": two_four,
}


def main() -> None:
    folder, side, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    os.environ["OMP_NUM_THREADS"] = str(options["threads"])  # ONNX Runtime goes by it
    hold_memory()
    torch.set_num_threads(options["threads"])
    write_result(folder, {"found": SIDES[side](options)})


if __name__ == "__main__":
    main()
