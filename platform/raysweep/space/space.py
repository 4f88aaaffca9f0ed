"""`Space`: the compiled search space. It suggests configurations through Optuna or draws them, and knows its rules."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna

from raysweep.problems import UserError
from raysweep.space.domains import Domain, Fixed, Grid
from raysweep.space.expressions import Expression
from raysweep.yaml_file import Spot

Config = dict[str, Any]  # flat: dotted names to values, inactive settings absent
MOST_POINTS = 100_000  # more combinations than anyone runs; enumerating them would only fill the memory


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting: its domain, and when it is active. `branch` names the choices around it, outermost first.

    `name` is Optuna's, which wants one distribution a name: `pruning.sparsity@magnitude` beside `pruning.sparsity@l1`.
    """

    path: str
    domain: Domain | Fixed
    when: Expression | None
    branch: tuple[tuple[str, Any], ...]
    name: str
    spot: Spot

    def active(self, config: Mapping[str, Any]) -> bool:
        """Whether the setting applies, given all that it depends on."""
        taken = all(path in config and config[path] == value for path, value in self.branch)
        return taken and (self.when is None or self.when.holds(config))


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule for every configuration: `body` holds (or, `negated`, does not hold) wherever `condition` does."""

    body: Expression
    condition: Expression | None = None
    negated: bool = False
    why: str | None = None

    def __str__(self) -> str:
        rule = f"not ({self.body})" if self.negated else str(self.body)
        rule = f"if {self.condition} then {rule}" if self.condition else rule
        return f"{rule}: {self.why}" if self.why else rule

    def broken(self, config: Mapping[str, Any]) -> bool:
        if self.condition is not None and not self.condition.holds(config):
            return False
        return self.body.holds(config) is self.negated

    def inactive(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The inactive settings that the constraint is broken by, as comparisons with them are false."""
        return self.body.judge(config).inactive if not self.negated and self.broken(config) else ()

    def expressions(self) -> list[Expression]:
        return [self.body] if self.condition is None else [self.condition, self.body]


