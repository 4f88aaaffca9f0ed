"""Settings of a trial that makes a trained text model small, and which of them fit together."""

from typing import Any

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from raysweep.recipe import Settings
from trainables.parts import distill, quantise, text_build
from trainables.parts.distill import DistillSettings
from trainables.parts.pruning.settings import PruningSettings, RegulariserSettings
from trainables.parts.quantise import QuantiseSettings
from trainables.parts.stages import Stage, check_order, stages_of
from trainables.parts.tasks import TASKS
from trainables.parts.text_settings import TextConfig


class DenseSettings(Settings):
    """The model that is made small: the encoder, fine-tuned with all its weights."""

    epochs: int = Field(2, ge=0, le=10_000, description="epochs of fine-tuning before anything is pruned")
    lr: float | None = Field(None, gt=0, le=1, description="its highest learning rate; train.lr, if not given")
    models: int = Field(
        3, ge=1, le=1000, description="dense models that the trials of a sweep share: one begins with number seed %"
        " models, so that all that is compared on a seed begins with the same one"
    )  # fmt: skip


class MeasureSettings(Settings):
    """What is measured of a finished model beside the dense one."""

    repeats: int = Field(50, ge=5, le=10_000, description="how often each model answers one text, and 16")
    memory: bool = Field(True, description="memory of two fresh processes for each, one at a time")


class CompressionConfig(TextConfig):
    """The groups of settings of a text model that is trained, made small, and trained again."""

    dense: DenseSettings = Field(DenseSettings(), description="the model that all begins with")
    stages: str = Field("prune finetune quantise", description="what follows the dense model, in this order")
    pruning: PruningSettings = Field(PruningSettings(), description="what goes, by which rank, and when")
    regulariser: RegulariserSettings = Field(RegulariserSettings(), description="a penalty while the stage prunes")
    distill: DistillSettings = Field(DistillSettings(), description="what is learnt from the dense model")
    quantise: QuantiseSettings = Field(QuantiseSettings(), description="how the numbers are stored in the end")
    measure: MeasureSettings = Field(MeasureSettings(), description="what is measured of the finished model")

    @property
    def plan(self) -> tuple[Stage, ...]:
        """The stages behind the dense model, with their epochs."""
        return stages_of(self.stages, self.pruning.epochs, self.train.epochs)

    def dense_seed(self, seed: int) -> int:
        """Which of the sweep's dense models a trial of this seed begins with."""
        return seed % self.dense.models

    def dense_key(self, number: int) -> dict[str, Any]:
        """All that the weights of dense model `number` depend on; JSON."""
        later = {"variant", "stages", "pruning", "regulariser", "distill", "quantise", "measure"}
        key = self.model_dump(mode="json", exclude=later) | {"number": number}
        unused = {"epochs", "patience"} | ({"lr"} if self.dense.lr else set())
        key["train"] = {name: value for name, value in key["train"].items() if name not in unused}
        return key

    @field_validator("stages")
    @classmethod
    def _in_order(cls, stages: str) -> str:
        return check_order(stages)

    @model_validator(mode="after")
    def _groups_agree(self) -> Self:
        if problems := text_build.check_together(self) + _check_together(self):
            raise ValueError("; ".join(problems))
        return self


def _check_together(config: CompressionConfig) -> list[str]:
    """What settings of different groups do not allow together."""
    stages, kind = config.stages.split(), TASKS[config.data.task].kind
    pruning, frozen = config.pruning, config.encoder.freeze == "all"
    wrong = {
        "train.schedule plateau has no place in stages of fixed length: use linear, cosine or constant":
            config.train.schedule == "plateau",
        "regulariser.kind is for the stage that prunes, but pruning.target is none: leave it out":
            config.regulariser.kind != "none" and not pruning.on,
        "pruning.importance movement needs gradients of the encoder, but encoder.freeze is all":
            frozen and pruning.on and pruning.importance == "movement",
        "pruning.regrow gradient needs gradients of the encoder, but encoder.freeze is all":
            frozen and pruning.regrow == "gradient",
        "pruning.target is set, but stages does not name prune":
            pruning.on and "prune" not in stages,
        "pruning.epochs is set, but stages does not name prune: set it to 0":
            pruning.epochs > 0 and "prune" not in stages,
        "train.epochs is set, but stages does not name finetune: set it to 0":
            config.train.epochs > 0 and "finetune" not in stages,
        "pruning.rewind starts again before all training: let finetune follow prune, and set train.epochs above 0":
            pruning.on and config.pruning.rewind
            and ("finetune" not in config.stages.partition("prune")[2] or config.train.epochs == 0),
        "quantise.kind is set, but stages does not name quantise":
            config.quantise.kind != "none" and "quantise" not in stages,
    }  # fmt: skip
    found = [message for message, is_wrong in wrong.items() if is_wrong]
    return found + distill.check(config.distill, kind, config.encoder.layers) + quantise.check(config.quantise, kind)
