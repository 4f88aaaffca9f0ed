"""How a multi-task model is put together from settings, what it weighs, and how it becomes files."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from raysweep.measure import folder_bytes, sizes
from raysweep.problems import Problem, UserError
from trainables.parts.batches import Texts
from trainables.parts.encoders import Encoder, EncoderSource, layers, load_encoder
from trainables.parts.footprint import footprint, weight_bytes
from trainables.parts.multitask import checks
from trainables.parts.multitask.balance import Balance
from trainables.parts.multitask.model import SHARED, MultitaskModel, TaskShape, Tower, alike
from trainables.parts.multitask.predictor import columns_of, save_model, served
from trainables.parts.multitask.sentence_form import has_form
from trainables.parts.multitask.settings import HeadSettings, MultitaskConfig, MultitaskTrainSettings, VectorSettings
from trainables.parts.multitask.vectors import SentenceVector, VectorShape, start_vector
from trainables.parts.optim import RowAdamW, adamw
from trainables.parts.task_data import labels_of, read_examples
from trainables.parts.text_model import Head, draw_head

LOADER = "trainables.parts.multitask.predictor:load"


def problems(config: MultitaskConfig) -> list[Problem]:
    """All that settings ask of the encoder in vain; builds no model. Raises UserError where it cannot be loaded."""
    encoder = _plain_encoder(config.encoder)
    body: Any = encoder.model
    found = checks.encoder(config, encoder.hidden, body.config.num_hidden_layers)
    asks = {
        "freezing.kind gradual": config.freezing.kind == "gradual",
        "freezing.keep_bottom": config.freezing.keep_bottom > 0,
        "train.layer_decay": config.train.layer_decay != 1.0,
    }
    if any(asks.values()) and not _apart(body):
        names = " and ".join(name for name, asked in asks.items() if asked)
        found.append(f"{names}: layers with weights of their own are needed, and '{config.encoder.name}' has none")
    return [Problem(problem) for problem in found]


@lru_cache(maxsize=4)
def _plain_encoder(settings: EncoderSource) -> Encoder:
    """Copied once for all configurations that are only looked at; nobody changes it."""
    return load_encoder(settings, seed=0)


def _apart(encoder: nn.Module) -> bool:
    """Whether each layer has weights of its own."""
    try:
        layers(encoder)
    except UserError:
        return False
    return True


def new_model(config: MultitaskConfig, encoder: Encoder, seed: int) -> MultitaskModel:
    """The model as it starts. Each head is drawn by seed and its task's name alone; towers start alike."""
    vector = SentenceVector(vector_shape(config.pooling, encoder.hidden))
    start_vector(vector, _generator(seed, "vector"))
    names = list(config.tasks) if config.sharing == "none" else [SHARED]
    tasks = {name: task_shape(task) for name, task in config.tasks.items()}
    model = MultitaskModel(alike(Tower(encoder.model, vector), names), tasks)
    for name, head in model.heads.items():
        assert isinstance(head, Head)
        draw_head(head, _generator(seed, f"heads.{name}"))
    return model


