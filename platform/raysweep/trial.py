"""What a recipe receives (`Trial`) and what it gives back (`Report`, `Evaluation`). Nothing else passes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

# What a recipe needs to go on after a restart: dicts and lists of numbers, text, None and CPU arrays
# (numpy arrays or torch tensors without grad). It comes back with numpy arrays in place of tensors.
State = dict[str, Any]
# How predictions are scored; larger is better, at most 1. `f1` is the F1 of the label 1. For `mean` the predictions are
# the scores that each example was given, and the targets the best ones that it could have been given.
Statistic = Literal["spearman", "pearson", "accuracy", "macro_f1", "f1", "matthews", "mean"]


class Stretch(NamedTuple):
    """Examples that are scored together, mostly one task's: how many follow each other, and what guessing scores."""

    statistic: Statistic
    size: int
    chance: float = 0.0


# One score of all examples, or one of several tasks: then the examples of all tasks stand end to end, and the score is
# the mean over the stretches of (score - chance) / (1 - chance), where 0 is guessing and 1 perfect.
Scoring = Statistic | tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class World:
    """The processes that train one trial together: this one is `rank` of `size`."""

    rank: int = 0
    size: int = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration to train, and everything its recipe may use from outside.

    `folder` is the trial's own; `shared` is one folder for all trials of the sweep, for results keyed by content.
    `accumulate` is how many micro-batches make a batch: the engine doubles it when memory runs out, so a recipe
    takes `batch_size // accumulate` rows at a time. `restored` is what an earlier report's `state` returned.
    """

    id: str
    config: Any
    seed: int
    folder: Path
    shared: Path
    device: str = "cpu"
    threads: int = 1
    world: World = World()
    accumulate: int = 1
    restored: State | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """How a trial stands after `step` units of its resource, mostly epochs. `state` is called only when needed."""

    step: int
    metrics: dict[str, float]
    state: Callable[[], State]


@dataclass(frozen=True, slots=True)
class Scored:
    """Predictions and targets, both of shape (examples,), and what scores them."""

    predictions: npt.NDArray[np.float64]
    targets: npt.NDArray[np.float64]
    statistic: Scoring

    def __post_init__(self) -> None:
        _check(self.statistic, len(self.targets))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The trained model on the report split: metrics, and each example's prediction and target for paired tests.

    `predictions` and `targets` have shape (examples,); `statistic` says which score compares them, or which stretches
    of the examples have which. `others` are further scores by name, on the same or on other examples: they are reported
    for each arm and decide nothing.
    """

    metrics: dict[str, float]
    predictions: npt.NDArray[np.float64]
    targets: npt.NDArray[np.float64]
    statistic: Scoring
    others: dict[str, Scored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.statistic, len(self.targets))


def _check(statistic: Scoring, examples: int) -> None:
    """Here and not in the proof alone, which comes when everything is trained."""
    if not isinstance(statistic, str):
        assert sum(one.size for one in statistic) == examples, f"{statistic} are not {examples} examples"
        assert all(one.size > 0 and 0 <= one.chance < 1 for one in statistic), statistic
