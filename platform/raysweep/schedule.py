"""Whether a trial goes on: asynchronous successive halving (ASHA) of the stopping kind, or no stopping at all.

Pure: the same calls give the same decisions, so replaying a journal restores a scheduler. Li et al. 2020,
"A System for Massively Parallel Hyperparameter Tuning", https://arxiv.org/abs/1810.05934
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from raysweep.problems import UserError
from raysweep.spec import SchedulerSpec


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a trial goes on. `rung` is None when none was reached; then nothing was compared.

    `rank` counts from 1 among the `of` trials recorded at the rung so far; `cutoff` is the value that was needed.
    """

    action: Literal["go on", "stop"]
    reason: str = ""
    rung: int | None = None
    rank: int | None = None
    of: int | None = None
    cutoff: float | None = None


class Scheduler(Protocol):
    """Decides after each report of a trial before its last step."""

    def decide(self, number: int, step: int, value: float) -> Decision:
        """One decision for one report: trial number, step, and the primary objective's value there."""


class Fifo:
    """Stops none."""

    def decide(self, number: int, step: int, value: float) -> Decision:
        return Decision("go on")


class Asha:
    """At rung `min * eta^k` below `max` a trial goes on if it is among the best `max(1, n // eta)` of n recorded there.

    The n include itself, so the first to arrive goes on. Ray's quantile rule lets more of the first few pass: it costs
    0.35 of a grid of 27 with 9 steps where this costs 0.29. Equal values share the better rank: a metric that has not
    moved yet stops nobody for arriving late. A value that is not finite is last, and never goes on. A trial that steps
    over rungs is recorded at the highest it has reached, once at each; a rung's decision is final. Bracket b begins at
    rung b, and trials of different brackets are not compared.
    """

    def __init__(self, spec: SchedulerSpec, maximize: bool, seed: int) -> None:
        rungs = rungs_of(spec)
        if spec.brackets > len(rungs) + 1:
            raise UserError(
                f"scheduler.brackets is {spec.brackets}, but min {spec.min}, max {spec.max} and eta {spec.eta} "
                f"give {len(rungs)} rungs, so at most {len(rungs) + 1} brackets"
            )
        self._eta, self._maximize, self._seed = spec.eta, maximize, seed
        self._brackets = [rungs[first:] for first in range(spec.brackets)]
        self._shares = bracket_shares(len(rungs), spec.brackets, spec.eta)
        self._values: dict[tuple[int, int], list[float]] = {}  # by bracket and rung, larger is better
        self._highest: dict[int, int] = {}  # by trial number, the highest rung it was recorded at

    def bracket(self, number: int) -> int:
        """The bracket of a trial, from the seed and its number only."""
        if len(self._shares) == 1:
            return 0
        return int(np.random.default_rng((self._seed, number)).choice(len(self._shares), p=self._shares))

    def decide(self, number: int, step: int, value: float) -> Decision:
        bracket = self.bracket(number)
        rung = max((rung for rung in self._brackets[bracket] if rung <= step), default=0)
        if rung <= self._highest.get(number, 0):
            return Decision("go on")
        self._highest[number] = rung
        signed = (value if self._maximize else -value) if math.isfinite(value) else -math.inf
        values = self._values.setdefault((bracket, rung), [])
        values.append(signed)
        return self._compare(rung, signed, values)

    def _compare(self, rung: int, signed: float, values: list[float]) -> Decision:
        keep = max(1, len(values) // self._eta)
        rank = 1 + sum(other > signed for other in values)
        best = sorted(values, reverse=True)[keep - 1]
        cutoff = (best if self._maximize else -best) if math.isfinite(best) else None
        stop = rank > keep or signed == -math.inf
        reason = f"rank {rank} of {len(values)} at rung {rung}; the best {keep} go on"
        if signed == -math.inf:
            reason += "; the value is not finite"
        elif stop:
            reason += f"; {cutoff:.4g} or {'more' if self._maximize else 'less'} was needed"
        return Decision("stop" if stop else "go on", reason, rung, rank, len(values), cutoff)


def rungs_of(spec: SchedulerSpec) -> list[int]:
    """The rungs `min * eta^k` below `max`, in whole numbers: with logarithms (243, 1, 3) loses its last one."""
    rungs, rung = [], spec.min
    while rung < spec.max:
        rungs.append(rung)
        rung *= spec.eta
    return rungs


def bracket_shares(rungs: int, brackets: int, eta: int) -> list[float]:
    """The share of trials in each bracket, as in Hyperband: eta^s / (s + 1) for a bracket with s rungs.

    So each bracket costs about the same, and most trials are in the one that stops earliest. Li et al. 2018,
    https://arxiv.org/abs/1603.06560, algorithm 1.
    """
    weights = [eta**left / (left + 1) for left in range(rungs, rungs - brackets, -1)]
    return [weight / sum(weights) for weight in weights]


def make_scheduler(spec: SchedulerSpec, goal: Literal["maximize", "minimize"], seed: int) -> Scheduler:
    """The scheduler of a sweep file. Raises UserError when there are more brackets than rungs allow."""
    return Fifo() if spec.type == "fifo" else Asha(spec, goal == "maximize", seed)
