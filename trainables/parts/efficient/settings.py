"""The settings of the resource-efficient recipe, and which of them do not go together."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from raysweep.needs import Requirement
from raysweep.recipe import RecipeConfig, Settings
from trainables.parts.compression import MeasureSettings
from trainables.parts.efficient.rounds import CrossValidationSettings, CurveSettings, conflicts
from trainables.parts.efficient.xnli import XnliSettings, disagreements
from trainables.parts.encoders import EncoderSource
from trainables.parts.linear_layers import Targets
from trainables.parts.packed import Pooling
from trainables.parts.settings import TrainSettings
from trainables.parts.task_settings import TaskDataSettings
from trainables.parts.tasks import TASKS
from trainables.parts.text_model import Activation
from trainables.parts.tuning.needs import tuning_needs
from trainables.parts.tuning.optimizers import OptimizerName
from trainables.parts.tuning.precision import Precision
from trainables.parts.tuning.settings import LoadIn, TuningSettings


class TunedEncoder(EncoderSource):
    """Which encoder, and what its weights are held in."""

    load_in: LoadIn = Field(
        "float32", description="what the linear layers of the encoder are held in; int8 and nf4 only with tuning lora"
    )


class TernarySettings(Settings):
    """BitNet b1.58: linear layers whose weights are -1, 0 or 1 times one scale, and whose inputs have 8 bits."""

    enabled: bool = Field(False, description="make the encoder's linear layers ternary; exported in 2 bits a weight")
    targets: Targets = Field("all", description="which of them: attention, feed_forward, or all")
    norm: bool | None = Field(
        None, description="an RMSNorm before each, as the paper has it; if not given, where the encoder is no BitNet"
    )


class ClassifierSettings(Settings):
    """What stands behind the encoder."""

    pooling: Pooling = Field("mean", description="how a text's token states become one vector; last is for decoders")
    hidden: int = Field(0, ge=0, le=8192, description="width of a hidden layer before the classifier; 0 for none")
    activation: Activation = Field("gelu", description="what the hidden layer applies to its sum")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of values dropped before each layer of the head")


class TunedTrainSettings(TrainSettings):
    """How long, how fast, and in which numbers."""

    epochs: int = Field(3, ge=0, le=10_000, description="epochs at most, of each size and fold; 0 trains nothing")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="learning rate over `epochs`, behind the warm-up"
    )
    patience: int = Field(0, ge=0, description="trials end after so many epochs without a better score; 0 never")
    head_lr_multiplier: float = Field(
        1.0, gt=0, description="learning rate of everything behind the encoder, as a multiple of lr"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all labels")
    accumulate: int = Field(
        1, ge=1, description="parts in which the examples of a step go through the model: the same step in less memory"
    )
    precision: Precision = Field(
        "fp32", description="numbers of products while training; bf16, fp16 where hardware can"
    )
    optimizer: OptimizerName = Field("adamw", description="what turns gradients into steps")


class EfficientConfig(RecipeConfig):
    """The groups of settings of the recipe."""

    variant: str = Field("", description="a name for what is compared; it changes nothing but the names of finalists")
    data: TaskDataSettings = Field(TaskDataSettings(), description="the task and its texts")
    encoder: TunedEncoder = Field(TunedEncoder(), description="the encoder or decoder")
    model: ClassifierSettings = Field(ClassifierSettings(), description="pooling, hidden layer and classifier")
    tuning: TuningSettings = Field(TuningSettings(), description="what of the encoder learns")
    ternary: TernarySettings = Field(TernarySettings(), description="linear layers of ternary weights")
    xnli: XnliSettings = Field(XnliSettings(), description="languages that a model of English inference is proven on")
    curve: CurveSettings = Field(CurveSettings(), description="several sizes of the training set")
    cross_validation: CrossValidationSettings = Field(CrossValidationSettings(), description="folds of training rows")
    train: TunedTrainSettings = Field(TunedTrainSettings(), description="how long and how fast")
    measure: MeasureSettings = Field(MeasureSettings(), description="what is measured of the served model")

    @property
    def needs(self) -> tuple[Requirement, ...]:
        return tuning_needs(self.encoder, self.tuning.kind, self.train.precision, self.train.optimizer)

    @model_validator(mode="after")
    def _groups_agree(self) -> Self:
        if problems := together(self):
            raise ValueError("; ".join(problems))
        return self


def together(config: EfficientConfig) -> list[str]:
    """What settings of different groups do not allow together."""
    train, load_in, kind = config.train, config.encoder.load_in, TASKS[config.data.task].kind
    wrong = {
        "data.task with answers in contexts is not for this recipe: dendritic_bert and sparse_bert train it":
            kind == "span",
        f"train.label_smoothing is for labels, and data.task {config.data.task} has none: set it to 0":
            kind != "classification" and train.label_smoothing > 0,
        "encoder.layers 0 leaves nothing to tune: keep at least one layer, or use dendritic_bert":
            config.encoder.layers == 0,
        f"encoder.load_in {load_in} cannot learn itself: set tuning.kind to lora":
            load_in != "float32" and config.tuning.kind != "lora",
        f"encoder.load_in {load_in} and ternary.enabled both decide what weights are held in: use one of them":
            load_in != "float32" and config.ternary.enabled,
        f"train.accumulate {train.accumulate} parts need as many examples, but train.batch_size is {train.batch_size}":
            train.accumulate > train.batch_size,
        "train.precision and train.products both round products: leave products at float32":
            train.precision != "fp32" and train.products != "float32",
        "curve.sizes and cross_validation.folds train: set train.epochs to 1 or more":
            train.epochs == 0 and bool(config.curve.sizes or config.cross_validation.folds),
    }  # fmt: skip
    found = [message for message, is_so in wrong.items() if is_so]
    found += conflicts(config.curve, config.cross_validation, config.data.train_rows, train.patience)
    return found + disagreements(config.data, config.xnli, config.cross_validation.folds)
