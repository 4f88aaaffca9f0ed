"""`Search`: what to try next, from one Optuna study in memory.

A suggestion depends on the seed, the number and what was recalled, observed and told before; never on how often this
process asked. For that, each draw has a sampler of its own and is made on a copy of the study; a trial enters the study
only by `recall`, which knows no more of it than the journal does. So a sweep that is taken up again goes on as if it
had never been interrupted.
"""

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FixedTrial, TrialState

from raysweep.problems import UserError
from raysweep.space import Space
from raysweep.spec import Objective, SearcherSpec

ATTEMPTS = 1000  # draws before a space counts as empty
LEARNED = 50  # of these, how many are TPE's
CANDIDATES = 24  # of a TPE draw, as in Optuna and in Bergstra et al. 2011
Params = dict[str, Any]
Outcome = Literal["complete", "stopped", "failed", "infeasible"]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A configuration to try: `config` by dotted setting, `params` by Optuna's names.

    Trials that differ only in their grid cell share their `params`, which may hold some for other cells only.
    """

    number: int
    config: dict[str, Any]
    params: dict[str, Any]


class Search:
    """Suggests configurations for trial numbers 0, 1, 2, ... and learns from what is told.

    With grid axes, `number // grid_size` is the sampled point and `number % grid_size` the cell it is tried in. A grid
    search takes every allowed point and cell, shuffled, so that early stopping compares like with like.
    """

    def __init__(self, space: Space, objectives: Sequence[Objective], searcher: SearcherSpec, seed: int) -> None:
        self._space, self._searcher, self._seed = space, searcher, seed
        with _quiet():
            directions = [objective.goal for objective in objectives]
            self._study = optuna.create_study(directions=directions, sampler=RandomSampler(seed=0))
        self._trials: dict[int, optuna.Trial] = {}
        self._points: dict[int, Params] = {}  # sampled so far
        self._grid = self._whole_grid() if searcher.type == "grid" else None

    def ask(self, number: int) -> Suggestion | None:
        """A suggestion, or None when a grid has no more. Asked again it is the same, until something is told.

        Raises UserError when no draw fulfils the constraints.
        """
        if self._grid is not None:
            return self._suggestion(number, *self._grid[number]) if number < len(self._grid) else None
        point, cell = divmod(number, self._space.grid_size)
        return self._suggestion(number, self._points[point] if point in self._points else self._draw(point), cell)

    def recall(self, number: int, params: Params) -> None:
        """Take a suggestion into the study as a running trial: the one that was just asked, or a journal's."""
        assert number not in self._trials, number
        point, cell = divmod(number, self._space.grid_size) if self._grid is None else (number, self._grid[number][1])
        self._points.setdefault(point, params)
        trial, _ = self._new_trial(self._study, params, cell)
        if new := trial.params.keys() - params.keys():
            raise UserError(
                f"the space has changed since trial {number} was suggested: {', '.join(sorted(new))} is new"
            )
        self._trials[number] = trial

    def observe(self, number: int, step: int, value: float) -> None:
        """An intermediate value of the primary objective; steps only rise. One that is not finite is left out."""
        if not math.isfinite(value):
            return
        if len(self._study.directions) == 1:
            self._trials[number].report(value, step)
        else:  # Optuna has no intermediate values of several objectives
            self._trials[number].set_user_attr(f"step {step}", value)

    def tell(self, number: int, outcome: Outcome, values: Sequence[float] | None) -> None:
        """How a trial ended; `values`, one for each objective, count for a complete one, and only if all are finite."""
        trial = self._trials[number]
        if outcome == "complete" and values is not None and all(math.isfinite(value) for value in values):
            self._study.tell(trial, list(values))
        else:
            self._study.tell(trial, state=TrialState.PRUNED if outcome == "stopped" else TrialState.FAIL)

    def _suggestion(self, number: int, params: Params, cell: int) -> Suggestion:
        return Suggestion(number, self._space.suggest(FixedTrial(params), cell), dict(params))

    def _draw(self, point: int) -> Params:
        """New parameters that break no constraint in any grid cell."""
        drafts, broken = self._copy(), None
        for attempt in range(ATTEMPTS):
            drafts.sampler = self._sampler(point, attempt)
            params, broken = self._attempt(drafts)
            if broken is None:
                return params
        raise UserError(f"none of {ATTEMPTS} draws fulfils the constraints; the last one broke: {broken}")

    def _copy(self) -> optuna.Study:
        with _quiet():
            study = optuna.create_study(directions=self._study.directions)
        study.add_trials(self._study.get_trials(deepcopy=False))
        return study

    def _attempt(self, drafts: optuna.Study) -> tuple[Params, str | None]:
        """Sampled parameters for all grid cells, and the first constraint that they break."""
        params: Params = {}
        for cell in range(self._space.grid_size):
            draft, config = self._new_trial(drafts, params, cell)
            params |= draft.params
            if broken := self._space.violated(config):
                drafts.tell(draft, state=TrialState.FAIL)
                return params, broken
        return params, None

    def _new_trial(self, study: optuna.Study, params: Params, cell: int) -> tuple[optuna.Trial, dict[str, Any]]:
        """A trial with these parameters fixed and those that are missing sampled, and its configuration."""
        study.enqueue_trial(params)
        trial = study.ask()
        return trial, self._space.suggest(trial, cell)

    def _sampler(self, point: int, attempt: int) -> BaseSampler:
        """A new sampler. TPE draws candidates like the good trials, and takes the one least like the others.

        That leads it where no trial has been, and there may be none because a constraint forbids it: so after each
        draw that breaks one it has half as many candidates to take from, and in the end it is left to chance.
        """
        seed = int(np.random.SeedSequence((self._seed, point, attempt)).generate_state(1)[0])
        seen = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if self._searcher.type == "random" or len(seen) < self._searcher.startup_trials or attempt >= LEARNED:
            return RandomSampler(seed=seed)
        candidates = max(1, CANDIDATES >> attempt)
        with _quiet():
            return TPESampler(
                seed=seed,
                n_startup_trials=0,
                n_ei_candidates=candidates,
                multivariate=True,
                group=True,
                constant_liar=True,
            )

    def _whole_grid(self) -> list[tuple[Params, int]]:
        """Parameters and cell of each trial."""
        every = [(params, cell) for params in self._space.points() for cell in range(self._space.grid_size)]
        allowed = [
            (params, cell)
            for params, cell in every
            if not self._space.violated(self._space.suggest(FixedTrial(params), cell))
        ]
        if not allowed:
            raise UserError("no point of the grid fulfils the constraints")
        order = np.random.default_rng(self._seed).permutation(len(allowed))
        return [allowed[place] for place in order]


def trial_seed(seed: int, number: int) -> int:
    """The training seed of a search trial: 31 bits, and distinct in a sweep, since an odd factor is a bijection."""
    start = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return (start + number * 0x9E3779B1) % 2**31


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's note on every study and its warning that `group` is experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
