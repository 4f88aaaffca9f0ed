"""What a recipe is, and how it is found: by looking for modules under `trainables/` and for installed entry points."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from pydantic import BaseModel, ConfigDict

from raysweep.garbage import without_searches
from raysweep.needs import Requirement
from raysweep.patterns import fit
from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.trial import Evaluation, Report, State, Trial

ENTRY_POINTS = "raysweep.recipes"


class Settings(BaseModel):
    """A group of settings inside a recipe's Config: strict types, unknown keys refused, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RecipeConfig(Settings):
    """The settings of a recipe. Each field has a type, a default, bounds and one sentence (its description)."""

    @property
    def isolated(self) -> bool:
        """Whether this configuration leaves globals behind in its process, so that no other trial may share it."""
        return False

    @property
    def needs(self) -> tuple[Requirement, ...]:
        """What this configuration needs of the machine that it trains on (`raysweep.needs`)."""
        return ()


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What a configuration trains on: where it came from, rows and a content hash for each split, and what repeats.

    `overlaps` counts examples that stand twice, within a split or in two of them, under names that say where.
    """

    name: str
    source: str
    synthetic: bool
    rows: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    overlaps: dict[str, int] = field(default_factory=dict)


class Recipe(Protocol):
    """A module of this shape is a recipe.

    `METRICS` names what its reports carry, with a sentence for each; in `select.*.score` the star is any one name.
    """

    __name__: str
    __doc__: str | None
    Config: type[RecipeConfig]
    METRICS: dict[str, str]
    LOADER: str  # "package.module:function": function(folder) gives a callable from texts, or pairs, to an array

    def train(self, trial: Trial) -> Iterator[Report]:
        """Yield a report after each step; the last one's `state` holds the model that is kept."""

    def evaluate(self, trial: Trial, state: State) -> Evaluation:
        """Open the report split: the only function of a recipe that may."""

    def export(self, trial: Trial, state: State, folder: Path) -> dict[str, Any]:
        """Write the model into `folder`; return what to say of it on its registry page.

        Files end in .safetensors, .json, .yaml, .txt, .model or .md; verify.json holds
        {"texts": [...], "outputs": [...]}.
        Texts may be pairs, each [first, second]: the registered model then takes two columns, `text` and `text_pair`.
        """

    def inspect(self, config: Any) -> DataFacts:
        """Look at data and encoder without training. Raises UserError with every problem found."""


def names() -> dict[str, Callable[[], ModuleType]]:
    """Every recipe that can be found, by name, with what loads it."""
    found: dict[str, Callable[[], ModuleType]] = {}
    package = importlib.import_module("trainables")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg:
            found[module.name] = lambda name=module.name: importlib.import_module(f"trainables.{name}")  # type: ignore[misc]
    for point in entry_points(group=ENTRY_POINTS):
        found.setdefault(point.name, point.load)
    return found


def find(name: str) -> Recipe:
    """The recipe of this name. Raises UserError when there is none, or when the module is no recipe."""
    known = names()
    if name not in known:
        raise UserError([Problem(f"unknown recipe '{name}'", hint=did_you_mean(name, list(known)))])
    with without_searches():
        module = known[name]()
    wanted = ("Config", "METRICS", "LOADER", "train", "evaluate", "export", "inspect")
    if missing := [part for part in wanted if not hasattr(module, part)]:
        raise UserError(f"'{name}' ({module.__file__}) is no recipe: it lacks {', '.join(missing)}")
    return cast(Recipe, module)


def summary(recipe: Recipe) -> str:
    """The first line of a recipe's docstring."""
    return (recipe.__doc__ or "").strip().partition("\n")[0]


def reports(recipe: Recipe, metric: str) -> bool:
    """Whether METRICS names this metric, itself or with a star in place of a name."""
    return fit(recipe.METRICS, metric) is not None


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """`{"train.lr": 1}` as `{"train": {"lr": 1}}`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *groups, leaf = path.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[leaf] = value
    return tree


def configure(recipe: Recipe, flat: dict[str, Any]) -> RecipeConfig:
    """The typed configuration for dotted settings."""
    return recipe.Config.model_validate(nested(flat))
