"""How a text model is put together from settings, what it weighs, and how it becomes files."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from raysweep.measure import folder_bytes, interleaved_latency, latency
from raysweep.problems import UserError
from trainables.parts.byte_dropout import drop_by_bytes
from trainables.parts.dendrites import structure
from trainables.parts.encoders import (
    Encoder,
    EncoderSettings,
    count,
    embeddings_of,
    freeze,
    load_encoder,
)
from trainables.parts.packed import can_rest_on_embeddings, pack
from trainables.parts.small_encoder import check_table, shrink
from trainables.parts.spans import widest_stride
from trainables.parts.task_data import labels_of, read_examples
from trainables.parts.tasks import TASKS
from trainables.parts.text_inputs import TextInputs
from trainables.parts.text_model import Shape, TextModel, start_head
from trainables.parts.text_predictor import TextPredictor, save_model
from trainables.parts.text_settings import Target, TargetedDendriteSettings, TextConfig, TextTrainSettings


def check_together(config: TextConfig) -> list[str]:
    """What settings of different groups do not allow together."""
    model, kind = config.model, TASKS[config.data.task].kind
    wrong = {
        "model.pooling cls with encoder.layers 0: the first token alone is the same for every text; use mean":
            config.encoder.layers == 0 and model.pooling == "cls" and kind != "span",
        "model.pooling last with encoder.layers 0: a token that knows no other is all that is seen; use mean":
            config.encoder.layers == 0 and model.pooling == "last" and kind != "span",
        "model.pooler has no use for questions, whose tokens are not pooled: set it to false":
            kind == "span" and model.pooler,
        "train.word_dropout would move the answers of questions: set it to 0":
            kind == "span" and config.train.word_dropout > 0,
        f"train.label_smoothing is for labels, and data.task {config.data.task} has none: set it to 0":
            kind != "classification" and config.train.label_smoothing > 0,
    }  # fmt: skip
    return [message for message, found in wrong.items() if found]


def check_growing(config: TextConfig, dendrites: TargetedDendriteSettings) -> list[str]:
    """What dendrites and other groups do not allow together."""
    model = config.model
    wrong = {
        "dendrites.target hidden needs a hidden layer: set model.hidden, or the target to classifier":
            dendrites.enabled and dendrites.target == "hidden" and not model.hidden,
        "dendrites.target all_linear needs layers, but encoder.layers is 0: use hidden or classifier":
            dendrites.enabled and dendrites.target == "all_linear" and config.encoder.layers == 0,
        "model.matched_dendrites is a control without dendrites: set dendrites.enabled to false":
            dendrites.enabled and model.matched_dendrites > 0,
    }  # fmt: skip
    return [message for message, found in wrong.items() if found]


def check_model(config: TextConfig) -> None:
    """Raises UserError when encoder and settings do not fit; builds no model."""
    encoder = plain_encoder(config.encoder, config.model.pooler)
    _check_encoder_fits(config, encoder)
    check_table(encoder, config.embedding, read_examples(config.data, "train").texts)


@lru_cache(maxsize=4)
def plain_encoder(settings: EncoderSettings, pooler: bool) -> Encoder:
    """Copied once for all configurations that are only looked at; nobody changes it."""
    return load_encoder(settings, seed=0, pooler=pooler)


def new_encoder(config: TextConfig, seed: int) -> Encoder:
    """The trial's own encoder, with the word table that is asked for. Raises UserError when there is none such."""
    encoder = load_encoder(config.encoder, seed, config.model.pooler)
    _check_encoder_fits(config, encoder)
    encoder = shrink(encoder, config.embedding, read_examples(config.data, "train").texts)
    freeze(encoder, config.encoder)
    return encoder


def _check_encoder_fits(config: TextConfig, encoder: Encoder) -> None:
    name, stride = config.encoder.name, config.spans.stride
    if config.model.pooler and encoder.model.pooler is None:
        raise UserError(f"model.pooler is true, but '{name}' is of a kind without a pooler")
    if config.encoder.layers == 0 and not can_rest_on_embeddings(encoder.model, encoder.hidden):
        needs = "embeddings as wide as the encoder, of a kind that can be without layers"
        raise UserError(f"encoder.layers 0 needs {needs}, which '{name}' does not have")
    asks = TASKS[config.data.task].kind == "span"
    if asks and config.encoder.layers == 0 and not any(encoder.tokenizer.backend_tokenizer.encode("a", "b").type_ids):
        needs = "a tokenizer that numbers question and context 0 and 1"
        raise UserError(f"encoder.layers 0 needs, for questions, {needs}, which '{name}' does not have")
    if asks and stride > (most := widest_stride(encoder.tokenizer, encoder.max_length)):
        windows = f"windows of encoder.max_length {encoder.max_length} tokens can overlap by at most {most}"
        raise UserError(f"spans.stride is {stride}, but {windows}")


