"""What the arms of a resource-efficient sweep are: a way of tuning some model, and how many rows it trained on."""

import re
from collections.abc import Mapping
from itertools import combinations, pairwise
from statistics import fmean
from typing import Any, Literal

from benchmarks.results_page import figure
from benchmarks.variants import VARIANT
from raysweep.evidence import ArmResult
from raysweep.report.trial_view import TrialView
from raysweep.report.view import SweepView

NOT_MEASURED, NOT_RUN = "not measured", "not run"
TRAIN_ROWS, TRAIN_SIZES = "data.train_rows", "curve.sizes"
EVERY = "all"
WITHIN = re.compile(r"curve\.(\d+)\.score")  # of trials that train on one size after another
Split = Literal["select", "report"]
SPLITS: tuple[Split, ...] = ("select", "report")
Ways = dict[str, dict[int | None, ArmResult]]


def given_rows(config: Mapping[str, Any]) -> int | None:
    """How many rows a configuration asked for, of several sizes in the end; None is every row."""
    sizes = config.get(TRAIN_SIZES) or [config.get(TRAIN_ROWS)]
    return None if sizes[-1] in (None, -1) else int(sizes[-1])


def way(arm: ArmResult) -> str:
    """What an arm is called without its rows: variants lora-1000 and lora-5k are lora, trained on 1000 and on 5000."""
    rows = given_rows(arm.config)
    sizes = {EVERY} if rows is None else {str(rows), f"{rows / 1000:g}k"}
    label = arm.arm if arm.role == "reference" else str(arm.config.get(VARIANT) or arm.arm)
    return "-".join(part for part in label.split("-") if part not in sizes) or label


def by_way(view: SweepView) -> Ways:
    """The arms by way and rows, fewest first and every row last; of several the best finalist, which comes first."""
    found: Ways = {}
    for arm in view.arms:
        found.setdefault(way(arm), {}).setdefault(given_rows(arm.config), arm)
    return {name: dict(sorted(arms.items(), key=lambda one: in_order(one[0]))) for name, arms in found.items()}


def in_order(rows: int | None) -> tuple[bool, int]:
    """A key for sorting: numbers, then every row."""
    return rows is None, rows or 0


def said(rows: int | None) -> str:
    return EVERY if rows is None else f"{rows:,}"


def every_row(view: SweepView) -> int | None:
    """How many rows there are; None where the journal tells only of those that a configuration asked for."""
    trained = [trial.last.get("train.rows") for trial in view.trials.values() if given_rows(trial.config) is None]
    if counts := [int(count) for count in trained if count is not None]:
        return max(counts)
    rows = (view.data.get("rows") or {}).get("train")
    return None if rows in {given_rows(trial.config) for trial in view.trials.values()} else rows


def sized(view: SweepView) -> bool:
    """Whether any way was trained on several numbers of rows."""
    return any(len(arms) > 1 for arms in by_way(view).values())


def within(view: SweepView, arm: ArmResult, split: Split) -> dict[int, float]:
    """Scores by rows of an arm whose trials train on one size after another: means over the seeds that have them."""
    found: dict[int, list[float]] = {}
    for trial in (view.trials[name] for name in arm.trials):
        for name, value in _scores(trial, split).items():
            if matched := WITHIN.fullmatch(name):
                found.setdefault(int(matched[1]), []).append(value)
    return {rows: fmean(values) for rows, values in sorted(found.items())}


def _scores(trial: TrialView, split: Split) -> Mapping[str, float]:
    """What was reported in training is of select, what was evaluated of report."""
    return trial.last if split == "select" else (trial.evaluated or {}).get("metrics") or {}


def comparable(view: SweepView) -> list[tuple[str, str]]:
    """Every two arms that trained on as many rows, but no two references."""
    pairs = combinations(sorted(view.arms, key=lambda arm: arm.role != "finalist"), 2)
    return [
        (one.arm, two.arm)
        for one, two in pairs
        if one.role == "finalist" and given_rows(one.config) == given_rows(two.config)
    ]


def larger(view: SweepView) -> list[tuple[str, str]]:
    """Of each way every arm but the smallest, and the one that trained on the next fewer rows."""
    ways = [list(arms.values()) for arms in by_way(view).values()]
    return [(more.arm, fewer.arm) for arms in ways for fewer, more in pairwise(arms)]


def told(value: float | None, form: str) -> str:
    """A number, or that it was not measured."""
    return NOT_MEASURED if value is None else figure(value, form)
