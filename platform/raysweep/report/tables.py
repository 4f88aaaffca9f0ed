"""The report's tables. Cells say "not measured" where there is nothing; numbers carry their full value for sorting."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from raysweep.evidence import ArmResult, Comparison, OtherScore
from raysweep.report.blocks import badge, table
from raysweep.report.markup import Markup, tag
from raysweep.report.trial_view import TrialView
from raysweep.report.view import SweepView
from raysweep.report.wording import (
    arm_name,
    costs,
    duration,
    interval,
    measurement,
    number,
    remaining_error,
    score_name,
    setting,
    short_names,
)

MOST_COSTS = 6


def arms_table(view: SweepView) -> Markup:
    """Finalists and references: score on the report split, every seed, select score, and what the model costs."""
    names = costs({name for arm in view.arms for trial in _trials(view, arm) for name in trial.measured})[:MOST_COSTS]
    heads = ["arm", "repeats", f"{view.arms[0].metric} on report", "each seed", "on select", *names]
    return table(heads, [_arm(view, arm, names) for arm in view.arms])


def comparisons_table(view: SweepView) -> Markup:
    """Every comparison with its interval and p-values."""
    reduced = any(row.error_reduction for row in view.comparisons)
    heads = ["arm", "against", "difference", *["remaining error"] * reduced, "p", "p, Holm-corrected", "verdict"]
    return table(heads, [_comparison(row, view, reduced) for row in view.comparisons])


def others_table(view: SweepView) -> Markup:
    """Each arm's further scores, one below another; an arm's name may be long, and there may be many scores."""
    rows = [
        [_text(score_name(name, statistic)), _text(arm_name(arm.arm, view)), *_score(arm.others[name])]
        for name, statistic in view.others.items()
        for arm in view.arms
    ]
    return table(["score", "arm", "on report", "each seed"], rows)


def rungs_table(view: SweepView) -> Markup:
    """What each rung did."""
    rows = [
        [_number(n) for n in (r.step, r.arrived, r.went_on, r.stopped)] + [_number(r.cutoff, "")] for r in view.rungs
    ]
    return table(["rung at step", "arrived", "went on", "stopped", "last value needed"], rows)


def trials_table(view: SweepView) -> Markup:
    """Every trial, with those settings that differ between trials and all metrics of its last step."""
    paths = list(view.varying)
    metrics = sorted({name for trial in view.trials.values() for name in trial.last} - {view.metric})
    names = short_names(paths)
    heads = ["trial", "role", "outcome", view.metric, "step", "time", *(names[path] for path in paths), *metrics, "why"]
    return table(heads, [_trial(trial, view, paths, metrics) for trial in view.trials.values()], sortable=True)


def failures_table(view: SweepView) -> Markup:
    """Every failed attempt with the last line of its error."""
    rows = []
    for trial in view.trials.values():
        for failure in trial.failures:
            words = (_text(trial.id), _number(failure["attempt"]), _text(failure["cause"]))
            after = "tried again" if failure["again"] else "given up"
            rows.append((*words, tag("td", tag("code", failure["error"])), _text(after)))
    return table(["trial", "attempt", "cause", "last line", "then"], rows)


def _arm(view: SweepView, arm: ArmResult, names: Sequence[str]) -> list[Markup]:
    label = [tag("strong", arm_name(arm.arm, view)), " ", badge("winner") if arm == view.winner else None]
    cells = [tag("td", *label), _text(arm.of or ""), *_score(arm)]
    return [
        *cells,
        _number(fmean(arm.select_per_seed)),
        *(_number(view.measured(arm, name), name=name) for name in names),
    ]


def _comparison(row: Comparison, view: SweepView, reduced: bool) -> list[Markup]:
    names = [_text(arm_name(row.arm, view)), _text(arm_name(row.against, view))]
    difference = _text(interval(row.difference, row.low, row.high, sign="+"))
    error = [_text(remaining_error(row))] if reduced else []
    return [*names, difference, *error, _number(row.p), _number(row.p_holm), tag("td", tag("strong", row.verdict))]


def _score(scored: ArmResult | OtherScore) -> list[Markup]:
    """The mean with its interval, and every seed's score."""
    return [_text(interval(scored.mean, scored.low, scored.high)), _text(", ".join(map(number, scored.per_seed)))]


def _trial(trial: TrialView, view: SweepView, paths: Sequence[str], metrics: Sequence[str]) -> list[Markup]:
    role = "search" if trial.role == "search" else f"{trial.arm}, seed {trial.seed}"
    cells = [_text(trial.id), _text(role), tag("td", badge(trial.state)), _number(trial.value, "")]
    cells += [_number(trial.step), tag("td", duration(trial.seconds), data_value=str(trial.seconds), class_="number")]
    cells += [_setting(trial.config[path]) if path in trial.config else tag("td", "") for path in paths]
    cells += [_number(trial.last.get(name), "", name) for name in metrics]
    return [*cells, tag("td", trial.ending, class_="why")]


def _trials(view: SweepView, arm: ArmResult) -> list[TrialView]:
    return [view.trials[trial] for trial in arm.trials if trial in view.trials]


def _text(text: str) -> Markup:
    return tag("td", text)


def _number(value: float | None, missing: str = "not measured", name: str = "") -> Markup:
    if value is None:
        return tag("td", missing, class_="missing")
    return tag("td", measurement(name, value), data_value=str(value), class_="number")


def _setting(value: Any) -> Markup:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return tag("td", setting(value), data_value=str(value), class_="number" if is_number else None)
