"""What a multi-task model answers, each task's scores, and the one score of them all.

Shapes: N examples, K outputs of a task.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from raysweep.trial import Scored, Statistic, Stretch
from trainables.parts.batches import in_order
from trainables.parts.multitask.inputs import TaskInputs, batch_vectors
from trainables.parts.multitask.model import MultitaskModel
from trainables.parts.multitask.settings import HeadSettings
from trainables.parts.task_settings import labels_of
from trainables.parts.tasks import TASKS
from trainables.parts.text_inputs import likeliest

BESIDE: dict[str, tuple[Statistic, ...]] = {  # what is told beside a task's own score
    "classification": ("accuracy", "macro_f1"),
    "regression": ("pearson",),
}


def predict_all(model: MultitaskModel, inputs: TaskInputs, size: int, device: str) -> Tensor:
    """Logits [N, K] of all examples of a task, `size` at a time; leaves the model in eval mode."""
    model.eval()
    return in_order(
        lambda rows: model.answer(inputs.name, *batch_vectors(model, inputs, rows, device)),
        inputs.lengths,
        size,
    )


def task_scores(inputs: TaskInputs, logits: Tensor) -> dict[str, Scored]:
    """What logits [N, K] answer beside the targets, by what scores them: the task's own score is the first."""
    own, settings = own_score(inputs.settings), inputs.settings
    answers = _answers(settings, logits.double()).numpy()
    names = dict.fromkeys((own, *BESIDE[settings.kind]))
    return {name: Scored(answers, inputs.examples.targets, name) for name in names}


def _answers(settings: HeadSettings, logits: Tensor) -> Tensor:
    """Class numbers, or numbers, [N]; not finite where the logits are not."""
    if settings.kind == "regression":
        return logits[:, 0]
    if settings.loss_name == "binary":  # the one logit is that of the second label, beside 0 for the first
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return likeliest(logits)


def own_score(settings: HeadSettings) -> Statistic:
    """What the task is scored by."""
    return TASKS[settings.data.task].score


def chance(settings: HeadSettings) -> float:
    """What counts as guessing, in the task's own score: 1 / K of right labels among K; other scores count from 0."""
    return 1 / len(labels_of(settings.data)) if own_score(settings) in ("accuracy", "macro_f1") else 0.0


def joint(found: Mapping[str, Mapping[str, Scored]], tasks: Mapping[str, HeadSettings]) -> Scored:
    """All tasks' examples end to end, to be scored as `joint_value` does, from what `task_scores` gave for each.

    They are in the order of the tasks' names, so that models compare in whatever order their settings came.
    """
    own = {name: found[name][own_score(tasks[name])] for name in sorted(found)}
    return Scored(
        np.concatenate([one.predictions for one in own.values()]),
        np.concatenate([one.targets for one in own.values()]),
        tuple(Stretch(own_score(tasks[name]), len(one.targets), chance(tasks[name])) for name, one in own.items()),
    )


def joint_value(values: Mapping[str, float], tasks: Mapping[str, HeadSettings]) -> float:
    """The mean over the tasks of (score - chance) / (1 - chance), of each one's own score: 0 is guessing, 1 is best."""
    above = [(value - chance(tasks[name])) / (1 - chance(tasks[name])) for name, value in values.items()]
    return float(np.mean(above))
