"""From a sweep file to a checked sweep: YAML, blocks, space, recipe and data, with every problem told at once."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from raysweep.misfits import misfits, unfit
from raysweep.overrides import apply_overrides
from raysweep.patterns import fit, suggested
from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.recipe import Recipe, find, reports
from raysweep.space import Space, compile_space
from raysweep.space.compile import read_values
from raysweep.space.domains import Fixed
from raysweep.space.fields import Fields
from raysweep.spec import SweepSpec
from raysweep.validation import dotted, expectation, model_at, place_of, shown, suggestion
from raysweep.yaml_file import Place, YamlFile, read_yaml

DRAWS = 200  # random configurations that constraints are tried on
INSPECTED = 20  # distinct ones among them that the recipe looks at
# What takes the place of a required key that cannot be read, so that the rest is checked all the same.
STAND_IN = {"name": "unnamed", "recipe": "unknown", "space": {}, "objectives": [{"metric": "unknown"}]}


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A sweep that can run: the file with its overrides, its space and its recipe. `text` is the file as it was."""

    spec: SweepSpec
    space: Space
    recipe: Recipe
    path: Path
    text: str
    place: Place = field(default_factory=Place)

    def first_config(self) -> dict[str, Any]:
        """A configuration that fulfils the constraints, always the same one."""
        return _allowed(self.space, 1)[0]

    def not_here(self) -> list[Problem]:
        """Why this machine cannot run some of the configurations. Raises UserError when it can run none.

        Of a cluster that RAY_ADDRESS names nothing is said: there each trial asks the machine that it starts on.
        """
        if "RAY_ADDRESS" in os.environ:
            return []
        configs = _allowed(self.space, DRAWS)
        references = {name: self.space.replaced(configs[0], new) for name, new in self.spec.references.items()}
        found = unfit(self.recipe, configs, references, self.spec.resources.gpu, self.place)
        if not found.able:
            raise UserError(found.problems)
        return found.problems


def load_sweep(file: Path, overrides: Sequence[str] = ()) -> SweepFile:
    """Read and check a sweep file. Raises UserError with every problem found."""
    source = read_yaml(file)
    problems = [*source.problems, *apply_overrides(source, overrides)]
    checked = _Checked(source, problems)
    if problems:
        raise UserError(_in_order(problems))
    assert checked.recipe is not None
    assert checked.space is not None
    spec = checked.spec.model_copy(update={"references": checked.references})
    return SweepFile(spec, checked.space, checked.recipe, file, source.text, source.place)


def sweep_from_record(record: Mapping[str, Any]) -> tuple[SweepSpec, Space]:
    """Spec and space of a sweep that runs already, from its journal. Raises UserError when the recipe has changed."""
    place = Place("journal.jsonl")
    try:
        spec = SweepSpec.model_validate(record)
    except ValidationError as error:
        raise UserError([_block_problem(detail, place) for detail in error.errors(include_url=False)]) from None
    return spec, compile_space(spec.space, spec.constraints, place, Fields(find(spec.recipe).Config))


class _Checked:
    """Everything that can be known of a file; what is wrong goes to `problems`, and checking goes on."""

    def __init__(self, source: YamlFile, problems: list[Problem]) -> None:
        self._place, self._problems = source.place, problems
        self.recipe: Recipe | None = None
        self.space: Space | None = None
        self.references: dict[str, dict[str, Any]] = {}
        self.spec, self._unread = self._blocks(source.data)
        with self._collected("recipe"):
            self.recipe = find(self.spec.recipe) if "recipe" not in self._unread else None
        self._metrics(source.data.get("objectives"))
        self._settings()
        if self.space is not None:
            self._behaviour(self.space)

    @contextmanager
    def _collected(self, *keys: Any) -> Iterator[None]:
        """Take in the problems of a user error; those that name no place stand at `keys`."""
        try:
            yield
        except UserError as error:
            spot = self._place.at(keys)
            self._problems += [
                problem if problem.file else spot.problem(problem.message, problem.hint) for problem in error.problems
            ]

    def _blocks(self, data: dict[Any, Any]) -> tuple[SweepSpec, set[Any]]:
        """The blocks as far as they can be read, and the names of those that cannot."""
        try:
            return SweepSpec.model_validate(data), set()
        except ValidationError as error:
            details = error.errors(include_url=False)
        self._problems += [_block_problem(detail, self._place) for detail in details if not _of_space(detail)]
        unread = {detail["loc"][0] for detail in details if not _of_space(detail)}
        usable = {key: value for key, value in data.items() if key not in {detail["loc"][0] for detail in details}}
        spec = SweepSpec.model_validate({**STAND_IN, **usable})
        if any(_of_space(detail) for detail in details):  # its reader has better words for keys that are no text
            spec = spec.model_copy(update={"space": data["space"]})
        return spec, unread

    def _metrics(self, objectives: Any) -> None:
        if self.recipe is None or not isinstance(objectives, list):
            return
        for index, objective in enumerate(objectives):
            metric = objective.get("metric") if isinstance(objective, dict) else None
            if isinstance(metric, str) and not reports(self.recipe, metric):
                hint = suggested(metric, list(self.recipe.METRICS))
                message = f"the recipe {self.spec.recipe} reports no metric '{metric}'"
                self._problems.append(self._place.problem(("objectives", index, "metric"), message, hint))

    def _settings(self) -> None:
        """Compile the space and read the references."""
        known = Fields(self.recipe.Config) if self.recipe else None
        if "space" not in self._unread:
            with self._collected("space"):
                self.space = compile_space(self.spec.space, self.spec.constraints, self._place, known)
        for name, settings in self.spec.references.items():
            with self._collected("references", name):
                self.references[name] = read_values(settings, ("references", name), self._place, known)

    def _behaviour(self, space: Space) -> None:
        """What only shows when the space is known, or when configurations are drawn."""
        self._problems += _groups(self.spec.confirm.per, space, self._place)
        if self.spec.searcher.type == "grid":
            with self._collected("searcher", "type"):
                space.points()
        with self._collected("constraints"):
            self._problems += _rejections(space, self._place)
            if self.recipe is not None and len(self.references) == len(self.spec.references):
                trials = _trials(space, self.references)
                self._problems += misfits(self.recipe, trials, self._place)
                self._problems += _nameless(self.recipe, self.spec, trials, self._place)


