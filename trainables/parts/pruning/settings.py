"""Settings of pruning: what goes, how it is ranked, when, and what becomes of it."""

from typing import Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from raysweep.recipe import Settings

Importance = Literal["magnitude", "squared", "taylor", "activation", "movement", "gates", "random"]
Scope = Literal["layer", "global"]
ScheduleKind = Literal["one_shot", "linear", "cubic", "sigmoid", "steps"]
Regrow = Literal["none", "gradient", "random"]

UNITS = ("heads", "neurons")  # removed whole: what is left is a smaller model
WEIGHTS = ("weights", "two_four")  # set to zero one by one
TWO_FOUR = 0.5  # two of four: no other share can be had


class PruningSettings(Settings):
    """What is pruned, by which importance, and how the share of it rises during the stage that prunes."""

    target: str = Field(
        "none",
        description="none, or some of heads, neurons (of feed-forward layers) and one of weights and two_four (two of"
        " four neighbours), joined by +: units go first, then a share of the weights that are left",
    )
    sparsity: float = Field(0.5, ge=0, lt=1, description="the share that goes, of each target; two_four has 0.5")
    importance: Importance = Field(
        "magnitude",
        description="what ranks: magnitude |w|, squared w^2, taylor |w * gradient|, activation |w| * norm of its input,"
        " movement away from zero while training, gates of hard concrete (heads and neurons), or random, the control",
    )
    scope: Scope = Field("layer", description="the same share of every layer, or one ranking of all layers")
    epochs: int = Field(0, ge=0, le=10_000, description="epochs of the stage that prunes; 0 prunes without training")
    schedule: ScheduleKind = Field(
        "one_shot", description="how the share rises during these epochs: at once, or from initial_sparsity to sparsity"
    )
    initial_sparsity: float = Field(0.0, ge=0, lt=1, description="the share at `begin`; not with one_shot")
    begin: float = Field(0.0, ge=0, lt=1, description="when the first goes, as a share of the stage's steps")
    end: float = Field(1.0, gt=0, le=1, description="when the last goes, as a share of the stage's steps")
    every: int = Field(32, ge=1, description="training steps from one choice of what goes to the next")
    steps: int = Field(4, ge=2, description="with steps: how many equal steps, with training between them")
    min_heads: int = Field(1, ge=1, description="heads that every layer keeps, whatever its rank")
    regrow: Regrow = Field(
        "none", description="whether pruned weights come back, as many as go in their place: where the gradient is"
        " largest, or anywhere"
    )  # fmt: skip
    regrow_share: float = Field(
        0.1, gt=0, lt=1, description="with regrow: share of the kept weights that is exchanged each time, falling to 0"
    )
    rewind: bool = Field(False, description="lottery ticket: what is left starts again as it was before all training")
    calibration_rows: int = Field(128, ge=1, description="training rows that taylor and activation look at each time")
    classifier: bool = Field(False, description="prune the weights of hidden layer and classifier too")
    gate_lr: float = Field(0.05, gt=0, le=1, description="with gates: their learning rate")
    gate_penalty: float = Field(
        1.0, ge=0, description="with gates: weight of the expected share of open gates beyond what may stay"
    )

    @property
    def targets(self) -> tuple[str, ...]:
        """What is pruned, in the order in which it goes; empty for none."""
        named = set(self.target.split("+"))
        return tuple(target for target in (*UNITS, *WEIGHTS) if target in named)

    @property
    def on(self) -> bool:
        return self.target != "none"

    @property
    def structured(self) -> bool:
        """Whether anything goes that makes the model smaller, and not only emptier."""
        return any(target in UNITS for target in self.targets)

    @field_validator("target")
    @classmethod
    def _known(cls, target: str) -> str:
        named = target.split("+")
        unknown = [name for name in named if name not in (*UNITS, *WEIGHTS)]
        if target != "none" and (unknown or len(set(named)) < len(named)):
            raise ValueError(f"target '{target}' is not none, nor some of {', '.join((*UNITS, *WEIGHTS))} joined by +")
        if set(WEIGHTS) <= set(named):
            raise ValueError("target has both weights and two_four: two_four is a pattern of weights; give one of them")
        return target

    @model_validator(mode="after")
    def _they_fit(self) -> Self:
        wrong = {
            "two_four prunes exactly half: set sparsity to 0.5":
                "two_four" in self.targets and self.sparsity != TWO_FOUR,
            "two_four has no share to rise: set schedule to one_shot":
                "two_four" in self.targets and self.schedule != "one_shot",
            "importance gates is for heads and neurons alone; weights have no gates":
                self.importance == "gates" and any(target in WEIGHTS for target in self.targets),
            f"importance {self.importance} is learnt while training: set epochs above 0":
                self.on and self.importance in ("movement", "gates") and self.epochs == 0,
            f"schedule {self.schedule} rises while training: set epochs above 0, or schedule to one_shot":
                self.on and self.schedule != "one_shot" and self.epochs == 0,
            f"importance {self.importance} is learnt first, but one_shot begins at once: set begin or another schedule":
                self.on and self.importance in ("movement", "gates") and self.schedule == "one_shot"
                and self.begin == 0,
            "initial_sparsity has no effect with one_shot: leave it out":
                self.schedule == "one_shot" and self.initial_sparsity > 0,
            "initial_sparsity is above sparsity: pruning only takes away": self.initial_sparsity > self.sparsity,
            "begin must lie before end": self.begin >= self.end,
            "regrow brings single weights back while training: it needs the target weights, and epochs":
                self.regrow != "none" and (self.targets != ("weights",) or self.epochs == 0),
        }  # fmt: skip
        if found := [message for message, is_wrong in wrong.items() if is_wrong]:
            raise ValueError("; ".join(found))
        return self


class RegulariserSettings(Settings):
    """A penalty that draws weights towards zero while the pruning stage trains."""

    kind: Literal["none", "l1", "group"] = Field(
        "none", description="l1: mean |w| of all weights that can be pruned; group: mean norm of heads and neurons"
    )
    alpha: float = Field(1.0, gt=0, description="what the penalty is multiplied by; it is a mean, not a sum")
