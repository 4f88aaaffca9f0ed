"""`SweepSpec`: one sweep file, read strictly. Every setting has its default, bounds and one sentence only here."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

VERSION = "sweep/v1"


class Block(BaseModel):
    """A block of the sweep file: strict types, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def conflict(message: str, *keys: Any) -> PydanticCustomError:
    """An error between settings; `keys` lead from where it is raised to the setting at fault."""
    return PydanticCustomError("conflict", "{message}", {"message": message, "at": list(keys)})


class Objective(Block):
    """A metric to make large or small."""

    metric: str = Field(description="a metric that the recipe reports; `raysweep recipes` lists them")
    goal: Literal["maximize", "minimize"] = Field("maximize", description="which way is better")
    primary: bool = Field(
        False, description="the objective that early stopping and the ranking go by; the first, if none says so"
    )


class SearcherSpec(Block):
    """How configurations are suggested."""

    type: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="tpe learns from results; grid runs every combination"
    )
    startup_trials: int = Field(10, ge=1, description="random trials before tpe begins to learn")


class SchedulerSpec(Block):
    """Which trials go on."""

    type: Literal["asha", "fifo"] = Field("asha", description="asha stops the worst at each rung; fifo stops none")
    min: int = Field(1, ge=1, description="the first rung, in the recipe's steps")
    max: int = Field(9, ge=1, description="steps after which a trial is complete")
    eta: int = Field(3, ge=2, description="at each rung the best 1/eta go on; rungs are min * eta^k")
    brackets: int = Field(
        1, ge=1, description="bracket b starts at rung b; trials are spread over brackets by the seed"
    )

    @model_validator(mode="after")
    def _rungs_in_order(self) -> "SchedulerSpec":
        if self.min > self.max:
            raise conflict(f"min, the first rung, is at most max, found min {self.min} and max {self.max}", "min")
        return self


class BudgetSpec(Block):
    """When the search ends."""

    trials: int = Field(16, ge=1, description="trials of the search")
    wall_minutes: float | None = Field(None, gt=0, description="no new search trial starts after this many minutes")


class ResourceSpec(Block):
    """What one trial takes."""

    cpu: int = Field(1, ge=1, description="processor cores of a trial, and its torch threads")
    gpu: float = Field(0.0, ge=0, description="GPUs of a trial; a fraction shares one")
    max_parallel: int | None = Field(None, ge=1, description="trials at once; as many as fit, if not given")


