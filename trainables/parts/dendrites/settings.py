"""The settings of dendrites in a recipe's Config."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from raysweep.recipe import Settings


class DendriteSettings(Settings):
    """When dendrites grow, how many, and how they start."""

    enabled: bool = Field(False, description="whether dendrites grow at all")
    backend: Literal["native", "perforatedai"] = Field(
        "native", description="native is plain torch; perforatedai uses that package, which must be installed"
    )
    switch: Literal["history", "fixed"] = Field(
        "history", description="history grows when the score stops rising; fixed grows every `every` steps"
    )
    patience: int = Field(4, ge=1, description="with history: steps without a better score before the next growth")
    every: int = Field(4, ge=1, description="with fixed: steps from one growth to the next")
    max_dendrites: int = Field(2, ge=0, description="dendrites of each layer at most; 0 only stops at the plateau")
    max_tries: int = Field(
        2, ge=1, description="how often one more dendrite is tried without a better score in the end"
    )
    threshold: float = Field(1e-4, ge=0, description="a score is better only if it is higher by more than this")
    threshold_mode: Literal["absolute", "relative"] = Field(
        "absolute", description="relative takes the threshold as a share of the size of the best score"
    )
    init_scale: float = Field(0.01, gt=0, description="standard deviation of the weights of a new dendrite")
    activation: Literal["sigmoid", "tanh", "relu"] = Field("sigmoid", description="what a dendrite applies to its sum")
    freeze_old: bool = Field(False, description="train of the older dendrites only the weight of their signal")
    optimizer: Literal["carry_over", "fresh"] = Field(
        "carry_over", description="whether the optimizer keeps its moments when dendrites grow, or starts anew"
    )
    lr_multiplier: float = Field(1.0, gt=0, description="learning rate of dendrites, as a multiple of the model's")

    @model_validator(mode="after")
    def _backend_can(self) -> Self:
        if self.backend == "perforatedai" and self.enabled:
            if self.freeze_old:
                raise ValueError("freeze_old: perforatedai always trains every dendrite; use backend native")
            if self.switch == "fixed" and self.every < 2:
                raise ValueError("every: perforatedai leaves out the first score after each growth, so 2 at least")
        return self
