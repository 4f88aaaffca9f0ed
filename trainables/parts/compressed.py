"""A text model at the end of its stages: its sizes, its files, its answers, and what it costs beside the dense one."""

import copy
import json
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysweep.measure import folder_bytes, interleaved_latency, latency
from raysweep.problems import UserError
from raysweep.trial import Scored, Trial
from trainables.parts import text_build
from trainables.parts.batches import Texts
from trainables.parts.compression import CompressionConfig
from trainables.parts.encoders import Encoder, count
from trainables.parts.footprint import MANY, Footprint, footprint, weight_bytes
from trainables.parts.onnx_files import save_onnx
from trainables.parts.onnx_predictor import OnnxPredictor, feed
from trainables.parts.packed import pack
from trainables.parts.packed_weights import packed_bytes
from trainables.parts.pruning.check import check_pruning
from trainables.parts.pruning.settings import UNITS, PruningSettings
from trainables.parts.semi_structured import sparse_cores, with_sparse_kernels
from trainables.parts.text_inputs import TextInputs, answered, scored
from trainables.parts.text_model import Shape, TextModel
from trainables.parts.text_predictor import FILE, save_model
from trainables.parts.weights import Weights, overlay

PREDICTED = 128  # texts at a time where no gradient is needed
PROVEN, TOLERANCE = 64, 1e-4  # texts that a removal is proven on, and how far their logits may differ
LOADER = "trainables.parts.sparse_predictor:load"


def check_model(config: CompressionConfig) -> None:
    """Raises UserError when so much of the encoder cannot be pruned."""
    encoder = text_build.plain_encoder(config.encoder, config.model.pooler)
    if problems := check_pruning(config.pruning, TextModel(encoder.model, Shape(outputs=2))):
        raise UserError(problems)


def kernel(settings: PruningSettings, device: str) -> str:
    """What computes a model in plain torch that was pruned so."""
    if not settings.on:
        return "dense float32 kernels"
    if not settings.structured:
        return f"dense float32 kernels: a mask alone is no speed-up{_pattern(settings, device)}"
    also = "" if settings.targets[-1] in UNITS else "; the mask on what is left is no speed-up"
    return f"dense float32 kernels on smaller matrices{also}{_pattern(settings, device)}"


def removal_difference(trial: Trial, masked: TextModel, removed: TextModel, select: TextInputs) -> dict[str, float]:
    """The largest difference of a logit without heads and neurons from one where they are zero: removal is proven."""
    if masked is removed:
        return {}
    texts = pack(select.tokens, np.arange(min(PROVEN, len(select.lengths))), trial.device)
    with torch.inference_mode():
        difference = float((masked.eval()(texts) - removed.eval()(texts)).abs().max())
    assert difference < TOLERANCE, f"what was removed differs by {difference} from what was masked"
    return {"removal.difference": difference}


def _pattern(settings: PruningSettings, device: str) -> str:
    """What else could compute the pattern two of four."""
    if "two_four" not in settings.targets:
        return ""
    return f"; {sparse_cores(device) or 'sparse tensor cores can take it in 16 bits, see latency.two_four_ms'}"


def two_four_costs(trial: Trial, model: TextModel, select: TextInputs) -> dict[str, float]:
    """Milliseconds of 16 texts in bfloat16 by sparse tensor cores, and by dense kernels; empty where there are none."""
    if "two_four" not in trial.config.pruning.targets or sparse_cores(trial.device) is not None:
        return {}
    dense = copy.deepcopy(model).to(torch.bfloat16).eval()
    sparse, _ = on_sparse_cores(model, trial.device)
    texts = pack(select.tokens, np.arange(min(MANY, len(select.lengths))), trial.device)
    with torch.inference_mode():
        calls = {"two_four": lambda: sparse(texts).cpu(), "dense16": lambda: dense(texts).cpu()}
        times = interleaved_latency(calls, warmup=5, repeats=trial.config.measure.repeats)
    return {f"latency.{name}_ms": time.p50_ms for name, time in times.items()}


def two_four_told(trial: Trial, model: TextModel, left_whole: Mapping[str, int]) -> dict[str, Any]:
    """What the registry says of the pattern two of four: its kernels in bfloat16, and the matrices that are without it.

    `left_whole` has the names of these and how many inputs they have, which is no multiple of 4.
    """
    if "two_four" not in trial.config.pruning.targets:
        return {}
    _, kernels = on_sparse_cores(model, trial.device)
    return {"two_four": kernels, "left_whole": [f"{name}: {inputs} inputs" for name, inputs in left_whole.items()]}


def on_sparse_cores(model: TextModel, device: str) -> tuple[TextModel, str]:
    """A copy in bfloat16 for sparse tensor cores, if `device` has them, and words that say which kernels will run."""
    sparse = copy.deepcopy(model).to(torch.bfloat16).eval()
    return sparse, with_sparse_kernels(sparse, device)


