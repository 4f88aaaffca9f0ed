"""Groups of settings of recipes that train on texts with labels, numbers or answers."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from raysweep.recipe import RecipeConfig, Settings
from trainables.parts.dendrites.settings import DendriteSettings
from trainables.parts.encoders import EncoderSettings
from trainables.parts.optim import Kind as Schedule
from trainables.parts.packed import Pooling
from trainables.parts.settings import TrainSettings
from trainables.parts.task_settings import TaskDataSettings
from trainables.parts.text_model import Activation

Target = Literal["hidden", "classifier", "all_linear"]


class TableSettings(Settings):
    """How the word vectors are stored: what most of a small model's bytes are."""

    kind: Literal["full", "factorised", "pruned", "tied"] = Field(
        "full",
        description="full; factorised: a table of `rank` columns and a projection; pruned: the `rows` most frequent"
        " tokens of train alone, other words fall into smaller pieces; tied: others share the nearest kept token's row",
    )
    rank: int | None = Field(
        None, ge=1, description="columns of a factorised table; a pruned or tied one may have it too"
    )
    rows: int | None = Field(
        None, ge=1, description="tokens that keep a row of their own; with pruned all that train uses, if not given"
    )
    freeze: bool = Field(False, description="do not train the embeddings: neither words nor positions")

    @model_validator(mode="after")
    def _kind_uses_them(self) -> Self:
        if self.rows is not None and self.kind not in ("pruned", "tied"):
            raise ValueError(f"rows has no effect with kind '{self.kind}': leave it out, or use pruned or tied")
        if self.rank is not None and self.kind == "full":
            raise ValueError("rank has no effect with kind 'full': leave it out, or use factorised")
        if self.rank is None and self.kind == "factorised":
            raise ValueError("kind 'factorised' needs rank, the columns of its table")
        if self.rows is None and self.kind == "tied":
            raise ValueError("kind 'tied' needs rows, how many tokens keep a row of their own")
        return self


class ModelSettings(Settings):
    """What stands behind the encoder."""

    pooling: Pooling = Field("mean", description="how a text's token states become one vector; without padding")
    pooler: bool = Field(False, description="keep BERT's pooler, a square layer with tanh, behind pooling")
    hidden: int = Field(0, ge=0, le=8192, description="width of a hidden layer before the classifier; 0 for none")
    activation: Activation = Field("gelu", description="what the hidden layer applies to its sum")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of values dropped before each layer of the head")
    matched_dendrites: int = Field(
        0, ge=0, description="control: a hidden layer wider by as many parameters as so many dendrites would add to it"
    )

    @model_validator(mode="after")
    def _they_fit(self) -> Self:
        if self.pooler and self.pooling == "mean+max":
            raise ValueError("pooler takes a vector of the encoder's width, but pooling mean+max gives twice that")
        if self.matched_dendrites and not self.hidden:
            raise ValueError("matched_dendrites widens the hidden layer, but hidden is 0")
        return self


class TargetedDendriteSettings(DendriteSettings):
    """Dendrites, and on which layers they grow."""

    target: Target = Field(
        "hidden", description="layers that grow: the hidden layer, the classifier, or every linear layer of the model"
    )


class SpanSettings(Settings):
    """Questions on contexts that are longer than a text may be."""

    stride: int = Field(32, ge=0, description="tokens that neighbouring windows of one context share")


class TextTrainSettings(TrainSettings):
    """How long and how fast texts are trained on: rates by part of the model, and what keeps it from overfitting."""

    batch_size: int = Field(32, ge=1, description="examples of a step; for questions, windows of their contexts")
    schedule: Schedule = Field(  # type: ignore[assignment]  # one more than the base has
        "linear",
        description="learning rate over `epochs`, behind the warm-up; plateau falls when the score stops rising",
    )
    plateau_patience: int = Field(2, ge=0, description="with plateau: epochs without a better score before it falls")
    plateau_factor: float = Field(0.5, gt=0, lt=1, description="with plateau: what the learning rate is multiplied by")
    plateau_least: float = Field(1e-3, gt=0, le=1, description="with plateau: smallest share of lr that it falls to")
    embeddings_lr_multiplier: float = Field(
        1.0, gt=0, description="learning rate of the embeddings, as a multiple of lr"
    )
    head_lr_multiplier: float = Field(
        1.0, gt=0, description="learning rate of everything behind the encoder, as a multiple of lr"
    )
    word_dropout: float = Field(0.0, ge=0, lt=1, description="share of tokens left out of a text while training")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all labels")


class TextConfig(RecipeConfig):
    """The groups of settings that a text model is built from and trained with."""

    variant: str = Field("", description="a name for what is compared; it changes nothing but the names of finalists")
    data: TaskDataSettings = Field(TaskDataSettings(), description="the task and its texts")
    encoder: EncoderSettings = Field(EncoderSettings(), description="the encoder; layers 0 keeps its embeddings alone")
    embedding: TableSettings = Field(TableSettings(), description="how the word vectors are stored")
    model: ModelSettings = Field(ModelSettings(), description="pooling, hidden layer and classifier")
    spans: SpanSettings = Field(SpanSettings(), description="contexts of questions")
    train: TextTrainSettings = Field(TextTrainSettings(), description="how long and how fast")
