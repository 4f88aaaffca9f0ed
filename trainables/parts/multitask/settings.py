"""Groups of settings of a trial that trains one sentence encoder on several tasks. What fits together: `checks`."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from raysweep.recipe import RecipeConfig, Settings
from trainables.parts.data import DataSettings
from trainables.parts.encoders import EncoderSource
from trainables.parts.multitask import checks
from trainables.parts.multitask.model import LossName
from trainables.parts.multitask.vectors import POOLS, Combine, Pool, VectorActivation, VectorKind
from trainables.parts.settings import TrainSettings
from trainables.parts.task_settings import TaskDataSettings, labels_of, layout_of
from trainables.parts.tasks import TASKS, Kind
from trainables.parts.text_model import Activation


class HeadSettings(Settings):
    """A task, what its head looks like, and what training makes small. Each text of a pair is encoded alone."""

    data: TaskDataSettings = Field(TaskDataSettings(), description="the task and its texts")
    loss: LossName | None = Field(
        None,
        description="cross_entropy of labels; binary: one output for two labels; squared: of numbers; cosine: squared"
        " distance of the cosine of two vectors and their score, without a head. By the task, if not given:"
        " cross_entropy for labels, squared for numbers of one text, cosine for those of pairs",
    )
    weight: float = Field(
        1.0,
        gt=0,
        description="with balance fixed: what the task's loss is multiplied by; that of numbers, which lie in 0..1, is"
        " small beside one of labels",
    )
    hidden: int = Field(0, ge=0, le=8192, description="width of a hidden layer before the outputs; 0 for none")
    activation: Activation = Field("gelu", description="what the hidden layer applies to its sum")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of values dropped before each layer of the head")

    @property
    def kind(self) -> Kind:
        """What the task learns."""
        return TASKS[self.data.task].kind

    @property
    def pairs(self) -> bool:
        """Whether the task takes two texts."""
        return len(layout_of(self.data).texts) == 2

    @property
    def loss_name(self) -> LossName:
        """The loss that is given, or that goes with the task."""
        if self.loss is not None:
            return self.loss
        return "cross_entropy" if self.kind == "classification" else "cosine" if self.pairs else "squared"

    @property
    def outputs(self) -> int:
        """Numbers that the head gives for an example; 0 where there is no head."""
        return {"cross_entropy": len(labels_of(self.data)), "binary": 1, "squared": 1, "cosine": 0}[self.loss_name]

    @model_validator(mode="after")
    def _loss_suits_the_task(self) -> Self:
        return checks.refuse(self, checks.head(self))


class VectorSettings(Settings):
    """How a text's token states become its vector."""

    kind: VectorKind = Field(
        "mean", description="state of the first token, mean or largest of all tokens', or the first two of these"
    )
    combine: Combine | None = Field(
        None,
        description="with cls+mean: side by side, their sum or average, or a mixture by a learned gate; concat, if not"
        " given",
    )
    projection: int = Field(0, ge=0, le=8192, description="width of a linear layer behind pooling; 0 for none")
    activation: VectorActivation = Field("none", description="what the projection applies to its sum")
    residual: bool = Field(
        False, description="add what the projection takes to what it gives; through a linear layer where widths differ"
    )
    layer_norm: bool = Field(False, description="normalise the vector over its width, at the very end")

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pooled states that are needed, in the order in which they are combined."""
        return POOLS[self.kind]

    @property
    def combination(self) -> Combine | None:
        """How two pools become one vector; None for one pool."""
        return (self.combine or "concat") if len(self.pools) > 1 else None

    @property
    def learns(self) -> bool:
        """Whether there are weights between the encoder and the vector."""
        return self.projection > 0 or self.layer_norm or self.combination == "gated"

    @model_validator(mode="after")
    def _they_fit(self) -> Self:
        return checks.refuse(self, checks.vector(self))


class SamplingSettings(Settings):
    """How many of an epoch's batches, all tasks' batches together, are of each task."""

    kind: Literal["proportional", "sqrt", "temperature", "round_robin"] = Field(
        "proportional",
        description="shares by training rows, by their square roots, by their 1/temperature-th powers; round_robin:"
        " equal shares, and each step takes a batch of every task",
    )
    temperature: float = Field(2.0, ge=1, description="with temperature: 1 is proportional, 2 is sqrt")

    @model_validator(mode="after")
    def _kind_uses_them(self) -> Self:
        return checks.refuse(self, checks.without_effect(self, {"temperature": ("temperature",)}))


class BalanceSettings(Settings):
    """How the losses of tasks become one."""

    kind: Literal["fixed", "uncertainty", "gradnorm", "pcgrad"] = Field(
        "fixed",
        description="weights of the tasks as they are given; weights learned as uncertainties; weights by which tasks"
        " learn at one pace; or gradients without the part that points against another task's; the last two need"
        " sampling round_robin",
    )
    alpha: float = Field(1.5, ge=0, description="with gradnorm: how strongly tasks that lag behind are pulled")
    lr: float = Field(
        0.025, gt=0, le=1, description="with gradnorm and uncertainty: highest learning rate of the weights"
    )

    @model_validator(mode="after")
    def _kind_uses_them(self) -> Self:
        return checks.refuse(
            self, checks.without_effect(self, {"alpha": ("gradnorm",), "lr": ("gradnorm", "uncertainty")})
        )


class FreezingSettings(Settings):
    """What does not learn, and when it begins to. Epochs count from 0."""

    kind: Literal["none", "all", "backbone", "head", "gradual", "two_phase"] = Field(
        "none",
        description="nothing is frozen; everything; the encoder; one task's head; gradual: the encoder, whose layers"
        " begin to learn one after another from the top; two_phase: the encoder, until the heads have learned alone",
    )
    head: str = Field("", description="with head: the task whose head is frozen")
    start_epoch: int = Field(
        1,
        ge=0,
        description="with gradual: epoch in which the top layers begin; with two_phase: in which the encoder does",
    )
    layers_per_epoch: int = Field(1, ge=1, description="with gradual: layers that begin in each epoch")
    keep_bottom: int = Field(
        0, ge=0, description="with gradual and two_phase: so many first layers never learn, and with any the embeddings"
    )

    @property
    def rests(self) -> bool:
        """Whether the encoder never learns."""
        return self.kind in ("all", "backbone")

    @model_validator(mode="after")
    def _kind_uses_them(self) -> Self:
        return checks.refuse(self, checks.freezing(self))


class ProbeSettings(DataSettings):
    """Sentence pairs that show what the vectors are worth, by their cosines; nothing is trained on them."""

    enabled: bool = Field(False, description="whether the pairs are scored: rank correlation of cosine and score")
    each_epoch: bool = Field(False, description="score the pairs of select after each epoch, and not only at the end")

    @model_validator(mode="after")
    def _only_scored(self) -> Self:
        return checks.refuse(self, checks.probe(self))


class MultitaskTrainSettings(TrainSettings):
    """How long and how fast: rates by part of the model."""

    epochs: int = Field(9, ge=0, le=10_000, description="epochs at most; 0 trains nothing")
    batch_size: int = Field(
        16, ge=1, description="examples of a batch, all of one task; with round_robin a step takes one of each"
    )
    lr: float = Field(2e-5, gt=0, le=1, description="highest learning rate of AdamW, of the encoder")
    head_lr: float | None = Field(
        None, gt=0, le=1, description="that of heads and of learned parts of pooling; lr, if not given"
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="each layer learns at so many times the rate of the next one; embeddings come first",
    )
    patience: int = Field(0, ge=0, description="trials end after so many epochs without a better score; 0 never")


class MultitaskConfig(RecipeConfig):
    """The groups of settings of one encoder that is trained on several tasks."""

    variant: str = Field("", description="a name for what is compared; it changes nothing but the names of finalists")
    encoder: EncoderSource = Field(EncoderSource(), description="the encoder that all tasks begin with")
    pooling: VectorSettings = Field(VectorSettings(), description="how token states become a text's vector")
    tasks: dict[str, HeadSettings] = Field({}, description="the tasks, by names of your own")
    sharing: Literal["hard", "none"] = Field(
        "hard", description="one encoder for all tasks; or none, the control: one each, on the same data and steps"
    )
    sampling: SamplingSettings = Field(SamplingSettings(), description="how often each task has its turn")
    balance: BalanceSettings = Field(BalanceSettings(), description="how the losses of tasks become one")
    freezing: FreezingSettings = Field(FreezingSettings(), description="what does not learn, and when it begins to")
    probe: ProbeSettings = Field(ProbeSettings(), description="sentence pairs that the vectors are tried on")
    train: MultitaskTrainSettings = Field(MultitaskTrainSettings(), description="how long and how fast")

    @model_validator(mode="after")
    def _groups_agree(self) -> Self:
        return checks.refuse(self, checks.together(self))