def costs(model: TextModel, encoder: Encoder, select: TextInputs, device: str) -> dict[str, float]:
    """Sizes of a model in plain torch, and milliseconds of one text through it in this process."""
    told = text_build.sized(model, encoder, count(model))
    return {
        **{name: told[name] for name in ("size.parameters", "size.bytes", "size.reduction")},
        "size.nonzero": nonzero(model),
        "size.file_bytes": packed_bytes(model.state_dict()),
        "time.latency_ms": text_build.step_latency(model, select, device),
    }


def save_plain(trial: Trial, model: TextModel, encoder: Encoder, folder: Path) -> None:
    """Write a model in plain torch."""
    told = text_build.told(trial.config, encoder) | {"kernel": kernel(trial.config.pruning, trial.device)}
    save_model(folder, model, encoder.tokenizer, told, text_build.sample(trial.config))


def save(trial: Trial, model: TextModel, encoder: Encoder, train: TextInputs, folder: Path) -> dict[str, Any]:
    """Write a finished model, quantised if it shall be; what the registry says of it."""
    config: CompressionConfig = trial.config
    facts = text_build.told(config, encoder)
    if config.quantise.kind == "none":
        save_plain(trial, model, encoder, folder)
    else:
        save_onnx(
            config.quantise, model, encoder.tokenizer, facts, text_build.sample(config), train.examples.texts, folder
        )
    return {
        **json.loads((folder / FILE).read_text()),
        "parameters": count(model),
        "nonzero": nonzero(model),
        "bytes": folder_bytes(folder),
        "weight_bytes": weight_bytes(folder),
    }


def before(trial: Trial, model: TextModel, earlier: Mapping[str, Weights], inputs: TextInputs) -> dict[str, Scored]:
    """What `model` answered with earlier weights, by the task's own score; afterwards it has the last ones."""
    found = {}
    for name, weights in earlier.items():
        overlay(model, weights)
        found[name] = next(iter(scored(model, inputs, PREDICTED, trial.device).values()))
    return found


def answers(trial: Trial, model: TextModel, folder: Path, inputs: TextInputs) -> dict[str, Scored]:
    """What a finished model, saved in `folder`, answers, by what it is scored with."""
    if trial.config.quantise.kind == "none":
        return scored(model, inputs, PREDICTED, trial.device)
    logits = OnnxPredictor(folder, threads=trial.threads).logits(inputs.tokens, PREDICTED)
    return answered(inputs, torch.from_numpy(logits))


def quantised_costs(
    model: TextModel, encoder: Encoder, folder: Path, select: TextInputs, threads: int
) -> dict[str, float]:
    """Those of `costs`, of a saved quantised model."""
    predictor, stored = OnnxPredictor(folder, threads=threads), weight_bytes(folder)
    rows = cycle(np.arange(min(20, len(select.lengths)))[:, None])

    def answer() -> None:
        predictor.session.run(None, feed(predictor.inputs, select.tokens, next(rows), predictor.told["padding"]))

    return {
        "size.parameters": count(model),
        "size.nonzero": nonzero(model),
        "size.reduction": text_build.sized(model, encoder, count(model))["size.reduction"],
        "size.bytes": stored,
        "size.file_bytes": stored,
        "time.latency_ms": latency(answer, warmup=5, repeats=20).p50_ms,
    }


def nonzero(model: TextModel) -> int:
    return sum(int(weight.count_nonzero()) for weight in model.parameters())


def costs_beside(trial: Trial, small: Path, whole: Path, texts: Texts) -> dict[str, float]:
    """Milliseconds from text to answer, bytes and memory of two models' folders, in turns on the same threads."""
    folders, settings = {"model": small, "dense": whole}, trial.config.measure
    found = footprint(folders, texts, LOADER, trial.threads, settings.repeats, settings.memory)
    model, dense = found["model"], found["dense"]
    metrics = {
        "size.file_bytes": model.weight_bytes,
        "size.disk_bytes": model.disk_bytes,
        "dense.file_bytes": dense.weight_bytes,
        "dense.disk_bytes": dense.disk_bytes,
        "latency.ratio": model.one.p50_ms / dense.one.p50_ms,
        "latency.ratio16": model.many.p50_ms / dense.many.p50_ms,
        **{f"latency.{name}": value for name, value in _times(model).items()},
        **{f"dense.{name}": value for name, value in _times(dense).items()},
    }
    if model.memory and dense.memory:
        metrics |= {"memory.peak_mb": model.memory.peak_mb, "dense.peak_mb": dense.memory.peak_mb}
    return metrics


def _times(cost: Footprint) -> dict[str, float]:
    return {"p50_ms": cost.one.p50_ms, "p95_ms": cost.one.p95_ms, "batch16_ms": cost.many.p50_ms}
