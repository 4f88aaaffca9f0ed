"""The trial of nothing as a recipe: what remains of a sweep's time is the platform's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from benchmarks import nothing
from raysweep.recipe import DataFacts, RecipeConfig
from raysweep.trial import Evaluation, Report, State, Trial

METRICS = {"score": "the same for all trials if flat, else it rises to quality"}
LOADER = "trainables.idle:load"


class Config(RecipeConfig):
    """How long a trial does nothing, and what it reports."""

    marks: str = Field(description="file that each step's time is appended to")
    quality: float = Field(0.5, ge=0, le=1, description="where the score ends, unless it is flat")
    seconds: float = Field(0.0, ge=0, description="seconds that a step sleeps")
    imports: bool = Field(False, description="import torch and transformers first")
    flat: bool = Field(True, description="report the same score always")


def train(trial: Trial) -> Iterator[Report]:
    done = trial.restored["step"] if trial.restored else 0
    for step, score in enumerate(nothing.train(**trial.config.model_dump(), done=done), done + 1):
        yield Report(step, {"score": score}, lambda step=step: {"step": step})  # type: ignore[misc]


def evaluate(trial: Trial, state: State) -> Evaluation:
    raise AssertionError("a sweep of nothing proves nothing: confirm.top is 0")


def export(trial: Trial, state: State, folder: Path) -> dict[str, Any]:
    raise AssertionError("a sweep of nothing has no model")


def inspect(config: Config) -> DataFacts:
    return DataFacts("nothing", "no data", True)
