"""Scores of one model in many languages, on rows that are translations of each other: XNLI."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.efficient_arms import NOT_RUN
from benchmarks.measured import table
from benchmarks.results_page import NOTHING, SweepRun, figure, points, scores
from benchmarks.variants import called
from raysweep.evidence import Arm, Difference, Interval, bootstrap_interval, holm
from raysweep.evidence.bootstrap import RESAMPLES, difference, resampled
from raysweep.proof import Trials
from raysweep.report.view import SweepView

ENGLISH = "en"
LANGUAGE = re.compile(r"language ([a-z]{2,3})(?: (\w+))?")  # how a further score is called, with its statistic behind
OTHER_ROWS = "other rows"
SCORE_WORDS = (
    "Accuracy on the report split of each language with its interval. The last line is the mean over the languages, "
    "its interval resamples rows: a row's translations are drawn together."
)
F1_WORDS = "Macro F1 of the same answers."
GAP_WORDS = (
    "Each language less English, from the recorded predictions on the same rows and seeds, in points: hundredths of "
    "the accuracy. p values are Holm-corrected over all differences of this table."
)
Floats = npt.NDArray[np.float64]
Gaps = Mapping[tuple[str, str], tuple[Difference, float]]  # by arm and language, with the p value of Holm


def section(run: SweepRun) -> list[str]:
    """Every language's scores by arm, their mean, and what lies between each language and English."""
    languages = languages_of(run.view)
    if not languages:
        return [f"No arm was scored in several languages: {NOT_RUN}."]
    trials = Trials(run.records, run.view.metric, run.folder)
    arms = {arm.arm: trials.arm(arm.arm) for arm in run.view.arms}
    lines = [SCORE_WORDS, scores_table(run.view, arms, languages), *f1_lines(run.view, languages)]
    if ENGLISH not in languages:
        return [*lines, f"English was {NOT_RUN}, so there is nothing to hold the languages against."]
    return [*lines, GAP_WORDS, gaps_table(run.view, gaps(run.view, arms, languages), languages)]


def languages_of(view: SweepView) -> list[str]:
    """The languages that the proof has scores in, English first."""
    found = [matched[1] for name in view.others if (matched := LANGUAGE.fullmatch(name)) and not matched[2]]
    return sorted(found, key=lambda language: language != ENGLISH)


def others_of(view: SweepView) -> list[str]:
    """The further scores that are of no language."""
    return [name for name in view.others if not LANGUAGE.fullmatch(name)]


def score_of(language: str) -> str:
    """What the further score of a language is called."""
    return f"language {language}"


def f1_lines(view: SweepView, languages: Sequence[str]) -> list[str]:
    """Another score of the same answers; nothing where there is none."""
    names = {language: f"{score_of(language)} macro_f1" for language in languages}
    rows = [
        [language, *(scores(arm.others[name])[0] for arm in view.arms)]
        for language, name in names.items()
        if name in view.others
    ]
    return [F1_WORDS, table(["language", *(called(view, arm.arm) for arm in view.arms)], rows)] if rows else []


def scores_table(view: SweepView, arms: Mapping[str, Arm], languages: Sequence[str]) -> str:
    """A row for each language and one for their mean, a column for each arm."""
    rows = [[language, *(scores(arm.others[score_of(language)])[0] for arm in view.arms)] for language in languages]
    means = [interval_of(mean_of(view, arms[arm.arm], languages)) for arm in view.arms]
    return table(["language", *(called(view, arm.arm) for arm in view.arms)], [*rows, ["mean", *means]])


def interval_of(found: Interval | None) -> str:
    return OTHER_ROWS if found is None else f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"


def mean_of(view: SweepView, arm: Arm, languages: Sequence[str]) -> Interval | None:
    """The mean accuracy over these languages; None where their rows are not the same ones."""
    if len(alike(arm, languages)) < len(languages):
        return None
    shares: Floats = np.mean([right(arm, language) for language in languages], axis=0)
    rng = np.random.default_rng(view.spec.seed)
    return bootstrap_interval(shares, np.ones(shares.shape[1]), "mean", view.spec.confirm.alpha, rng)


def right(arm: Arm, language: str) -> Floats:
    """Which rows are answered rightly [S, N]: 1 or 0."""
    scored = arm.others[score_of(language)]
    answered: Floats = (scored.predictions == scored.targets).astype(np.float64)
    return answered


def alike(arm: Arm, languages: Sequence[str]) -> list[str]:
    """Those of the languages whose rows have the targets of the first one's: translations do not change them."""
    targets = [arm.others[score_of(language)].targets for language in languages]
    return [language for language, own in zip(languages, targets, strict=True) if np.array_equal(own, targets[0])]


def gaps(view: SweepView, arms: Mapping[str, Arm], languages: Sequence[str]) -> Gaps:
    """Of each arm every language less English, which is the first; all p values are one family."""
    family = len(arms) * (len(languages) - 1)
    # so many resamples that the smallest p value there can be is still half of alpha after the correction
    resamples = max(RESAMPLES, math.ceil(4 * family / view.spec.confirm.alpha))
    found = {
        (name, language): gap
        for name, arm in arms.items()
        for language, gap in arm_gaps(view, arm, alike(arm, languages), resamples).items()
    }
    adjusted = holm([gap.p for gap in found.values()])
    return {key: (gap, p) for (key, gap), p in zip(found.items(), adjusted, strict=True)}


def arm_gaps(view: SweepView, arm: Arm, languages: Sequence[str], resamples: int) -> dict[str, Difference]:
    """One arm's languages less the first of them, all on the same resamples of the rows."""
    answers, rng = [right(arm, language) for language in languages], np.random.default_rng(view.spec.seed)
    draws = resampled(np.concatenate(answers), np.ones(answers[0].shape[1]), "mean", rng, resamples)
    means, redrawn = [one.mean(axis=1) for one in answers], np.split(draws, len(languages))
    alpha = view.spec.confirm.alpha
    return {
        language: difference(means[place] - means[0], redrawn[place] - redrawn[0], alpha, rng)
        for place, language in enumerate(languages)
        if place
    }


def gaps_table(view: SweepView, found: Gaps, languages: Sequence[str]) -> str:
    """A row for each language but English, a column for each arm."""
    rows = [
        [language, *(gap_cell(view, found.get((arm.arm, language))) for arm in view.arms)] for language in languages[1:]
    ]
    return table([f"less {ENGLISH}", *(called(view, arm.arm) for arm in view.arms)], rows) if rows else NOTHING


def gap_cell(view: SweepView, found: tuple[Difference, float] | None) -> str:
    """`-3.10 [-4.01, -2.20], p 0.003`, and whether it is none that can be told."""
    if found is None:
        return OTHER_ROWS
    gap, p = found
    verdict = "" if p <= view.spec.confirm.alpha else ", not distinguishable"
    return f"{points(gap)}, p {figure(p, '.3f')}{verdict}"
