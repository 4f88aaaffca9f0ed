"""How numbers, settings and verdicts are said: sensible digits, and never a number that was not measured."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from raysweep.evidence import ArmResult, Comparison
from raysweep.report.trial_view import TrialView
from raysweep.report.view import SweepView

MISSING = "not measured"
# Names of metrics that say what a model costs, by their last words: what quality is weighed against.
_COST = re.compile(r"(^|[._ /])(parameters|params|bytes|mb|dimensions?|size|latency|ms|milliseconds|flops)([._ /]|$)")
_BYTES = re.compile(r"(^|[._ /])bytes([._ /]|$)")


def number(value: float | None) -> str:
    """Four significant digits; whole numbers in full."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def measurement(name: str, value: float | None) -> str:
    """A number in the unit that its metric's name says."""
    return size(value) if value is not None and _BYTES.search(name) else number(value)


def size(count: float) -> str:
    """Bytes with a decimal unit: 2,400,000 is 2.4 MB; in full below 10 kB, where embeddings are."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= max(scale, 1e4):
            return f"{count / scale:.3g} {unit}"
    return f"{count:,.0f} bytes"


def interval(mean: float, low: float, high: float, sign: str = "", unit: str = "") -> str:
    """A mean with its interval, to the digits that the interval's width bears out: 0.831 [0.811, 0.851]."""
    width = high - low
    places = max(0, min(6, 1 - math.floor(math.log10(width)))) if math.isfinite(width) and width > 0 else 4
    return "{} [{}, {}]".format(*(f"{value:{sign}.{places}f}{unit}" for value in (mean, low, high)))


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 05 min, 2 d 4 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def plural(count: int, word: str) -> str:
    """1 trial, 2 trials."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def setting(value: Any) -> str:
    """A configuration's value as a sweep file says it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)


def score_name(name: str, statistic: str) -> str:
    """A further score: its name, and what scores it unless the name ends with that."""
    return name if name.endswith(f" {statistic}") else f"{name}: {statistic}"


def by_part(rows: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Rows of all data under "", and those of each part, whose entries begin with its name, under that name."""
    parts: dict[str, dict[str, int]] = {"": {}}
    for name, count in rows.items():
        part, _, entry = name.partition(" ")
        if f"{part} report" not in rows:
            part, entry = "", name
        parts.setdefault(part, {})[entry] = count
    return parts


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """The last word of each dotted path, or the whole path where that is not unique or says nothing by itself."""
    listed = list(paths)
    last = [path.rpartition(".")[2] for path in listed]
    clear = {word for word in last if last.count(word) == 1} - {"enabled", "kind", "name", "type"}
    return {path: word if word in clear else path for path, word in zip(listed, last, strict=True)}


def settings(trial: TrialView, view: SweepView) -> str:
    """`lr=0.0003 dim=128`: a trial's settings that differ between trials; all of them, while it is the only one."""
    paths = [path for path in view.varying or trial.config if path in trial.config]
    names = short_names(view.varying or trial.config)
    return " ".join(f"{names[path]}={setting(trial.config[path])}" for path in paths)


def sittings(view: SweepView) -> str:
    """How often the sweep was taken up again."""
    return f"resumed {plural(view.resumed, 'time')}" if view.resumed else "in one go"


def costs(names: Iterable[str]) -> list[str]:
    """Those metrics that say what a model costs in size or time."""
    return sorted({name for name in names if _COST.search(name)})


def place(trial: TrialView, view: SweepView) -> str:
    """What a trial is in the sweep."""
    if trial.role == "search":
        return f"search trial {trial.number + 1} of {view.spec.budget.trials}"
    return f"{'reference ' if trial.role == 'reference' else ''}{trial.arm}, seed {trial.seed}"


def verdict(comparison: Comparison, view: SweepView) -> str:
    """A comparison as the end of a sentence."""
    difference = interval(comparison.difference, comparison.low, comparison.high, sign="+")
    error = f", remaining error {remaining_error(comparison)}" if comparison.error_reduction else ""
    return f"against '{arm_name(comparison.against, view)}' the difference is {difference}{error}: {comparison.verdict}"


def remaining_error(comparison: Comparison) -> str:
    """By how much the winner's error is larger or smaller than the other arm's: -7 % [-12 %, -1 %]."""
    found = comparison.error_reduction
    if found is None:
        return "not defined"
    value, low, high = (0.0 - 100 * change for change in (found.value, found.high, found.low))  # never -0
    return interval(value, low, high, sign="+", unit=" %")


def arm_name(name: str, view: SweepView) -> str:
    """`finalist-1 (layers=1)`: an arm, with its values of the settings whose values the proof compares.

    A value that is a word says enough by itself.
    """
    config = next((arm.config for arm in view.arms if arm.arm == name), {})
    paths = [path for path in view.spec.confirm.per if path in config]
    told = [_told(short, config[path]) for path, short in short_names(paths).items()]
    return f"{name} ({', '.join(told)})" if told else name


def _told(name: str, value: Any) -> str:
    return value if isinstance(value, str) else f"{name}={setting(value)}"


def unproven_values(view: SweepView) -> list[str]:
    """A sentence for each value that the proof was to compare and that has no finalist."""
    confirm = view.spec.confirm
    complete = {confirm.group(trial.config) for trial in view.search if trial.state == "complete"}
    lacking = {group: trial.config for trial in view.search if (group := confirm.group(trial.config)) not in complete}
    named = [
        ", ".join(f"{path}={setting(config[path])}" for path in confirm.per if path in config)
        for group, config in lacking.items()
        if group
    ]
    return [f"No trial with {values} was trained to its end, so it has no finalist." for values in named]


def headline(view: SweepView) -> str:
    """What the sweep found, in plain words, as far as it is known; what it may be compared with comes after `;`."""
    return "; ".join(findings(view)) + "."


def findings(view: SweepView) -> list[str]:
    """The finding, then each comparison of the winner."""
    if not view.begun:
        return ["The journal is empty: nothing has been recorded yet"]
    if view.winner:
        return _proven(view, view.winner)
    if view.confirming:
        over = sum(trial.over for trial in view.confirming)
        return [f"No verdict yet: the search is over, and {over} of {view.proof_trials} trainings of the proof are"]
    return [_searched(view)]


def _proven(view: SweepView, winner: ArmResult) -> list[str]:
    score = f"{winner.metric} {interval(winner.mean, winner.low, winner.high)}"
    seeds = plural(len(winner.seeds), "fresh seed")
    found = f"On {seeds} and the report split the winner '{arm_name(winner.arm, view)}' scores {score}"
    against = [verdict(comparison, view) for comparison in view.comparisons]
    return [found, *(against or ["nothing was trained to compare it with, so nothing says that it is better"])]


def _searched(view: SweepView) -> str:
    over = sum(trial.over for trial in view.search)
    start = f"{over} of {plural(view.spec.budget.trials, 'search trial')} {'is' if over == 1 else 'are'} over"
    if not view.best:
        return f"{start}; none is complete, so there is no best trial yet"
    best = f"{start}; the best complete one, {view.best.id}, has {view.metric} {number(view.best.value)} in the search"
    if view.ended:
        return f"{best}, which is optimistic, for it was chosen as the best of many: nothing has confirmed it"
    return f"{best}. There are no finalists yet"