@dataclass(frozen=True)
class Space:
    """`settings` are in an order in which each follows all that it depends on; `order` is the file's."""

    settings: tuple[Dimension, ...]
    constraints: tuple[Constraint, ...]
    order: tuple[str, ...]

    @cached_property
    def fixed(self) -> Config:
        """Settings with one value, always active."""
        always = (setting for setting in self.settings if not setting.branch and setting.when is None)
        return {setting.path: setting.domain.content for setting in always if isinstance(setting.domain, Fixed)}

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Settings that are searched."""
        return tuple(setting for setting in self.settings if not isinstance(setting.domain, Fixed))

    @cached_property
    def axes(self) -> tuple[Dimension, ...]:
        """Grid axes in the file's order."""
        grids = (setting for setting in self.dimensions if isinstance(setting.domain, Grid))
        return tuple(sorted(grids, key=lambda setting: self.order.index(setting.path)))

    @property
    def grid_size(self) -> int:
        """Combinations of all grid axes; 1 without any."""
        return math.prod(len(axis.domain.extremes()) for axis in self.axes)

    def paths(self) -> set[str]:
        return {setting.path for setting in self.settings}

    def suggest(self, trial: optuna.trial.BaseTrial, cell: int = 0) -> Config:
        """The configuration of an Optuna trial in one cell of the grid, 0 <= cell < grid_size."""
        return self._configure(cell, lambda setting, domain: domain.suggest(trial, setting.name))

    def draw(self, rng: np.random.Generator) -> Config:
        """A random configuration, whether or not it fulfils the constraints."""
        cell = int(rng.integers(self.grid_size))
        return self._configure(cell, lambda setting, domain: domain.draw(rng))

    def points(self) -> list[Config]:
        """Optuna's parameters of every point, whether or not it fulfils the constraints. Grid axes are no part of it.

        Raises UserError when a dimension is continuous, or when there are too many points.
        """
        for dimension in self.dimensions:
            if not isinstance(dimension.domain, Fixed) and dimension.domain.parameters() is None:
                hint = "give it a list of values or a step, or take another searcher"
                raise UserError(
                    [dimension.spot.problem(f"{dimension.path}: a grid search cannot try all of a range", hint)]
                )
        start = [self._cell(cell) for cell in range(self.grid_size)]
        points = list(itertools.islice(self._expand(0, start, {}), MOST_POINTS + 1))
        if len(points) > MOST_POINTS:
            raise UserError(f"a grid search over this space has more than {MOST_POINTS:,} points")
        return points

    def violated(self, config: Mapping[str, Any]) -> str | None:
        """The first constraint that a configuration breaks. Raises UserError when one cannot be computed."""
        return next((str(constraint) for constraint in self.constraints if constraint.broken(config)), None)

    def rejected_share(self, draws: int = 200, seed: int = 0) -> float:
        """The share of random configurations that break a constraint, 0 to 1."""
        rng = np.random.default_rng(seed)
        return sum(self.violated(self.draw(rng)) is not None for _ in range(draws)) / draws

    def strictest(self, draws: int = 200, seed: int = 0) -> tuple[Constraint, float]:
        """The constraint that rejects most random configurations, and their share. There is at least one constraint."""
        rng = np.random.default_rng(seed)
        configs = [self.draw(rng) for _ in range(draws)]
        broken = Counter(i for config in configs for i, rule in enumerate(self.constraints) if rule.broken(config))
        index, count = max(broken.items(), key=lambda item: item[1], default=(0, 0))
        return self.constraints[index], count / draws

    def replaced(self, config: Config, changes: Config) -> Config:
        """`config` with `changes`, less what they make inactive: a reference without dendrites has no dendrite count.

        A setting that only becomes active takes its branch's fixed value, or is left to the recipe's default.
        """
        searched = self.paths()
        kept = {path: value for path, value in config.items() if path not in searched} | changes
        for setting in self.settings:
            if setting.path in changes or not setting.active(kept):
                continue
            if isinstance(setting.domain, Fixed):
                kept[setting.path] = setting.domain.content
            elif setting.path in config and setting.active(config):
                kept[setting.path] = config[setting.path]
        return {path: kept[path] for path in dict.fromkeys([*config, *changes, *self.order]) if path in kept}

    def _cell(self, cell: int) -> Config:
        """The values of all grid axes; the last axis changes fastest."""
        assert 0 <= cell < self.grid_size, cell
        shape = [len(axis.domain.extremes()) for axis in self.axes]
        places = np.unravel_index(cell, shape) if shape else ()
        return {axis.path: axis.domain.extremes()[int(place)] for axis, place in zip(self.axes, places, strict=True)}

    def _configure(self, cell: int, choose: Callable[[Dimension, Domain], Any]) -> Config:
        config = self._cell(cell)
        for setting in self.settings:
            if setting.path not in config and setting.active(config):
                domain = setting.domain
                config[setting.path] = domain.content if isinstance(domain, Fixed) else choose(setting, domain)
        return {path: config[path] for path in self.order if path in config}

    def _expand(self, index: int, cells: list[Config], point: Config) -> Iterator[Config]:
        """Every way to go on from the settings before `index`; `cells` are the configurations so far, by grid cell."""
        if index == len(self.settings):
            yield point
            return
        setting, domain = self.settings[index], self.settings[index].domain
        active = [setting.path not in cell and setting.active(cell) for cell in cells]
        if isinstance(domain, Fixed) or not any(active):
            value = domain.content if isinstance(domain, Fixed) else None
            yield from self._expand(index + 1, _extended(cells, active, setting.path, value), point)
            return
        for parameter in domain.parameters() or ():
            extended = _extended(cells, active, setting.path, domain.value(parameter))
            yield from self._expand(index + 1, extended, {**point, setting.name: parameter})


def _extended(cells: list[Config], active: list[bool], path: str, value: Any) -> list[Config]:
    """The cells' configurations, with one more setting where it is active."""
    return [{**cell, path: value} if taken else cell for cell, taken in zip(cells, active, strict=True)]
