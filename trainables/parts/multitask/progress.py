"""How far a multi-task trial is, which of its weights are kept, and whether it goes on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf, isnan, nan
from typing import Any

from torch import nn

from trainables.parts.state import tensors
from trainables.parts.weights import Weights, learning


@dataclass(slots=True)
class Progress:
    """How far a trial is. `score` and `scores` are those of the weights that are kept, `best` each task's highest.

    `waited` counts epochs since other weights were kept; `probe` is None where the pairs are not scored.
    """

    epoch: int = 0
    waited: int = 0
    seconds: float = 0.0
    score: float = nan
    probe: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    kept: Weights = field(default_factory=dict)

    def judge(self, score: float, scores: Mapping[str, float], probe: float | None, model: nn.Module) -> None:
        """Keep the first weights, and then those whose score is the best so far: one that is not a number never is."""
        self.best |= {name: value for name, value in scores.items() if value > self.best.get(name, -inf)}
        self.waited += 1
        if not self.scores or score > self.score or (isnan(self.score) and not isnan(score)):
            self.score, self.scores, self.probe, self.waited = score, dict(scores), probe, 0
            self.kept = learning(model)

    def over(self, epochs: int, patience: int) -> bool:
        """Whether all epochs are over, or patience is at its end."""
        return self.epoch >= epochs or 0 < patience <= self.waited

    def metrics(self) -> dict[str, float]:
        """The scores of the weights that are kept, and the tasks' best ones."""
        found = {"select.score": self.score, "time.train_seconds": self.seconds}
        found |= {f"select.{name}.score": value for name, value in self.scores.items()}
        found |= {f"best.{name}.score": value for name, value in self.best.items()}
        return found if self.probe is None else found | {"select.probe": self.probe}

    def state(self) -> dict[str, Any]:
        """For a checkpoint: `restored` goes on from it."""
        return asdict(self)


def restored(state: Mapping[str, Any]) -> Progress:
    """What `Progress.state` gave."""
    return Progress(**{**state, "kept": tensors(state["kept"])})
