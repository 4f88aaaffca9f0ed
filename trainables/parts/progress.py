"""How far a trial is, which of its weights are kept, and whether it goes on."""

from dataclasses import asdict, dataclass
from math import nan
from typing import Any

from trainables.parts.dendrites.growth import Growth
from trainables.parts.dendrites.plateau import Action


@dataclass(frozen=True, slots=True)
class Kept:
    """The weights that are kept if a trial ends now: their score, dendrites, and the parameters of what is trained."""

    score: float
    dendrites: int
    parameters: int


@dataclass(slots=True)
class Progress:
    """How far a trial is. `waited` counts epochs since other weights were kept."""

    kept: Kept
    epoch: int = 0
    waited: int = 0
    seconds: float = 0.0
    over: bool = False

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    def judge(self, growth: Growth, score: float) -> Action:
        """Hand an epoch's score to the growth, which keeps the best weights, and note which it keeps.

        perforatedai does not keep the first epoch's; until it keeps any, the weights of the moment count.
        """
        before, present = growth.best, of_now(growth, score)
        action = growth.report(score)
        self.waited += 1
        if growth.best is None or growth.best != before:
            self.kept, self.waited = present, 0
        return action

    def enough(self, patience: int, gap: float = 0.0, max_gap: float = 0.0) -> bool:
        """Whether a rule ends the trial before its last epoch; 0 turns `patience` or `max_gap` off."""
        return 0 < patience <= self.waited or 0 < max_gap < gap


def fresh(growth: Growth) -> Progress:
    """Nothing has been trained yet."""
    return Progress(of_now(growth, nan))


def restored(state: dict[str, Any]) -> Progress:
    """What `Progress.state` gave."""
    return Progress(**{**state, "kept": Kept(**state["kept"])})


def of_now(growth: Growth, score: float) -> Kept:
    """The weights of this moment, which have this score."""
    return Kept(score, growth.dendrites, growth.parameters())