def _of_space(detail: ErrorDetails) -> bool:
    return detail["loc"][0] == "space" and len(detail["loc"]) > 1


def _block_problem(detail: ErrorDetails, place: Place) -> Problem:
    """Pydantic's error as a problem with its line."""
    keys = place_of(detail)
    context, name = detail.get("ctx", {}), keys[-1]
    model = model_at(SweepSpec, keys[:-1])
    fields = {field.alias or name: field for name, field in model.model_fields.items()} if model else {}
    description = fields[str(name)].description if str(name) in fields else None
    if detail["type"] == "extra_forbidden":
        where = f" in {dotted(keys[:-1])}" if keys[1:] else ""
        return place.problem(keys, f"unknown key '{name}'{where}", did_you_mean(str(name), list(fields)))
    if detail["type"] == "missing":
        return place.problem(keys, f"'{dotted(keys)}' is missing", description)
    if detail["type"] == "conflict":
        return place.problem((*keys, *context["at"]), f"{dotted(keys)}: {context['message']}")
    message = f"{dotted(keys)}: expected {expectation(detail)}, found {shown(detail['input'])}"
    return place.problem(keys, message, suggestion(detail) or description)


def _groups(compared: Sequence[str], space: Space, place: Place) -> Iterator[Problem]:
    """What is wrong with the settings whose values the proof is to compare."""
    spot = place.at(("confirm", "per"))
    for per in compared:
        if per not in space.paths():
            known = did_you_mean(per, sorted(space.paths()))
            yield spot.problem(f"confirm.per: the space has no setting '{per}'", known)
        domains = [dimension.domain for dimension in space.dimensions if dimension.path == per]
        if any(not isinstance(domain, Fixed) and domain.parameters() is None for domain in domains):
            message = f"confirm.per: {per} is searched in a range, so each trial would be a finalist for its own value"
            yield spot.problem(message, "name a setting with a list of values")


def _rejections(space: Space, place: Place) -> Iterator[Problem]:
    """Constraints that reject what they were not written for, and those that leave nothing."""
    rng = np.random.default_rng(0)
    configs = [space.draw(rng) for _ in range(DRAWS)] if space.constraints else []
    for rule in space.constraints:
        if inactive := next(filter(None, map(rule.inactive, configs)), ()):
            message = (
                f"`{rule}` rejects configurations because {inactive[0]} is inactive: a comparison with it is false"
            )
            yield rule.body.spot.problem(message, "{if: ..., then: ...} limits a constraint to where it applies")
    if configs and space.rejected_share(DRAWS) == 1.0:
        rule, share = space.strictest(DRAWS)
        message = f"the constraints reject all of {DRAWS} random configurations; `{rule}` alone rejects {share:.0%}"
        yield rule.body.spot.problem(message, "widen the space or loosen the constraint")


def _allowed(space: Space, count: int) -> list[dict[str, Any]]:
    """Up to `count` distinct random configurations that fulfil the constraints."""
    rng = np.random.default_rng(0)
    drawn = (space.draw(rng) for _ in range(DRAWS))
    return list({repr(config): config for config in drawn if space.violated(config) is None}.values())[:count]


def _trials(space: Space, references: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Configurations as trials will have them: drawn ones, and each reference in place of the first."""
    configs = _allowed(space, INSPECTED)
    controls = [space.replaced(config, changes) for changes in references.values() for config in configs[:1]]
    return [*configs, *controls]


def _nameless(recipe: Recipe, spec: SweepSpec, configs: Sequence[dict[str, Any]], place: Place) -> Iterator[Problem]:
    """Objectives whose metric has a name where METRICS has a star, and configurations that name nothing so."""
    fields = Fields(recipe.Config)
    chosen = [names for config in configs if (names := fields.chosen(config))]
    known = sorted(set[str]().union(*chosen))
    for index, metric in enumerate(objective.metric for objective in spec.objectives):
        found, spot = fit(recipe.METRICS, metric), place.at(("objectives", index, "metric"))
        for name in found.names if found and known else ():
            if name not in known:
                yield spot.problem(f"{metric}: the space names no '{name}'", did_you_mean(name, known))
            elif any(name not in names for names in chosen):
                yield spot.problem(f"{metric}: some configurations have no '{name}'", "each branch must have it")


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Each problem once, in the order of the file's lines."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line is None, problem.line or 0))
