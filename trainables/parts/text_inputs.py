"""The examples of a task as a model takes them, and its logits as answers that can be scored.

Shapes: N examples, W windows of their contexts, S tokens, K outputs.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from raysweep.trial import Scored, Statistic
from trainables.parts.answers import best_answers, exact_match, token_f1
from trainables.parts.batches import Rows, Tokenised, tokenise
from trainables.parts.encoders import Encoder
from trainables.parts.packed import pack
from trainables.parts.scores import SCORES
from trainables.parts.spans import Windows, windows
from trainables.parts.task_data import Examples
from trainables.parts.tasks import Task
from trainables.parts.text_predictor import predict_texts, predict_windows

Floats = npt.NDArray[np.float64]
BESIDE: dict[Statistic, tuple[Statistic, ...]] = {  # what is told beside a task's own score
    "accuracy": ("macro_f1",),
    "f1": ("accuracy",),
    "matthews": ("accuracy",),
    "spearman": ("pearson",),
}

EPOCH_METRICS = {  # what `scores` gives of an epoch's weights on select
    "epoch.score": "the task's own score on select of this epoch's weights: accuracy, or one of the following",
    "epoch.accuracy": "share of right labels",
    "epoch.macro_f1": "mean F1 of the labels",
    "epoch.f1": "F1 of the second of two labels, which is the positive one, or of the words of answers",
    "epoch.matthews": "Matthews correlation of labels",
    "epoch.spearman": "rank correlation of numbers",
    "epoch.pearson": "linear correlation of numbers",
    "epoch.exact_match": "share of answers that are exactly right",
}


@dataclass(frozen=True, slots=True)
class TextInputs:
    """One split. `targets`: class numbers [N], numbers in 0..1 [N], or places of an answer's ends in windows [W, 2]."""

    task: Task
    examples: Examples
    tokens: Tokenised
    targets: Tensor
    windows: Windows | None

    @property
    def lengths(self) -> Rows:
        """Tokens of each text that goes through the model, (N,) or (W,)."""
        return self.tokens.lengths


def text_inputs(task: Task, examples: Examples, encoder: Encoder, stride: int, device: str) -> TextInputs:
    """Examples in tokens; the windows of long contexts overlap by `stride` tokens."""
    if task.kind == "span":
        asked, contexts = (tuple(texts or ()) for texts in (examples.first, examples.second))
        golds = tuple(map(tuple, examples.answers or ()))
        parts = _kept_windows(encoder.tokenizer, asked, contexts, golds, encoder.max_length, stride)
        places = torch.from_numpy(np.stack([parts.starts, parts.ends], axis=1))
        return TextInputs(task, examples, parts.tokens, places.to(device), parts)
    tokens = tokenise(encoder.tokenizer, examples.texts, encoder.max_length)
    kind = torch.int64 if task.kind == "classification" else torch.float32
    return TextInputs(task, examples, tokens, torch.tensor(examples.targets, dtype=kind, device=device), None)


@lru_cache(maxsize=4)
def _kept_windows(
    tokenizer: Any, questions: tuple[str, ...], contexts: tuple[str, ...], answers: Any, max_length: int, stride: int
) -> Windows:
    """Made once for the trials of one process, as `tokenise` does."""
    return windows(tokenizer, questions, contexts, answers, max_length, stride)


def scored(model: nn.Module, inputs: TextInputs, size: int, device: str) -> dict[str, Scored]:
    """Each example's answer beside its target, by what they are scored with: the task's own score is the first.

    `size` texts go through the model at a time; it is left in eval mode.
    """
    if inputs.windows is not None:
        return _scored_spans(inputs, predict_windows(model, inputs.windows, device, size))
    return answered(inputs, predict_texts(model, lambda rows: pack(inputs.tokens, rows, device), inputs.lengths, size))


def answered(inputs: TextInputs, logits: Tensor) -> dict[str, Scored]:
    """What logits [N, K] of all examples answer, as `scored` gives it."""
    logits = logits.double()
    answers = logits[:, 0] if inputs.task.kind == "regression" else likeliest(logits)
    names = score_names(inputs.task, logits.shape[1])
    return {name: Scored(answers.numpy(), inputs.examples.targets, name) for name in names}


def score_names(task: Task, outputs: int) -> tuple[Statistic, ...]:
    """The task's own score, and what is told beside it: where there are two labels also F1, of the second one."""
    positive: tuple[Statistic, ...] = ("f1",) if task.score == "accuracy" and outputs == 2 else ()
    return (task.score, *BESIDE.get(task.score, ()), *positive)


def likeliest(logits: Tensor) -> Tensor:
    """The likeliest class of each example [N]; NaN where its logits are not finite."""
    classes = logits.argmax(1).to(logits.dtype)
    return classes.masked_fill(~logits.isfinite().all(1), torch.nan)


def _scored_spans(inputs: TextInputs, logits: npt.NDArray[np.float32]) -> dict[str, Scored]:
    examples = inputs.examples
    assert inputs.windows is not None
    assert examples.second is not None
    assert examples.answers is not None
    found = best_answers(logits[:, 0], logits[:, 1], inputs.windows, len(examples))
    texts = [examples.second[answer.example][answer.first_char : answer.last_char_exclusive] for answer in found]
    golds = [[text for text, _ in answers] for answers in examples.answers]
    broken, best = _broken(inputs.windows, logits), np.ones(len(examples))
    answers = {}
    for name, way in {"f1": token_f1, "exact_match": exact_match}.items():
        given = np.array([way(text, gold) for text, gold in zip(texts, golds, strict=True)])
        given[broken] = np.nan
        answers[name] = Scored(given, best, "mean")
    return answers


def _broken(parts: Windows, logits: npt.NDArray[np.float32]) -> Rows:
    """The examples with a logit that is not finite, as those of a model that has diverged."""
    example = np.repeat(parts.example, parts.tokens.lengths)
    return np.unique(example[~np.isfinite(logits).all(1)])


def scores(found: dict[str, Scored]) -> dict[str, float]:
    """The value of each, by name, and the first of them again as "score"."""
    values = {name: value(one) for name, one in found.items()}
    return {"score": next(iter(values.values())), **values}


def value(scored: Scored) -> float:
    """The score of one task's answers."""
    assert isinstance(scored.statistic, str), "all examples are one task's"
    return SCORES[scored.statistic](scored.predictions, scored.targets)
