"""The proof at the end of a sweep: which finalist wins, and what may be said of it against the other arms."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any, Literal

import numpy as np

from raysweep.evidence.bootstrap import RESAMPLES, Difference, bootstrap_interval, difference, holm, interval, resampled
from raysweep.evidence.confirmation import ArmResult, Comparison, Confirmation, OtherScore, Verdict
from raysweep.evidence.error_reduction import ErrorReduction, error_reduction
from raysweep.evidence.scores import best_score, score
from raysweep.evidence.stretches import Floats, exact_words, words
from raysweep.problems import Problem, UserError
from raysweep.trial import Scored, Scoring


def optimism(search: float, select: Sequence[float], maximize: bool = True) -> float:
    """By how much the search overrated a configuration: its score there, less its mean when trained again."""
    return (1 if maximize else -1) * float(search - np.mean(select))


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """A finalist or reference, trained on several seeds. `select` [S] are its scores on the select split, `predictions`
    [S, N] and `targets` [N] what `Recipe.evaluate` gave; `search` is the score in the search of the trial it repeats.
    `others` are further scores by name, each with predictions [S, M] and targets [M] of its own examples.
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
    statistic: Scoring
    search: float
    others: dict[str, Scored] = field(default_factory=dict)


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
    adjusted, results = holm([one.p for one in found]), [chances.result(arm) for arm in arms]
    comparisons = [
        Comparison(
            arm=first.name,
            against=second.name,
            difference=one.difference,
            low=one.low,
            high=one.high,
            p=one.p,
            p_holm=p,
            verdict=_verdict(one, p, alpha),
            error_reduction=chances.error_reduction(first, second),
        )
        for (first, second), one, p in zip(pairs, found, adjusted, strict=True)
        if first is winner
    ]
    champion = winner.trials[int(np.argmax(sign * np.array(winner.select)))]
    gap = optimism(winner.search, winner.select, maximize)
    return Confirmation(results, comparisons, winner.name, champion, gap)


class _Chances:
    """All arms' scores on the same resamples."""

    def __init__(self, arms: Sequence[Arm], resamples: int, rng: np.random.Generator, alpha: float) -> None:
        self._rng, self._alpha = rng, alpha
        self._apart = rng.spawn(1)[0]  # so that further scores change no draw of the others
        statistic, targets = arms[0].statistic, arms[0].targets
        rows, ends = np.concatenate([arm.predictions for arm in arms]), np.cumsum([len(arm.seeds) for arm in arms])
        names = [arm.name for arm in arms]
        self._scores = dict(zip(names, np.split(score(statistic, rows, targets)[:, 0], ends[:-1]), strict=True))
        draws = resampled(rows, targets, statistic, rng, resamples)
        self._resampled = dict(zip(names, np.split(draws, ends[:-1]), strict=True))

    def compare(self, first: Arm, second: Arm) -> Difference:
        scores, redrawn = self._paired(first, second)
        return difference(scores[0] - scores[1], redrawn[0] - redrawn[1], self._alpha, self._rng)

    def error_reduction(self, first: Arm, second: Arm) -> ErrorReduction | None:
        best = best_score(first.statistic, first.targets)
        if best is None:
            return None
        scores, redrawn = self._paired(first, second)
        return error_reduction(best - scores, best - redrawn, self._alpha, self._rng)

    def _paired(self, *arms: Arm) -> tuple[Floats, Floats]:
        """Two arms' scores [2, S] and those on resamples [2, S, B], on the S seeds that both were trained on."""
        shared = [seed for seed in arms[0].seeds if seed in arms[1].seeds]
        rows = [(arm.name, [arm.seeds.index(seed) for seed in shared]) for arm in arms]
        scores, redrawn = [self._scores[name][row] for name, row in rows], [self._resampled[n][row] for n, row in rows]
        return np.stack(scores), np.stack(redrawn)

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
            metric=words(arm.statistic),
            mean=found.mean,
            low=found.low,
            high=found.high,
            per_seed=scores.tolist(),
            select_per_seed=[float(value) for value in arm.select],
            others={name: self._other(scored) for name, scored in arm.others.items()},
        )

    def _other(self, scored: Scored) -> OtherScore:
        statistic, targets = scored.statistic, scored.targets
        found = bootstrap_interval(scored.predictions, targets, statistic, self._alpha, self._apart)
        per_seed = score(statistic, scored.predictions, targets)[:, 0].tolist()
        return OtherScore(words(statistic), found.mean, found.low, found.high, per_seed)


def _verdict(found: Difference, p_holm: float, alpha: float) -> Verdict:
    if p_holm > alpha:
        return "not distinguishable"
    return "better" if found.difference > 0 else "worse"


def _of_role(arms: Sequence[Arm], role: str) -> list[Arm]:
    return [arm for arm in arms if arm.role == role]


def _check(arms: Sequence[Arm]) -> None:
    """Raises UserError with everything that makes these arms incomparable."""
    if not _of_role(arms, "finalist"):
        raise UserError("no finalist could be trained again, so there is nothing to confirm")
    problems: list[str] = []
    for arm in arms:
        assert arm.predictions.shape == (len(arm.seeds), len(arm.targets)), arm.name
        assert len(arm.trials) == len(arm.seeds) == len(arm.select) > 0, arm.name
        if not (np.isfinite(arm.predictions).all() and np.isfinite(arm.select).all()):
            problems.append(f"arm '{arm.name}' has predictions or scores that are not finite")
        if arm.statistic != arms[0].statistic:
            ours, theirs = exact_words(arm.statistic), exact_words(arms[0].statistic)
            problems.append(f"arm '{arm.name}' is scored by {ours}, '{arms[0].name}' by {theirs}")
        if not np.array_equal(arm.targets, arms[0].targets):
            problems.append(f"arms '{arm.name}' and '{arms[0].name}' were evaluated on different examples")
        problems += _unlike(arm, arms)
    for finalist, other in product(_of_role(arms, "finalist"), arms):
        if not set(finalist.seeds) & set(other.seeds):
            problems.append(f"arms '{finalist.name}' and '{other.name}' have no training seed in common")
    if problems:
        raise UserError([Problem(problem) for problem in problems])


def _unlike(arm: Arm, arms: Sequence[Arm]) -> Iterator[str]:
    """What is wrong with an arm's further scores, next to those of the first arm that has them."""
    for name, first in {name: other for other in reversed(arms) for name in other.others}.items():
        if name not in arm.others:
            yield f"arm '{arm.name}' has no '{name}', which '{first.name}' has"
            continue
        ours, theirs = arm.others[name], first.others[name]
        if not np.isfinite(ours.predictions).all():
            yield f"arm '{arm.name}' has predictions on '{name}' that are not finite"
        if ours.statistic != theirs.statistic:
            said = exact_words(ours.statistic), exact_words(theirs.statistic)
            yield f"arm '{arm.name}' is scored on '{name}' by {said[0]}, '{first.name}' by {said[1]}"
        if not np.array_equal(ours.targets, theirs.targets):
            yield f"arms '{arm.name}' and '{first.name}' were evaluated on different examples of '{name}'"
