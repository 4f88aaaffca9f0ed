"""A multi-task model: towers that turn texts into sentence vectors, and a head for each task.

Each text is encoded alone. A task of pairs takes two vectors u, v as [u, v, |u - v|] (https://arxiv.org/abs/1908.10084),
or, with the loss `cosine`, their cosine and no head at all.
Shapes: B examples, P ways of pooling, H the encoder's width, F the sentence vector's, K outputs of a task.
Nothing here imports raysweep: exported models use it.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.parts.multitask.vectors import SentenceVector, VectorShape, pools_of
from trainables.parts.packed import Packed, token_states
from trainables.parts.text_model import Activation, Head, Shape

LossName = Literal["cross_entropy", "binary", "squared", "cosine"]
SHARED = "shared"  # the name of the only tower


@dataclass(frozen=True, slots=True)
class TaskShape:
    """What a task takes and gives; JSON. `outputs` is K; a `cosine` has no head, and then the rest has no meaning."""

    loss: LossName
    pairs: bool = False
    outputs: int = 1
    hidden: int = 0
    activation: Activation = "gelu"
    dropout: float = 0.0


class Tower(nn.Module):
    """Packed texts to sentence vectors [B, F]."""

    def __init__(self, encoder: nn.Module, vector: SentenceVector) -> None:
        super().__init__()
        self.encoder, self.vector = encoder, vector

    def pools(self, batch: Packed) -> Tensor:
        """[B, P, H]: what the learned parts behind the encoder take."""
        return pools_of(token_states(self.encoder, batch), batch, self.vector.shape.pools)

    def forward(self, batch: Packed) -> Tensor:
        vectors: Tensor = self.vector(self.pools(batch))
        return vectors


class MultitaskModel(nn.Module):
    """Towers, one that all tasks share or one for each, and the heads of all tasks that have one."""

    def __init__(self, towers: Mapping[str, Tower], tasks: Mapping[str, TaskShape]) -> None:
        super().__init__()
        assert SHARED in towers or towers.keys() == tasks.keys(), (list(towers), list(tasks))
        self.tasks, self.vector_shape = dict(tasks), next(iter(towers.values())).vector.shape
        self.towers = nn.ModuleDict(towers)
        self.heads = nn.ModuleDict(
            {name: head_of(shape, self.vector_shape.width) for name, shape in tasks.items() if shape.loss != "cosine"}
        )

    def tower(self, task: str) -> Tower:
        """The one that encodes the texts of a task."""
        return cast(Tower, self.towers[task if task in self.towers else SHARED])

    def answer(self, task: str, first: Tensor, second: Tensor | None = None) -> Tensor:
        """Logits [B, K] of sentence vectors [B, F], for a task of pairs of two each; for `cosine` cosines [B, 1]."""
        shape = self.tasks[task]
        assert (second is not None) == shape.pairs, task
        if second is None:
            logits: Tensor = self.heads[task](first)
        elif shape.loss == "cosine":
            logits = F.cosine_similarity(first, second)[:, None]
        else:
            logits = self.heads[task](torch.cat([first, second, (first - second).abs()], dim=1))
        return logits

    def structure(self) -> dict[str, Any]:
        """What `from_structure` needs beside encoders; JSON."""
        tasks = {name: asdict(shape) for name, shape in self.tasks.items()}
        return {"towers": list(self.towers), "vector": asdict(self.vector_shape), "tasks": tasks}


def head_of(shape: TaskShape, width: int) -> Head:
    """The head of a task on sentence vectors `width` wide, its weights not drawn yet."""
    outer = Shape(shape.outputs, hidden=shape.hidden, activation=shape.activation, dropout=shape.dropout)
    return Head((3 if shape.pairs else 1) * width, outer)


def from_structure(structure: dict[str, Any], encoder: Callable[[], nn.Module]) -> MultitaskModel:
    """A model that takes the weights of the one whose structure this is; `encoder` makes one for each tower."""
    shape = VectorShape(**structure["vector"])
    towers = {name: Tower(encoder(), SentenceVector(shape)) for name in structure["towers"]}
    return MultitaskModel(towers, {name: TaskShape(**told) for name, told in structure["tasks"].items()})


def alike(tower: Tower, names: list[str]) -> dict[str, Tower]:
    """A tower for each name; they are alike, and have no weights in common."""
    return {name: copy.deepcopy(tower) if place else tower for place, name in enumerate(names)}


def task_loss(loss: LossName, logits: Tensor, targets: Tensor) -> Tensor:
    """The mean loss of a batch.

    logits [B, K]; targets [B]: class numbers for cross_entropy, 0 or 1 for binary, else numbers in 0..1.
    """
    if loss == "cross_entropy":
        return F.cross_entropy(logits, targets)
    numbers = targets.to(logits.dtype)
    if loss == "binary":
        return F.binary_cross_entropy_with_logits(logits[:, 0], numbers)
    return F.mse_loss(logits[:, 0], numbers)
