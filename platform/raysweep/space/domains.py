"""Domains: the values that one setting may take, how Optuna suggests one of them, and how one is drawn without Optuna.

Optuna knows a *parameter* (number, text, true/false or null); `value` turns it into the setting's value.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import optuna

PLAIN = (bool, int, float, str, type(None))  # what Optuna stores for a categorical parameter


class Domain(Protocol):
    """The values of a searched setting."""

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Any:
        """The value that `trial` suggests under this name."""

    def draw(self, rng: np.random.Generator) -> Any:
        """A random value."""

    def value(self, parameter: Any) -> Any:
        """The setting's value for Optuna's parameter."""

    def parameters(self) -> Iterator[Any] | None:
        """Every parameter of a discrete domain, in order; None when the domain is continuous."""

    def extremes(self) -> Sequence[Any]:
        """The values to check against a recipe: all of a list, both ends of a range."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """One value, nothing to search."""

    content: Any

    def extremes(self) -> Sequence[Any]:
        return [self.content]


@dataclass(frozen=True, slots=True)
class Choice:
    """Unordered values. Lists and mappings are JSON text for Optuna, as it stores plain values only."""

    values: tuple[Any, ...]

    @property
    def _encoded(self) -> bool:
        return not all(isinstance(value, PLAIN) for value in self.values)

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Any:
        return self.value(trial.suggest_categorical(name, list(self.parameters())))

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[int(rng.integers(len(self.values)))]

    def value(self, parameter: Any) -> Any:
        return json.loads(parameter) if self._encoded else parameter

    def parameters(self) -> Iterator[Any]:
        return map(json.dumps, self.values) if self._encoded else iter(self.values)

    def extremes(self) -> Sequence[Any]:
        return self.values


@dataclass(frozen=True, slots=True)
class Grid(Choice):
    """Values that are crossed with every sampled point, such as data seeds or tasks; Optuna does not see them."""


@dataclass(frozen=True, slots=True)
class Ordinal:
    """Numbers in order; Optuna's parameter is the position, so that neighbours are near."""

    values: tuple[float, ...]

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Any:
        return self.value(trial.suggest_int(name, 0, len(self.values) - 1))

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[int(rng.integers(len(self.values)))]

    def value(self, parameter: Any) -> Any:
        return self.values[parameter]

    def parameters(self) -> Iterator[Any]:
        return iter(range(len(self.values)))

    def extremes(self) -> Sequence[Any]:
        return self.values


@dataclass(frozen=True, slots=True)
class Uniform:
    """A range of numbers, both ends included; with a step, only its multiples above `low`."""

    low: float
    high: float
    step: float | None = None

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Any:
        return self.value(trial.suggest_float(name, self.low, self.high, step=self.step))

    def draw(self, rng: np.random.Generator) -> Any:
        if self.step is None:
            return float(rng.uniform(self.low, self.high))
        return self._multiple(int(rng.integers(self._steps + 1)))

    def value(self, parameter: Any) -> Any:
        return parameter if self.step is None else self._multiple(round((parameter - self.low) / self.step))

    def parameters(self) -> Iterator[Any] | None:
        return None if self.step is None else map(self._multiple, range(self._steps + 1))

    def extremes(self) -> Sequence[Any]:
        return self.low, self.high

    @property
    def _steps(self) -> int:
        assert self.step is not None
        return round((self.high - self.low) / self.step)

    def _multiple(self, count: int) -> float:
        """Decimal arithmetic: 0.3 + 0.05 is 0.35, not 0.35000000000000003."""
        return float(Decimal(repr(self.low)) + count * Decimal(repr(self.step)))


@dataclass(frozen=True, slots=True)
class LogUniform:
    """A range of positive numbers, even on a logarithmic scale."""

    low: float
    high: float

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Any:
        return trial.suggest_float(name, self.low, self.high, log=True)

    def draw(self, rng: np.random.Generator) -> Any:
        return float(np.clip(np.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low, self.high))

    def value(self, parameter: Any) -> Any:
        return parameter

    def parameters(self) -> None:
        return None

    def extremes(self) -> Sequence[Any]:
        return self.low, self.high


@dataclass(frozen=True, slots=True)
class Int:
    """A range of whole numbers, both ends included."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Any:
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def draw(self, rng: np.random.Generator) -> Any:
        if not self.log:
            return self.low + self.step * int(rng.integers((self.high - self.low) // self.step + 1))
        exact = np.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return int(np.clip(round(exact), self.low, self.high))

    def value(self, parameter: Any) -> Any:
        return parameter

    def parameters(self) -> Iterator[Any]:
        return iter(range(self.low, self.high + 1, self.step))

    def extremes(self) -> Sequence[Any]:
        return self.low, self.high
