"""A recipe of ten honest lines: a curve that rises to `quality`, with every kind of trouble on request."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from safetensors.numpy import save_file
from trainables.toy_parts.loader import load

from raysweep.needs import Library, Memory, Requirement
from raysweep.recipe import DataFacts, RecipeConfig
from raysweep.trial import Evaluation, Report, Scored, State, Stretch, Trial

METRICS = {"score": "rises to quality", "cost": "falls with quality", "accumulate": "micro-batches in a batch"}
LOADER = "trainables.toy_parts.loader:load"


class Config(RecipeConfig):
    """What the curve looks like, and what goes wrong on it."""

    quality: float = Field(0.5, description="where the curve ends")
    epochs: int = Field(9, ge=0, description="steps of a trial")
    seconds: float = Field(0.0, ge=0, description="seconds that a step takes")
    trouble: Literal["none", "raise", "nan", "memory", "die", "blind"] = Field(
        "none", description="what goes wrong at step 2"
    )
    alone: bool = Field(False, description="wants a process of its own")
    further: bool = Field(False, description="is scored on labels, too")
    tasks: bool = Field(False, description="is scored on numbers and labels in one")
    library: Literal["none", "no-such-library"] = Field("none", description="what has to be installed")
    memory_gb: float = Field(0.0, ge=0, description="memory that it needs")

    @property
    def isolated(self) -> bool:
        return self.alone

    @property
    def needs(self) -> tuple[Requirement, ...]:
        library = () if self.library == "none" else (Library(self.library, by=("library",), at_least="2.1"),)
        return (*library, *((Memory(self.memory_gb, by=("memory_gb",)),) if self.memory_gb else ()))


def train(trial: Trial) -> Iterator[Report]:
    config: Config = trial.config
    total = trial.restored["total"] if trial.restored else np.zeros(3)
    rng = np.random.default_rng(trial.seed)
    noise = rng.normal(0, 0.001, config.epochs + 1)
    try:
        for step in range(int(total[0]) + 1, config.epochs + 1) or [0]:
            time.sleep(config.seconds)
            _stumble(config, trial, step)
            total = total + np.array([step - total[0], os.getpid(), 1])
            score = config.quality * (1 - 0.5**step) + float(noise[step])
            metrics = {"score": score, "cost": 1 - config.quality, "accumulate": trial.accumulate, "trained": total[2]}
            yield Report(
                step, {name: float(value) for name, value in metrics.items()}, lambda total=total: {"total": total}
            )  # type: ignore[misc]
    finally:
        (trial.folder / "closed").touch()


def _stumble(config: Config, trial: Trial, step: int) -> None:
    if step != 2 or config.trouble in ("none", "blind"):
        return
    if config.trouble == "raise":
        raise ValueError(f"no luck in {trial.id}")
    if config.trouble == "memory" and trial.accumulate < 4:
        raise MemoryError("out of memory")
    if config.trouble == "die" and not (mark := trial.folder / "died").exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    if config.trouble == "nan":
        raise_nan = float("nan")
        object.__setattr__(config, "quality", raise_nan)


def evaluate(trial: Trial, state: State) -> Evaluation:
    rng = np.random.default_rng(7)
    targets = rng.uniform(size=50)
    predictions = targets * trial.config.quality + np.random.default_rng(trial.seed).normal(0, 0.05, 50)
    labels = predictions.round()
    if trial.config.trouble == "blind":
        (labels if trial.config.further else predictions)[3] = np.nan
    others = {"large/small": Scored(labels, targets.round(), "f1")} if trial.config.further else {}
    metrics = {"report.score": trial.config.quality}
    if trial.config.tasks:
        both = Scored(
            np.append(predictions, labels),
            np.append(targets, targets.round()),
            (Stretch("spearman", 50), Stretch("accuracy", 50, 0.5)),
        )
        return Evaluation(metrics, both.predictions, both.targets, both.statistic, {**others, "both": both})
    return Evaluation(metrics, predictions, targets, "spearman", others)


def export(trial: Trial, state: State, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"weight": np.full(2, trial.config.quality)}, folder / "model.safetensors")
    texts = ["one", "two words"]
    verify = {"texts": texts, "outputs": load(folder)(texts).tolist()}
    (folder / "verify.json").write_text(json.dumps(verify))
    return {"parameters": 2, "sentence_transformer": False}


def inspect(config: Config) -> DataFacts:
    return DataFacts("toy", "made by the test", True, {"train": 10, "select": 5, "report": 50}, {"train": "aa"})