OneOrMore = Annotated[
    list[str],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class ConfirmSpec(Block):
    """The proof: finalists and references are trained again on fresh seeds and opened on the report split."""

    top: int = Field(1, ge=0, description="how many finalists; 0 leaves the proof out, and nothing is registered")
    per: OneOrMore = Field(
        [], description="a setting, as model.kind, or a list of them: the finalists are the best `top` trials for each"
        " value, or combination of values"
    )  # fmt: skip
    seeds: list[int] = Field(
        [101, 102, 103], min_length=1, description="training seeds, the same for every finalist and reference"
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="level of the intervals and tests, Holm-corrected")

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if repeated := _repeated(seeds):
            raise conflict(f"seeds differ from each other, found {repeated[0][1]} twice", repeated[0][0])
        return seeds

    def group(self, config: Mapping[str, Any]) -> str:
        """What a configuration competes in to be a finalist: its values of the settings `per`; all in one without."""
        values = [(path, config[path]) for path in self.per if path in config]
        return repr(values) if values else ""


class FailureSpec(Block):
    """What happens when trials fail."""

    retries: int = Field(
        2, ge=0, description="how often a trial whose process was lost is taken up again from its checkpoint"
    )
    same_error: int = Field(3, ge=1, description="so many identical failures in a row stop the sweep")


class CheckpointSpec(Block):
    """How often a trial can be taken up again."""

    every: int = Field(1, ge=1, description="steps between checkpoints")


class MlflowSpec(Block):
    """Where MLflow keeps the sweep."""

    enabled: bool = Field(True, description="follow the sweep in MLflow")
    uri: str | None = Field(
        None, description="a server's URI, or sqlite:////absolute/mlflow.db; a store beside the sweeps, if not given"
    )
    experiment: str = Field("raysweep", description="the MLflow experiment")


class WandbSpec(Block):
    """Where W&B keeps the sweep."""

    mode: Literal["offline", "online", "disabled"] = Field(
        "offline",
        description="offline writes files that `wandb sync` sends later; online sends each trial when it is over",
    )
    project: str = Field("raysweep", description="the W&B project")


class TrackingSpec(Block):
    """Where the sweep can be followed."""

    mlflow: MlflowSpec = MlflowSpec()
    wandb: WandbSpec = WandbSpec()


class RegistrySpec(Block):
    """What becomes of the best model."""

    model: str | None = Field(None, description="name of the registered model; the sweep's name, if not given")
    alias: str = Field("champion", description="alias that the new version receives")


class SweepSpec(Block):
    """One sweep file."""

    schema_version: Literal["sweep/v1"] = Field("sweep/v1", alias="schema", description="version of this format")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the sweep: letters, digits, . _ -")
    description: str = Field("", description="what the sweep is to find out")
    recipe: str = Field(description="a module under trainables/, or an installed recipe; `raysweep recipes` lists them")
    seed: int = Field(0, ge=0, description="fixes every suggestion, bracket and training seed of the search")
    space: dict[str, Any] = Field(description="the recipe's settings: plain values are fixed, domains are searched")
    constraints: list[Any] = Field([], description="expressions that every configuration fulfils")
    objectives: list[Objective] = Field(min_length=1, description="what to make large or small")
    searcher: SearcherSpec = SearcherSpec()
    scheduler: SchedulerSpec = SchedulerSpec()
    budget: BudgetSpec = BudgetSpec()
    resources: ResourceSpec = ResourceSpec()
    references: dict[str, dict[str, Any]] = Field(
        {}, description="controls by name: settings that replace those of the winner"
    )
    confirm: ConfirmSpec = ConfirmSpec()
    failures: FailureSpec = FailureSpec()
    checkpoints: CheckpointSpec = CheckpointSpec()
    tracking: TrackingSpec = TrackingSpec()
    registry: RegistrySpec = RegistrySpec()

    @field_validator("objectives")
    @classmethod
    def _objectives_differ(cls, objectives: list[Objective]) -> list[Objective]:
        if repeated := _repeated([objective.metric for objective in objectives]):
            index, metric = repeated[0]
            raise conflict(f"each metric is one objective, found {metric} twice", index, "metric")
        if len(primary := [index for index, objective in enumerate(objectives) if objective.primary]) > 1:
            raise conflict("one objective is primary, found several", primary[1], "primary")
        return objectives

    @field_validator("references")
    @classmethod
    def _names_free(cls, references: dict[str, Any]) -> dict[str, Any]:
        if taken := [name for name in references if re.fullmatch(r"finalist-\d+", name)]:
            raise conflict(f"a reference cannot be named '{taken[0]}', as finalists are", taken[0])
        return references

    @field_serializer("space")
    def _portable_space(self, space: dict[str, Any]) -> Any:
        return portable(space)

    @property
    def primary(self) -> Objective:
        """The objective that early stopping and the ranking go by."""
        return next((objective for objective in self.objectives if objective.primary), self.objectives[0])


def portable(value: Any) -> Any:
    """A space that survives JSON, whose keys are text: a choice between branches of other names becomes pairs."""
    if isinstance(value, list):
        return [portable(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: portable(item) for key, item in value.items()}
    branches = plain.get("choice")
    if isinstance(branches, dict) and not all(isinstance(name, str) for name in branches):
        plain = {"branches": [list(item) for item in branches.items()], **plain}
        del plain["choice"]
    return plain


def _repeated(items: list[Any]) -> list[tuple[int, Any]]:
    """Every item that stood before, with its position."""
    counts: Counter[Any] = Counter()
    repeated = []
    for index, item in enumerate(items):
        if counts[item]:
            repeated.append((index, item))
        counts[item] += 1
    return repeated
