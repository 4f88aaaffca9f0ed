"""Groups of settings that recipes share: adapter, loss of pairs, training."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from raysweep.recipe import Settings
from trainables.parts.adapter import Init, Position
from trainables.parts.losses import Kind as LossKind


class AdapterSettings(Settings):
    """The layer behind mean pooling."""

    compression: float | None = Field(
        None, gt=0, le=1, description="width of the embedding as a share of the encoder's; 1, if out_dim is not given"
    )
    out_dim: int | None = Field(None, ge=1, le=8192, description="width of the embedding, in place of compression")
    init: Init = Field("default", description="starting weights: random, the first coordinates, or a PCA")
    residual: bool = Field(False, description="add the pooled input to the output; both need the same width")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of values dropped while training")
    dropout_position: Position = Field("pre", description="dropout before or behind the linear layer")
    noise_std: float = Field(0.0, ge=0, description="Gaussian noise added to embeddings while training")
    matched_dendrites: int = Field(
        0, ge=0, description="control: a plain hidden layer with as many parameters as so many dendrites would add"
    )

    @model_validator(mode="after")
    def _widths_agree(self) -> Self:
        if self.compression is not None and self.out_dim is not None:
            raise ValueError("compression and out_dim both set the embedding's width; give one of them")
        if self.residual and (self.compression or 1.0) < 1.0:
            raise ValueError(
                f"residual needs the encoder's width, but compression is {self.compression}; set it to 1.0"
            )
        return self


class LossSettings(Settings):
    """What training makes small."""

    kind: LossKind = Field(
        "cosine", description="cosine: squared distance of cosine and score; cosent: order within the (micro-)batch"
    )
    scale: float = Field(20.0, gt=0, description="with cosent: how sharply a wrong order counts")


class TrainSettings(Settings):
    """How long and how fast."""

    epochs: int = Field(9, ge=0, le=10_000, description="epochs at most, with or without dendrites; 0 trains nothing")
    batch_size: int = Field(16, ge=1, description="examples of a step")
    lr: float = Field(2e-5, gt=0, le=1, description="highest learning rate of AdamW")
    weight_decay: float = Field(0.01, ge=0, le=1, description="decay of weight matrices; biases and norms have none")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="learning rate over `epochs`, behind the warm-up"
    )
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="share of all steps in which the learning rate rises")
    grad_clip: float = Field(0.0, ge=0, description="largest norm of the gradient; 0 leaves it as it is")
    patience: int = Field(
        0, ge=0, description="plain trials end after so many epochs without a better score; 0 never"
        " (with dendrites on, dendrites.patience rules instead: a plateau means growth, not the end)"
    )  # fmt: skip
    products: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16 rounds the factors of matrix products while training, where a CPU is faster so"
    )


class PairTrainSettings(TrainSettings):
    """How long and how fast sentence pairs are trained on."""

    max_overfit_gap: float = Field(0.0, ge=0, le=2, description="end when train.gap is larger; 0 never")
    gap_rows: int = Field(256, ge=0, description="training pairs that train.spearman is measured on; 0 leaves it out")

    @model_validator(mode="after")
    def _gap_is_measured(self) -> Self:
        if self.max_overfit_gap and not self.gap_rows:
            raise ValueError("max_overfit_gap needs the gap: set gap_rows above 0, or max_overfit_gap to 0")
        return self