def new_model(config: TextConfig, encoder: Encoder, seed: int) -> TextModel:
    """The model as it starts."""
    task, settings = TASKS[config.data.task], config.model
    outputs = {"classification": len(labels_of(config.data)), "regression": 1, "span": 2}[task.kind]
    shape = Shape(
        outputs, settings.pooling, settings.pooler, settings.hidden, settings.activation, settings.dropout,
        spans=task.kind == "span",
    )  # fmt: skip
    body: Any = encoder.model
    pooler, body.pooler = body.pooler, None  # it stands behind pooling instead, of whatever kind that is
    model = TextModel(body, _matched(shape, encoder.hidden, body.config.num_hidden_layers, settings.matched_dendrites))
    if model.layers == 0:
        drop_by_bytes(body)
        body.get_input_embeddings().sparse = True  # a step touches the rows of its own words alone
    start_head(model, seed, None if pooler is None else pooler.dense)
    return model


def _matched(shape: Shape, width: int, layers: int, dendrites: int) -> Shape:
    """The hidden layer wider by as many parameters as so many dendrites add to it, to within half a unit."""
    features = shape.features(width, layers)
    grown = dendrites * (features + 2) * shape.hidden + shape.hidden * dendrites * (dendrites - 1) // 2
    return replace(shape, hidden=shape.hidden + round(grown / (features + 1 + shape.outputs)))


def growing_layers(model: TextModel, target: Target) -> list[str]:
    """The dotted names of the layers that `target` means."""
    if target != "all_linear":
        return [f"head.{target}"]
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def multiples(
    settings: TextTrainSettings, model: TextModel, added: Collection[str] = (), added_multiplier: float = 1.0
) -> Callable[[str], float]:
    """The learning rate of a parameter as a multiple of train.lr, by the part of the model that it belongs to."""
    words = {id(parameter) for parameter in embeddings_of(model.encoder).parameters()}
    embedded = {name for name, parameter in model.named_parameters() if id(parameter) in words}

    def multiple(name: str) -> float:
        times = 1.0 if name.startswith("encoder.") else settings.head_lr_multiplier
        times = settings.embeddings_lr_multiplier if name in embedded else times
        return times * added_multiplier if name in added else times

    return multiple


def sized(model: TextModel, encoder: Encoder, parameters: int) -> dict[str, float]:
    """Sizes of a model of so many parameters, and what it saves against its whole encoder with a plain classifier."""
    table: Any = model.encoder.get_input_embeddings()  # type: ignore[operator]
    whole = encoder.whole + (encoder.hidden + 1) * model.shape.outputs
    behind = parameters - count(embeddings_of(model.encoder))
    stored = 4 * parameters + sum(buffer.numel() * buffer.element_size() for buffer in table.buffers())
    return {
        "size.parameters": parameters,
        "size.without_embeddings": behind,
        "size.bytes": stored,
        "size.reduction": 1 - parameters / whole,
        "size.bytes_reduction": 1 - stored / (4 * whole),
        "size.reduction_without_embeddings": 1 - behind / (whole - encoder.whole_embeddings),
    }


def step_latency(model: TextModel, inputs: TextInputs, device: str) -> float:
    """Median milliseconds of one text at a time through the model, tokens to logits."""
    model.eval()
    rows = cycle(np.arange(min(20, len(inputs.lengths)))[:, None])
    with torch.inference_mode():
        return latency(lambda: model(pack(inputs.tokens, next(rows), device)).cpu(), warmup=5, repeats=20).p50_ms


def told(config: TextConfig, encoder: Encoder) -> dict[str, Any]:
    """What a model's files say of its answers."""
    task = TASKS[config.data.task]
    return {
        "task": task.name,
        "kind": task.kind,
        "labels": list(labels_of(config.data)),
        "max_length": encoder.max_length,
        "stride": config.spans.stride,
    }


def sample(config: TextConfig) -> list[str] | list[tuple[str, str]]:
    """A few texts, the answers to which an exported model carries with it."""
    return read_examples(config.data, "select").texts[:8]


def export_model(config: TextConfig, model: TextModel, encoder: Encoder, folder: Path) -> dict[str, Any]:
    """Write a model in plain torch; what the registry says of it."""
    facts = told(config, encoder)
    save_model(folder, model, encoder.tokenizer, facts, sample(config))
    sizes = {name.removeprefix("size."): value for name, value in sized(model, encoder, count(model)).items()}
    return facts | sizes | {
        "bytes": folder_bytes(folder),
        "weight_bytes": sizes["bytes"],
        "layers": model.layers,
        "dendrites": max((layer["dendrites"] for layer in structure(model).values()), default=0),
    }  # fmt: skip


def served(config: TextConfig, model: TextModel, encoder: Encoder, device: str) -> dict[str, float]:
    """Bytes on disk of the exported model, and its milliseconds from text to answer, one at a time and 16 together."""
    texts = read_examples(config.data, "select").texts
    with TemporaryDirectory() as place:
        folder = Path(place, "model")
        export_model(config, model, encoder, folder)
        disk, predictor = folder_bytes(folder), TextPredictor(folder, device)
    ones, many = (cycle([texts[at : at + size] for at in range(0, min(160, len(texts)), size)]) for size in (1, 16))
    calls = {"one": lambda: predictor.predict(next(ones)), "many": lambda: predictor.predict(next(many), 16)}
    times = interleaved_latency(calls, warmup=5, repeats=50)
    return {
        "size.disk_bytes": disk,
        "latency.p50_ms": times["one"].p50_ms,
        "latency.p95_ms": times["one"].p95_ms,
        "latency.batch16_ms": times["many"].p50_ms,
    }
