"""A recipe that can be inspected but not trained, a sweep of it, and what is told when another text is loaded."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal
from unittest import mock

import pytest
from pydantic import Field, field_validator, model_validator

from raysweep import recipe
from raysweep.problems import Problem, UserError
from raysweep.recipe import DataFacts, RecipeConfig, Settings
from raysweep.sweep_file import SweepFile, load_sweep


class Train(Settings):
    lr: float = Field(1e-3, gt=0, lt=1, description="peak learning rate")
    epochs: int = Field(3, ge=1, le=50, description="passes over the data")
    schedule: Literal["linear", "constant"] = "linear"
    warmup: float = Field(0.0, ge=0, le=1)
    layers: list[int] = Field([], description="trained layers")
    limit: int | None = Field(None, ge=1)

    @field_validator("layers")
    @classmethod
    def _in_order(cls, layers: list[int]) -> list[int]:
        if layers != sorted(layers):
            raise ValueError("layers are in order")
        return layers


class Pruning(Settings):
    method: Literal["none", "magnitude", "2:4"] = "none"
    sparsity: float = Field(0.0, ge=0, lt=1)


class Config(RecipeConfig):
    train: Train = Train()
    pruning: Pruning | None = Pruning()
    flag: bool = False
    tags: dict[str, int] = Field({}, description="marks")

    @model_validator(mode="after")
    def _suits(self) -> "Config":
        if self.flag and self.train.schedule == "constant":
            raise ValueError("a flag needs a schedule")
        return self


class Toy(ModuleType):
    """A recipe that can be inspected; its data is missing where `epochs` is 13."""

    Config = Config
    METRICS: ClassVar = {"accuracy": "share of right answers", "loss": "mean loss"}
    LOADER = "toy:load"
    train = evaluate = export = None

    def inspect(self, config: Config) -> DataFacts:
        if config.train.epochs == 13:
            raise UserError([Problem("no data", "data.csv"), Problem("no encoder", hint="train one")])
        return DataFacts("toy", "made", synthetic=True)


GOOD = """\
name: toy-sweep
recipe: toy
space:
  train:
    lr: {loguniform: [1e-5, 1e-3]}
    epochs: {int: [1, 4]}
  train.schedule: {choice: [linear, constant]}
  train.warmup: {uniform: [0, 0.2], step: 0.02, when: train.schedule != 'constant'}
  pruning.method: {choice: {none: {}, magnitude: {pruning.sparsity: {uniform: [0, 0.9]}}, 2:4: {pruning.sparsity: 0.5}}}
  flag: false
constraints:
  - train.lr * train.epochs < 0.01
objectives: [{metric: accuracy}]
references:
  dense: {pruning.method: none, train: {lr: 1e-4}}
"""


def load(text: str, *overrides: str, kind: type[Toy] = Toy) -> SweepFile:
    """The checked sweep of a file `s.yaml` with this text."""
    with tempfile.TemporaryDirectory() as folder, known(kind):
        path = Path(folder, "s.yaml")
        path.write_text(text)
        return load_sweep(path, overrides)


@contextmanager
def known(kind: type[Toy] = Toy) -> Iterator[None]:
    """Within this, `toy` is the one recipe."""
    with mock.patch.object(recipe, "names", return_value={"toy": lambda: kind("toy")}):
        yield


def problems(text: str, *overrides: str, kind: type[Toy] = Toy) -> list[str]:
    """Every problem of a file with this text."""
    with pytest.raises(UserError) as caught:
        load(text, *overrides, kind=kind)
    found = [str(problem) for problem in caught.value.problems]
    return [problem[problem.index("s.yaml") :] if problem.startswith("/") else problem for problem in found]


def with_lines(**blocks: str) -> str:
    """The good file with other blocks in place of its own; their problems stand behind its lines."""
    kept = [part for part in GOOD.split("\n") if part]
    data: dict[str, list[str]] = {}
    for line in kept:
        if not line.startswith(" "):
            data[line.partition(":")[0]] = []
        data[next(reversed(data))].append(line)
    return "\n".join("\n".join(lines) for name, lines in data.items() if name not in blocks) + "".join(
        f"\n{name}: {text}" for name, text in blocks.items()
    )