def _generator(seed: int, part: str) -> torch.Generator:
    """The same for the same part, whatever other parts a model has."""
    digest = hashlib.sha256(f"{seed} {part}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def depth(model: MultitaskModel) -> int:
    """Layers of an encoder, which in every tower are as many."""
    tower: Any = next(iter(model.towers.values()))
    return int(tower.encoder.config.num_hidden_layers)


def vector_shape(settings: VectorSettings, hidden: int) -> VectorShape:
    """What is asked for behind an encoder of this width."""
    return VectorShape(
        hidden,
        settings.kind,
        settings.combination or "concat",
        settings.projection,
        settings.activation,
        settings.residual,
        settings.layer_norm,
    )


def task_shape(settings: HeadSettings) -> TaskShape:
    """What is asked for of a task's head."""
    return TaskShape(
        settings.loss_name, settings.pairs, settings.outputs, settings.hidden, settings.activation, settings.dropout
    )


def multiples(settings: MultitaskTrainSettings, model: MultitaskModel) -> Callable[[str], float]:
    """The learning rate of a parameter as a multiple of train.lr; all but encoders learn at train.head_lr."""
    encoders = {name: tower.encoder for name, tower in model.towers.items()}
    times = {
        f"towers.{name}.encoder.{parameter}": multiple
        for name, encoder in encoders.items()
        for parameter, multiple in _by_depth(encoder, settings.layer_decay).items()
    }
    behind = (settings.head_lr or settings.lr) / settings.lr
    return lambda name: times.get(name, behind)


def new_optimizer(config: MultitaskConfig, model: MultitaskModel, balance: Balance) -> RowAdamW:
    """AdamW over all that learns at present, learned weights of losses too; each part at a rate of its own."""
    settings, multiple = config.train, multiples(config.train, model)

    def times(name: str) -> float:
        part, _, inner = name.partition(".")
        return multiple(inner) if part == "model" else config.balance.lr / settings.lr

    learned = nn.ModuleDict({"model": model, "balance": balance})
    return adamw(learned, settings.lr, settings.weight_decay, times)


def shared(model: MultitaskModel) -> list[str]:
    """The parameters that learn at present, and that all tasks share."""
    return [name for name, weight in model.named_parameters() if name.startswith("towers.") and weight.requires_grad]


def _by_depth(encoder: Any, decay: float) -> dict[str, float]:
    """1 for the top layer and what follows it, `decay` to the power of how far below it for all others.

    What an encoder has before its first layer, as named_parameters orders it, counts as one layer more.
    """
    if decay == 1.0:  # also for encoders whose layers share their weights
        return dict.fromkeys(dict(encoder.named_parameters()), 1.0)
    stack = layers(encoder)
    below = {id(weight): len(stack) - 1 - place for place, layer in enumerate(stack) for weight in layer.parameters()}
    times, other = {}, len(stack)
    for name, weight in encoder.named_parameters():
        if id(weight) in below:
            other = 0
        times[name] = decay ** below.get(id(weight), other)
    return times


def sized(model: MultitaskModel) -> dict[str, float]:
    """Parameters of the whole model, of its encoders and of all behind them, and the bytes of its weights."""
    found = sizes(model, embedding=(), encoder=[f"towers.{name}.encoder." for name in model.towers])
    return {
        "size.parameters": found.total,
        "size.encoder": found.encoder,
        "size.heads": found.head,
        "size.bytes": sum(weights.nbytes for weights in model.state_dict().values()),
    }


def told(config: MultitaskConfig, encoder: Encoder) -> dict[str, Any]:
    """What a model's files say of its answers."""
    tasks = {
        name: {
            "kind": task.kind,
            "loss": task.loss_name,
            "labels": list(labels_of(task.data)),
            "pairs": task.pairs,
        }
        for name, task in config.tasks.items()
    }
    return {"max_length": encoder.max_length, "tasks": tasks}


def sample(config: MultitaskConfig, count: int = 8) -> Texts:
    """A few texts of select, or pairs if no task takes one text, such as an exported model answers."""
    tasks = {name: {"pairs": task.pairs} for name, task in config.tasks.items()}
    return read_examples(config.tasks[served(tasks)[0]].data, "select").texts[:count]


def learned(config: MultitaskConfig) -> str:
    """What of the model was trained, in words."""
    kind = config.freezing.kind
    if kind == "all" or config.train.epochs == 0:
        return "nothing: the heads are as they were drawn, and guess"
    return {
        "none": "everything",
        "backbone": "everything but the encoder",
        "head": f"everything but the head of {config.freezing.head}",
        "gradual": "the heads, and the encoder's layers one after another from the top",
        "two_phase": "the heads, and then the encoder",
    }[kind]


def export_model(
    config: MultitaskConfig, model: MultitaskModel, encoder: Encoder, folder: Path, texts: Texts
) -> dict[str, Any]:
    """Write a model with its answers to these texts (see `sample`); what the registry says of it."""
    facts = told(config, encoder)
    save_model(folder, model, encoder.tokenizer, facts, texts)
    costs = sized(model)
    return facts | {
        "columns": columns_of(facts["tasks"]),
        "sharing": config.sharing,
        "learned": learned(config),
        "dimensions": model.vector_shape.width,
        "parameters": costs["size.parameters"],
        "encoder_parameters": costs["size.encoder"],
        "bytes": folder_bytes(folder),
        "weight_bytes": weight_bytes(folder),
        "sentence_transformer": has_form(model),
    }


def served_costs(config: MultitaskConfig, model: MultitaskModel, encoder: Encoder, threads: int) -> dict[str, float]:
    """Bytes on disk of the exported model, and its milliseconds on the CPU from text to the answers of all tasks.

    One text at a time, and 16 together.
    """
    with TemporaryDirectory() as place:
        folder = Path(place, "model")
        export_model(config, model, encoder, folder, sample(config))
        cost = footprint({"model": folder}, sample(config, 160), LOADER, threads, repeats=50, memory=False)["model"]
    return {
        "size.disk_bytes": cost.disk_bytes,
        "latency.p50_ms": cost.one.p50_ms,
        "latency.p95_ms": cost.one.p95_ms,
        "latency.batch16_ms": cost.many.p50_ms,
    }
