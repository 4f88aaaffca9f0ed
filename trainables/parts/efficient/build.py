"""How a tuned model is put together from settings, what it weighs, and how it becomes files."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from raysweep.measure import folder_bytes
from raysweep.problems import Problem
from raysweep.trial import Trial
from trainables.parts.batches import Rows
from trainables.parts.efficient.costs import Costs, Spent, kept_costs, serving_costs, write_usage
from trainables.parts.efficient.inputs import Inputs, inputs_of, rested
from trainables.parts.efficient.rounds import Round, rounds
from trainables.parts.efficient.settings import EfficientConfig
from trainables.parts.efficient.xnli import read_training
from trainables.parts.encoder_outline import outline
from trainables.parts.encoders import Encoder, count, is_decoder, load_encoder
from trainables.parts.examples import Examples, keys, strata
from trainables.parts.linear_layers import linear_names
from trainables.parts.task_data import labels_of, read_examples
from trainables.parts.tasks import TASKS
from trainables.parts.ternary.convert import make_ternary
from trainables.parts.text_model import Shape, TextModel, start_head
from trainables.parts.text_predictor import save_model
from trainables.parts.tuning import quantised
from trainables.parts.tuning.lora import add_lora, beside, exported_bytes, plain

COSTS = "costs.json"  # in the trial's folder: what evaluate and export both tell is measured once


@dataclass(frozen=True, slots=True)
class Built:
    """A model as it starts, around its encoder; `parameters` are those that are exported."""

    encoder: Encoder
    model: TextModel
    parameters: int


def problems(config: EfficientConfig) -> list[Problem]:
    """What settings ask of the encoder in vain; builds no model. Raises UserError where it cannot be loaded."""
    body = outline(config.encoder)
    found = []
    if config.model.pooling == "cls" and is_decoder(body.config):
        message = f"model.pooling cls: the first token of a decoder as '{config.encoder.name}' sees no other"
        found.append(Problem(message, hint="use last or mean"))
    if config.ternary.enabled or config.tuning.kind == "lora" or config.encoder.load_in != "float32":
        linear_names(body, "all")
    if importlib.util.find_spec("bitsandbytes") and not torch.cuda.is_available():  # whose kernels are others
        found += quantised.problems(body, config.encoder.load_in, "cpu")
    return found


def built(trial: Trial) -> Built:
    """A trial's model as it starts, on its device: the same whenever it is asked for."""
    config: EfficientConfig = trial.config
    encoder = load_encoder(config.encoder, trial.seed)
    body: Any = encoder.model
    if config.ternary.enabled:
        norm = config.ternary.norm
        make_ternary(body, config.ternary.targets, body.config.model_type != "bitnet" if norm is None else norm)
    parameters = count(body)
    quantised.load_in(body, config.encoder.load_in, trial.device)
    if config.tuning.kind != "full":
        body.requires_grad_(False)
    if config.tuning.kind == "lora":
        add_lora(body, config.tuning, trial.seed)
        parameters += beside(body)
    model = TextModel(body, shape_of(config))
    start_head(model, trial.seed, None)
    return Built(encoder, model.to(trial.device), parameters + count(model.head))


def shape_of(config: EfficientConfig) -> Shape:
    """What stands behind the encoder."""
    settings = config.model
    outputs = len(labels_of(config.data)) if TASKS[config.data.task].kind == "classification" else 1
    return Shape(
        outputs, settings.pooling, hidden=settings.hidden, activation=settings.activation, dropout=settings.dropout
    )


def count_learning(model: nn.Module) -> int:
    """Parameters that learn."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def multiples(config: EfficientConfig) -> Callable[[str], float]:
    """The learning rate of a parameter as a multiple of train.lr."""
    return lambda name: 1.0 if name.startswith("encoder.") else config.train.head_lr_multiplier


def sized(one: Built) -> dict[str, float]:
    """Parameters of the exported model, those that learn, and the bytes of its weights."""
    return {
        "size.parameters": one.parameters,
        "size.trainable": count_learning(one.model),
        "size.bytes": exported_bytes(one.model),
    }


def inputs(trial: Trial, one: Built, examples: Examples) -> Inputs:
    """Examples as this model takes them: as vectors, made once for all trials, if its encoder rests."""
    config: EfficientConfig = trial.config
    found = inputs_of(TASKS[config.data.task], examples, one.encoder, trial.device)
    if config.tuning.kind != "head_only":
        return found
    maker = f"{one.encoder.fingerprint} {config.model.pooling} {config.ternary.model_dump_json()}"
    return rested(found, one.model, maker, trial.shared, trial.device)


def training(config: EfficientConfig) -> tuple[Examples, tuple[Round, ...]]:
    """All examples to train on, and the rounds in which they are. Raises UserError where there are too few."""
    examples = read_training(config.data, config.xnli)
    groups: Rows = strata(TASKS[config.data.task].kind, examples)
    return examples, rounds(config.curve, config.cross_validation, groups, keys(examples))


def write_model(config: EfficientConfig, model: nn.Module, encoder: Encoder, folder: Path) -> dict[str, Any]:
    """Write a model that `plain` has made; what its files say of its answers."""
    assert isinstance(model, TextModel)
    task = TASKS[config.data.task]
    told = {"task": task.name, "kind": task.kind, "labels": list(labels_of(config.data))}
    sample = read_examples(config.data, "select").texts[:8]
    save_model(folder, model, encoder.tokenizer, told | {"max_length": encoder.max_length, "stride": 0}, sample)
    return told


def costs(trial: Trial, one: Built) -> Costs:
    """What the exported model costs where it is served: measured once for a trial."""
    config: EfficientConfig = trial.config
    texts = read_examples(config.data, "select").texts

    def measure() -> Costs:
        with TemporaryDirectory() as place:
            folder = Path(place, "model")
            write_model(config, plain(one.model), one.encoder, folder)
            settings = config.measure
            return serving_costs(folder, texts, trial.device, trial.threads, settings.repeats, settings.memory)

    return kept_costs(trial.folder / COSTS, measure)


def export_model(trial: Trial, one: Built, spent: Spent, folder: Path) -> dict[str, Any]:
    """Write model, tokenizer and what both training and serving took; what the registry says of them."""
    config: EfficientConfig = trial.config
    told = write_model(config, plain(one.model), one.encoder, folder)
    write_usage(folder, spent, costs(trial, one))
    sizes = {name.removeprefix("size."): value for name, value in sized(one).items()}
    return told | sizes | {
        "tuning": config.tuning.kind,
        "ternary": config.ternary.enabled,
        "max_length": one.encoder.max_length,
        "bytes": folder_bytes(folder),
        "weight_bytes": sizes["bytes"],
    }  # fmt: skip
