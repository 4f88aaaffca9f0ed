"""The stages of a trial that makes a trained model small, in the order that is asked for, and how far it is."""

from dataclasses import asdict, dataclass, field
from math import isnan, nan
from typing import Any, Literal, cast, get_args

StageName = Literal["prune", "finetune", "quantise"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage and how many epochs it trains; quantising trains none."""

    name: StageName
    epochs: int


def check_order(order: str) -> str:
    """The order itself. Raises ValueError when stages cannot follow one another so."""
    names, known = order.split(), get_args(StageName)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"stages '{order}' has {', '.join(unknown)}; expected some of: {' '.join(known)}")
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"stages '{order}' must name at least one stage, and each only once")
    if "quantise" in names[:-1]:
        raise ValueError(f"stages '{order}': quantise must come last, for int8 weights are not trained or pruned")
    return order


def stages_of(order: str, prune_epochs: int, finetune_epochs: int) -> tuple[Stage, ...]:
    """The stages in their order. A stage that is not named trains nothing."""
    epochs = {"prune": prune_epochs, "finetune": finetune_epochs, "quantise": 0}
    return tuple(Stage(cast(StageName, name), epochs[name]) for name in order.split())


@dataclass(slots=True)
class StageProgress:
    """How far a trial is.

    `over` counts stages, `within` epochs of the present one, `epoch` epochs of all. `best` is the best score in the
    present stage and `waited` the epochs since; `select` is the score of the weights that are kept if training ends
    now; `scores` those at the end of each stage.
    """

    over: int = 0
    within: int = 0
    epoch: int = 0
    best: float = nan
    waited: int = 0
    select: float = nan
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)

    def trained(self, score: float) -> bool:
        """Note an epoch and its score; whether it is the best of its stage."""
        self.within, self.epoch = self.within + 1, self.epoch + 1
        better = isnan(self.best) or score > self.best
        self.best, self.waited = (score, 0) if better else (self.best, self.waited + 1)
        return better

    def ended(self, stage: Stage, patience: int) -> bool:
        """Whether the present stage is over; patience, 0 for none, is for fine-tuning alone."""
        enough = stage.name == "finetune" and 0 < patience <= self.waited
        return enough or self.within >= stage.epochs

    def next_stage(self) -> None:
        self.over, self.within, self.best, self.waited = self.over + 1, 0, nan, 0

    def note(self, name: str, score: float) -> None:
        """The score at the end of a stage, whose weights are kept if training ends now."""
        self.scores[name] = self.select = score

    def state(self) -> dict[str, Any]:
        """For a checkpoint: `StageProgress(**state)` goes on from it."""
        return asdict(self)
