"""The proof at the end of a sweep: which finalist wins, and what may be said of it against the other arms."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from typing import Any, Literal

import numpy as np

from raysweep.evidence.bootstrap import RESAMPLES, Difference, difference, holm, interval, resampled
from raysweep.evidence.scores import Floats, score
from raysweep.problems import Problem, UserError
from raysweep.trial import Statistic

Verdict = Literal["better", "worse", "not distinguishable"]


def optimism(search: float, select: Sequence[float], maximize: bool = True) -> float:
    """By how much the search overrated a configuration: its score there, less its mean when trained again."""
    return (1 if maximize else -1) * float(search - np.mean(select))


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """A finalist or reference, trained on several seeds. `select` [S] are its scores on the select split, `predictions`
    [S, N] and `targets` [N] what `Recipe.evaluate` gave; `search` is the score in the search of the trial it repeats.
    """

    name: str
    role: Literal["finalist", "reference"]
    of: str
    config: dict[str, Any]
    trials: list[str]
    seeds: list[int]
    select: list[float]
    predictions: Floats
    targets: Floats
    statistic: Statistic
    search: float


@dataclass(frozen=True, slots=True)
class ArmResult:
    """An arm's score on the report split."""

    arm: str
    role: str
    of: str
    config: dict[str, Any]
    trials: list[str]
    seeds: list[int]
    metric: str
    mean: float
    low: float
    high: float
    per_seed: list[float]
    select_per_seed: list[float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The winner against another arm."""

    arm: str
    against: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The content of the journal's `confirmed` record."""

    arms: list[ArmResult]
    comparisons: list[Comparison]
    winner: str
    champion: str
    optimism: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Confirmation":
        """From a journal's record; its `kind` and `time` are left out."""
        arms = [ArmResult(**arm) for arm in record["arms"]]
        comparisons = [Comparison(**comparison) for comparison in record["comparisons"]]
        return cls(arms, comparisons, record["winner"], record["champion"], record["optimism"])


def confirm(
    arms: Sequence[Arm], alpha: float, seed: int, maximize: bool = True, resamples: int = RESAMPLES
) -> Confirmation:
    """The finalist with the best mean on the select split wins; the report split only says what may be claimed of it.

    The champion is the winner's trial that is best on the select split. `maximize` is the goal of the select scores. p
    values are Holm's over every comparison that could have been made had another finalist won: the winner was chosen by
    the luck of the same trained models, and without this the winner of three alike would look better too often.
    Raises UserError when arms cannot be compared.
    """
    _check(arms)
    sign = 1 if maximize else -1
    finalists = sorted(_of_role(arms, "finalist"), key=lambda arm: -sign * float(np.mean(arm.select)))
    winner, pairs = finalists[0], [*combinations(finalists, 2), *product(finalists, _of_role(arms, "reference"))]
    # so many resamples that the smallest p value there can be is still half of alpha after the correction
    chances = _Chances(arms, max(resamples, math.ceil(4 * len(pairs) / alpha)), np.random.default_rng(seed), alpha)
    found = [chances.compare(first, second) for first, second in pairs]
    adjusted = holm([one.p for one in found])
    comparisons = [
        _comparison(first, second, one, p, alpha)
        for (first, second), one, p in zip(pairs, found, adjusted, strict=True)
        if first is winner
    ]
    champion = winner.trials[int(np.argmax(sign * np.array(winner.select)))]
    gap = optimism(winner.search, winner.select, maximize)
    return Confirmation([chances.result(arm) for arm in arms], comparisons, winner.name, champion, gap)


class _Chances:
    """All arms' scores on the same resamples."""

    def __init__(self, arms: Sequence[Arm], resamples: int, rng: np.random.Generator, alpha: float) -> None:
        self._rng, self._alpha = rng, alpha
        statistic, targets = arms[0].statistic, arms[0].targets
        rows, ends = np.concatenate([arm.predictions for arm in arms]), np.cumsum([len(arm.seeds) for arm in arms])
        names = [arm.name for arm in arms]
        self._scores = dict(zip(names, np.split(score(statistic, rows, targets)[:, 0], ends[:-1]), strict=True))
        draws = resampled(rows, targets, statistic, rng, resamples)
        self._resampled = dict(zip(names, np.split(draws, ends[:-1]), strict=True))

    def compare(self, first: Arm, second: Arm) -> Difference:
        """Paired on the seeds that both were trained on."""
        shared = [seed for seed in first.seeds if seed in second.seeds]
        rows, others = [first.seeds.index(seed) for seed in shared], [second.seeds.index(seed) for seed in shared]
        gaps = self._scores[first.name][rows] - self._scores[second.name][others]
        moved = self._resampled[first.name][rows] - self._resampled[second.name][others]
        return difference(gaps, moved, self._alpha, self._rng)

    def result(self, arm: Arm) -> ArmResult:
        scores = self._scores[arm.name]
        found = interval(scores, self._resampled[arm.name], self._alpha, self._rng)
        return ArmResult(
            arm=arm.name,
            role=arm.role,
            of=arm.of,
            config=arm.config,
            trials=arm.trials,
            seeds=arm.seeds,
            metric=arm.statistic,
            mean=found.mean,
            low=found.low,
            high=found.high,
            per_seed=scores.tolist(),
            select_per_seed=[float(value) for value in arm.select],
        )


def _comparison(first: Arm, second: Arm, found: Difference, p_holm: float, alpha: float) -> Comparison:
    verdict: Verdict = "not distinguishable"
    if p_holm <= alpha:
        verdict = "better" if found.difference > 0 else "worse"
    return Comparison(first.name, second.name, found.difference, found.low, found.high, found.p, p_holm, verdict)


def _of_role(arms: Sequence[Arm], role: str) -> list[Arm]:
    return [arm for arm in arms if arm.role == role]


def _check(arms: Sequence[Arm]) -> None:
    """Raises UserError with everything that makes these arms incomparable."""
    if not _of_role(arms, "finalist"):
        raise UserError("no finalist could be trained again, so there is nothing to confirm")
    problems = []
    for arm in arms:
        assert arm.predictions.shape == (len(arm.seeds), len(arm.targets)), arm.name
        assert len(arm.trials) == len(arm.seeds) == len(arm.select) > 0, arm.name
        if not (np.isfinite(arm.predictions).all() and np.isfinite(arm.select).all()):
            problems.append(f"arm '{arm.name}' has predictions or scores that are not finite")
        if arm.statistic != arms[0].statistic:
            problems.append(f"arm '{arm.name}' is scored by {arm.statistic}, '{arms[0].name}' by {arms[0].statistic}")
        if not np.array_equal(arm.targets, arms[0].targets):
            problems.append(f"arms '{arm.name}' and '{arms[0].name}' were evaluated on different examples")
    for finalist, other in product(_of_role(arms, "finalist"), arms):
        if not set(finalist.seeds) & set(other.seeds):
            problems.append(f"arms '{finalist.name}' and '{other.name}' have no training seed in common")
    if problems:
        raise UserError([Problem(problem) for problem in problems])
