"""What of an encoder learns, and what its frozen weights are held in."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from raysweep.recipe import Settings
from trainables.parts.linear_layers import Targets

LoadIn = Literal["float32", "int8", "nf4"]


class TuningSettings(Settings):
    """What of the encoder learns; what stands behind it always does."""

    kind: Literal["full", "lora", "head_only"] = Field(
        "full", description="full: every weight; lora: low-rank adapters beside frozen ones; head_only: nothing of it"
    )
    rank: int = Field(8, ge=1, le=256, description="with lora: width of each adapter")
    scale: float = Field(
        1.0, gt=0, le=4096, description="with lora: adapters count so many times; elsewhere given as alpha / rank"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="with lora: share of an adapter's inputs dropped in training")
    targets: Targets = Field(
        "all", description="with lora: which linear layers have an adapter: attention, feed_forward, or all"
    )

    @model_validator(mode="after")
    def _kind_uses_them(self) -> Self:
        given = [name for name in type(self).model_fields if name in self.model_fields_set - {"kind"}]
        if self.kind != "lora" and given:
            verb = "has" if len(given) == 1 else "have"
            raise ValueError(f"{', '.join(given)} {verb} no effect with kind '{self.kind}': leave out, or use lora")
        return self
