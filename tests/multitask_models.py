"""Multi-task models of small random encoders, as the tests of vectors, model and predictor use them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.text_models import byte_level, encoder_folder, moved
from trainables.parts.batches import tokens_of
from trainables.parts.encoders import Encoder, load_encoder
from trainables.parts.multitask import build
from trainables.parts.multitask.model import MultitaskModel
from trainables.parts.multitask.settings import MultitaskConfig
from trainables.parts.multitask.vectors import SentenceVector, VectorShape, start_vector
from trainables.parts.packed import Packed, pack

TEXTS = ["the doctor bought a car", "", "a dog", "z" * 60, "near the river the old farmer recorded a zebra"]
OTHERS = ["a car was bought", "the dog", "", "near the shore the nurse sold a red boat", "a zebra"]
PAIRS = list(zip(TEXTS, OTHERS, strict=True))
TASKS: dict[str, dict[str, Any]] = {
    "mood": {"data": {"task": "sst2"}, "loss": "binary"},
    "topic": {"data": {"task": "classification", "labels": ["a", "b", "c"]}, "hidden": 7},
    "rating": {"data": {"task": "regression"}},
    "sense": {"data": {"task": "mnli"}, "hidden": 5, "activation": "relu"},
    "likeness": {"data": {"task": "stsb"}},
    "degree": {"data": {"task": "stsb"}, "loss": "squared"},
}


def config_of(*names: str, **groups: Any) -> MultitaskConfig:
    """The tasks of these names, or all; `groups` as in a sweep file."""
    tasks = {name: TASKS[name] for name in names or TASKS}
    return MultitaskConfig.model_validate({"encoder": {"max_length": 32}, **groups, "tasks": tasks})


def encoder_of(path: Path, kind: str, **changes: Any) -> str:
    """A folder with a random encoder of this kind, with the tokenizer that goes with it."""
    return encoder_folder(path, kind, byte_level(TEXTS) if kind == "roberta" else None, **changes)


def new(config: MultitaskConfig, seed: int = 1) -> tuple[MultitaskModel, Encoder]:
    """The model as it starts, without dropout."""
    encoder = load_encoder(config.encoder, seed)
    return build.new_model(config, encoder, seed).eval(), encoder


def trained(config: MultitaskConfig) -> tuple[MultitaskModel, Encoder]:
    """The model as if it had been trained: no weight is zero, no two towers are alike."""
    model, encoder = new(config)
    moved(model)
    for place, tower in enumerate(model.towers.values()):
        moved(tower, 0.05 * (place + 1))
    return model, encoder


def vector_of(**shape: Any) -> SentenceVector:
    """A started vector; behind pools two numbers wide, if not given."""
    vector = SentenceVector(VectorShape(**{"hidden": 2, **shape}))
    start_vector(vector, torch.Generator().manual_seed(0))
    return vector


def packed(encoder: Encoder, texts: list[str]) -> Packed:
    tokens = tokens_of(encoder.tokenizer, texts, encoder.max_length)
    return pack(tokens, torch.arange(len(texts)).numpy())


@torch.no_grad()
def vectors_alone(model: MultitaskModel, encoder: Encoder, task: str, texts: list[str]) -> Tensor:
    """[N, F]: each text in a batch of its own."""
    return torch.cat([model.tower(task)(packed(encoder, [text])) for text in texts])
