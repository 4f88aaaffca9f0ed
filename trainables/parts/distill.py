"""Distillation: a pruned model follows the dense one that it came from, in its answers and in the states of its layers.

Shapes: N training texts, B texts in a batch, S tokens, T tokens of the longest text, H the encoder's width, K outputs.
Answers: https://arxiv.org/abs/1503.02531; states of layers: https://arxiv.org/abs/1908.09355.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raysweep.recipe import Settings
from trainables.parts.batches import Rows
from trainables.parts.encoders import layers
from trainables.parts.losses import TextKind
from trainables.parts.packed import Packed, pack, pool
from trainables.parts.text_inputs import TextInputs
from trainables.parts.text_model import TextModel
from trainables.parts.text_predictor import predict_texts


class DistillSettings(Settings):
    """Whether the model that is left learns from the dense model too, and how much."""

    kind: Literal["none", "logits", "hidden"] = Field(
        "none",
        description="what is learnt from the dense model: nothing, its answers, or these and each layer's states",
    )
    temperature: float = Field(2.0, ge=1, description="what the logits of both are divided by; no effect on numbers")
    weight: float = Field(0.5, ge=0, le=1, description="share of the answers' loss that is the dense model's")
    hidden_weight: float = Field(
        1.0, gt=0, description="with hidden: what the mean squared difference of states is multiplied by"
    )


def check(settings: DistillSettings, kind: TextKind, depth: int | None) -> list[str]:
    """What distillation does not allow of a task of this kind and an encoder of so many layers; None if not told."""
    wrong = {
        "distill.kind is for labels and numbers, but questions have answers in their tokens: set it to none":
            settings.kind != "none" and kind == "span",
        "distill.weight 0 with distill.kind logits learns nothing from the dense model: set kind to none":
            settings.kind == "logits" and settings.weight == 0,
        "distill.kind hidden compares layers, but encoder.layers is 0: set it to logits":
            settings.kind == "hidden" and depth == 0,
    }  # fmt: skip
    return [message for message, found in wrong.items() if found]


@dataclass(frozen=True, slots=True)
class Teacher:
    """The dense model's logits [N, K] of all training texts; the model itself only where its layers are compared."""

    settings: DistillSettings
    logits: Tensor
    dense: TextModel | None

    def loss(self, student: TextModel, batch: Packed, rows: Rows, hard: Callable[[Tensor], Tensor]) -> Tensor:
        """The loss of these training texts: (1 - weight) * hard(logits) + weight * answers + hidden_weight * states.

        A mean over texts, as `hard` must be.
        """
        weight, dense = self.settings.weight, self.dense
        with layer_states(student if dense is not None else None) as states:
            logits = student(batch)
        teacher = self.logits[rows].to(logits)
        loss = (1 - weight) * hard(logits) + weight * answer_loss(logits, teacher, self.settings.temperature)
        if dense is None:
            return loss
        with torch.no_grad(), layer_states(dense) as wanted:
            dense(batch)
        return loss + self.settings.hidden_weight * state_loss(states, wanted, batch)


def new_teacher(
    settings: DistillSettings, dense: TextModel, inputs: TextInputs, size: int, device: str
) -> Teacher | None:
    """`dense` as it is now, before anything is pruned or hooked to it, or None without distillation.

    `size` training texts go through it at a time; it is left in eval mode, and may change afterwards.
    """
    if settings.kind == "none":
        return None
    assert inputs.task.kind != "span"
    logits = predict_texts(dense, lambda rows: pack(inputs.tokens, rows, device), inputs.lengths, size)
    return Teacher(settings, logits.to(device), copy.deepcopy(dense) if settings.kind == "hidden" else None)


def answer_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Of logits [B, K]: T^2 * KL(teacher_T || student_T), a mean over texts; of numbers [B, 1] the squared error.

    T^2 keeps the gradient's size whatever the temperature T.
    """
    if student.shape[1] == 1:
        return F.mse_loss(student, teacher)
    ours, theirs = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def state_loss(student: list[Tensor], teacher: list[Tensor], batch: Packed) -> Tensor:
    """Mean squared difference of states, padded [B, T, H] for each layer: over H, a text's tokens, texts and layers."""
    width = torch.arange(student[0].shape[1], device=batch.lengths.device)
    mask = width < batch.lengths[:, None]
    pairs = zip(student, teacher, strict=True)
    squared = torch.stack([(ours - theirs)[mask].square().mean(1) for ours, theirs in pairs], dim=1)  # [S, layers]
    # Text by text, so that the parts of a batch, weighted by their texts, add up to the whole batch.
    return pool(squared, batch, "mean").mean()


@contextmanager
def layer_states(model: TextModel | None) -> Iterator[list[Tensor]]:
    """A list that takes what each layer gives, [B, T, H], while `model` runs within; stays empty without a model."""
    states: list[Tensor] = []

    def take(layer: Any, inputs: Any, output: Any) -> None:
        states.append(output if isinstance(output, Tensor) else output[0])

    stack = nn.ModuleList() if model is None else layers(model.encoder)
    hooks = [layer.register_forward_hook(take) for layer in stack]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()
