"""Tasks of a few rows, and trials on them, as the tests of the multi-task recipe train them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from raysweep.engine import checkpoint
from raysweep.recipe import configure, find
from raysweep.trial import State, Trial
from tests.task_folders import Row, folder_of, write_jsonl
from tests.text_models import encoder_folder, opinions
from trainables import multitask
from trainables.parts.multitask import build
from trainables.parts.multitask import inputs as task_inputs

Flat = dict[str, Any]
ROWS = {"train": 17, "select": 6, "report": 7}  # no whole number of batches
TASKS = {"mood": "sst2", "sense": "mnli", "likeness": "stsb", "degree": "stsb"}
LOSSES = {"mood": "binary", "sense": "cross_entropy", "likeness": "cosine", "degree": "squared"}
FAST: Flat = {"train.epochs": 3, "train.lr": 2e-3, "train.batch_size": 8}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TURNS: Flat = {"sampling.kind": "round_robin"}
Weights = dict[str, Tensor]


def pairs(first: str, second: str, target: Callable[[int, int], float]) -> Any:
    """Rows of pairs, whose target is told by the ages of both."""

    def rows(count: int, start: int = 0) -> list[Row]:
        numbers = [(number, number % 2, number // 2 % 2) for number in range(start, start + count)]
        ages = ("old", "young")
        return [
            {
                first: f"the {ages[one]} dog {number}",
                second: f"a {ages[other]} cat near the river {number}",
                "label": target(one, other),
            }
            for number, one, other in numbers
        ]

    return rows


MAKERS = {
    "sst2": opinions,
    "mnli": pairs("premise", "hypothesis", lambda one, other: 0 if one == other else 1 + one),
    "stsb": pairs("sentence1", "sentence2", lambda one, other: 5.0 if one == other else 0.0),
}


def prepare(path: Path, layers: int = 2) -> None:
    """Every task's rows, no text in two splits, and two encoders of so many layers, one of them without dropout."""
    for number, (task, rows) in enumerate(MAKERS.items()):
        splits, start = {}, 100 * number
        for split, count in ROWS.items():
            splits[split] = rows(count, start)
            start += count + 1
        folder_of(path / task, write_jsonl, **splits)
    for name, changes in {"still": STILL, "lively": {}}.items():
        encoder_folder(path / name, "bert", num_hidden_layers=layers, **changes)


def flat_of(path: Path, *names: str, lively: bool = False) -> Flat:
    """These tasks on the rows in this folder; without dropout, if not said otherwise."""
    flat = FAST | {"encoder.name": str(path / ("lively" if lively else "still")), "encoder.max_length": 32}
    for name in names:
        data = {"task": TASKS[name], "source": str(path / TASKS[name]), "select": "select", "report": "report"}
        flat |= {f"tasks.{name}.data.{what}": value for what, value in data.items()}
        flat |= {f"tasks.{name}.loss": LOSSES[name]}
        flat |= {f"tasks.{name}.data.also": ()} if name == "sense" else {}
        flat |= {f"tasks.{name}.dropout": 0.1 if lively else 0.0} if LOSSES[name] != "cosine" else {}
    return flat


def trial_of(path: Path, flat: Flat, **changes: Any) -> Trial:
    return replace(Trial("t0000", configure(find("multitask"), flat), 1, path, path / "shared"), **changes)


def ended(trial: Trial) -> State:
    """The state behind the last report."""
    *_, last = states(trial)
    return last


def states(trial: Trial) -> Iterator[State]:
    """The state behind each report."""
    for report in multitask.train(trial):
        yield report.state()


def metrics(trial: Trial, name: str) -> list[float]:
    """What each report says."""
    return [report.metrics[name] for report in multitask.train(trial)]


def through_a_file(state: State, path: Path) -> State:
    """As the engine gives it back."""
    checkpoint.save(state, path / checkpoint.FILE)
    return checkpoint.load(path / checkpoint.FILE)


class Watched:
    """The runs that begin from now on, and the weights that each began with."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.runs: list[multitask.Run] = []
        self.starts: list[Weights] = []
        real = multitask.begin

        def begin(trial: Trial) -> multitask.Run:
            self.runs.append(real(trial))
            self.starts.append(weights_of(self.runs[-1]))
            return self.runs[-1]

        patch.setattr(multitask, "begin", begin)


def weights_of(run: multitask.Run) -> Weights:
    """Copies of all parameters, frozen ones too."""
    return {name: weight.detach().clone() for name, weight in run.model.named_parameters()}


def changed(one: Weights, other: Weights) -> set[str]:
    """The parameters of which any number differs."""
    return {name for name, weight in one.items() if not torch.equal(weight, other[name])}


def felt(names: Iterable[str]) -> set[str]:
    """Without the biases of keys: attention is the same whatever they are, so that only rounding moves them."""
    return {name for name in names if not name.endswith("key.bias")}


def precise(patch: pytest.MonkeyPatch) -> None:
    """Train in float64, so that what is summed in another order differs by next to nothing.

    In float32 AdamW would blow up the difference: a key's bias in attention has no gradient but rounding's.
    """
    new, pools = build.new_model, task_inputs.stored_pools
    patch.setattr(build, "new_model", lambda *given: new(*given).double())
    patch.setattr(task_inputs, "stored_pools", lambda *given: pools(*given).double())
