"""How far a trial is, which of its weights are kept, and what each of its rounds has come to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from typing import Any

import numpy as np
from torch import nn

from trainables.parts.efficient.rounds import Round
from trainables.parts.state import tensors
from trainables.parts.weights import Weights, learning


@dataclass(slots=True)
class Progress:
    """How far a trial is. `rounds` holds the best score of each round that has begun, in order; `kept` are the weights
    of the present round's best epoch. `waited` counts epochs since other weights were kept.
    """

    epoch: int = 0
    waited: int = 0
    seconds: float = 0.0
    rounds: dict[str, float] = field(default_factory=dict)
    kept: Weights = field(default_factory=dict)

    def judge(self, name: str, score: float, model: nn.Module) -> None:
        """Keep a round's first weights, and then those whose score is the best so far: one that is no number never."""
        best = self.rounds.get(name, nan)
        self.waited += 1
        if name not in self.rounds or score > best or (isnan(best) and not isnan(score)):
            self.rounds[name], self.kept, self.waited = score, learning(model), 0

    def over(self, epochs: int, patience: int) -> bool:
        """Whether all epochs are over, or patience is at its end."""
        return self.epoch >= epochs or 0 < patience <= self.waited

    def metrics(self) -> dict[str, float]:
        """The score of the kept weights, of each size, and over the folds so far."""
        folds = [score for name, score in self.rounds.items() if name.startswith("fold ")]
        found = {"select.score": list(self.rounds.values())[-1]}
        found |= {f"curve.{name}.score": score for name, score in self.rounds.items() if name.isdigit()}
        return found | ({"folds.score": float(np.mean(folds)), "folds.deviation": deviation(folds)} if folds else {})

    def state(self) -> dict[str, Any]:
        """For a checkpoint: `restored` goes on from it."""
        return asdict(self)


def deviation(scores: list[float]) -> float:
    """The standard deviation between folds; 0 while there is one alone."""
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0


def restored(state: Mapping[str, Any]) -> Progress:
    """What `Progress.state` gave."""
    return Progress(**{**state, "kept": tensors(state["kept"])})


def round_of(rounds: tuple[Round, ...], epoch: int, epochs: int) -> Round:
    """The round that this epoch, counted from 0 through all rounds, belongs to; behind the last one it is the last."""
    return rounds[min(epoch // max(epochs, 1), len(rounds) - 1)]
