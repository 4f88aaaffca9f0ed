"""A picture of scores by training rows, by language, and against what training and answering take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.efficient_arms import SPLITS, by_way, every_row, sized, within
from benchmarks.efficient_languages import languages_of, score_of
from benchmarks.results_page import SweepRun
from benchmarks.trade_off import BAR, COLOURS, HEIGHT, LOOK, WIDTH, written
from benchmarks.variants import called
from raysweep.evidence import ArmResult, OtherScore
from raysweep.report.view import SweepView

COSTS = {  # the metric, what the axis says, and what a unit of it is
    "resources.train_seconds": ("seconds of training", 1.0),
    "latency.p50_ms": ("ms for one text", 1.0),
    "size.weight_bytes": ("weights, MB", 1e6),
    "resources.train_joules": ("kJ of training", 1e3),
}
OWN_LOOK: dict[Any, Any] = {**LOOK, "svg.hashsalt": "resource_efficient"}
STYLES = dict(zip(SPLITS, ("--", ":"), strict=True))  # of scores within a trial, by what they are on


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: what it is of, and what draws it."""

    title: str
    draw: Callable[[Axes], None]


def picture(runs: Sequence[SweepRun], page: Path) -> list[str]:
    """Draw what has been proven beside the page; the lines that show it there, if there is anything to draw."""
    drawn = {str(run.view.header["name"]): panels_of(run.view) for run in runs if run.view.confirmed}
    drawn = {name: panels for name, panels in drawn.items() if panels}
    if not drawn:
        return []
    path = written(page, lambda: draw(drawn), OWN_LOOK)
    words = (
        "Bars are the scores' intervals. Broken lines are means on select, dotted ones on report, of trials that "
        "trained on one size after another."
    )
    return [f"![Scores by rows, by language and against costs]({path.name})", words]


def panels_of(view: SweepView) -> list[Panel]:
    """What this sweep has something to show of."""
    found = []
    if sized(view) or any(within(view, arm, split) for arm in view.arms for split in SPLITS):
        found.append(Panel("by training rows", lambda axis: draw_curves(axis, view)))
    if languages_of(view):
        found.append(Panel("by language", lambda axis: draw_languages(axis, view)))
    measured = [metric for metric in COSTS if any(view.measured(arm, metric) is not None for arm in view.arms)]
    return found + [Panel("against costs", cost_drawer(view, metric)) for metric in measured]


def draw(drawn: Mapping[str, Sequence[Panel]]) -> Figure:
    """A row of panels for each sweep."""
    columns = max(len(panels) for panels in drawn.values())
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * len(drawn)), layout="constrained")
    for axes, (name, panels) in zip(figure.subplots(len(drawn), columns, squeeze=False), drawn.items(), strict=True):
        for axis, panel in zip(axes, panels, strict=False):
            panel.draw(axis)
            axis.set_title(f"{name}: {panel.title}")
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
    return figure


def draw_curves(axis: Axes, view: SweepView) -> None:
    """Report scores by rows, a line for each way of tuning, and what single trials told of several sizes."""
    for (name, arms), colour in zip(by_way(view).items(), cycle(COLOURS), strict=False):
        places = [(arm, x) for rows, arm in arms.items() if (x := rows or every_row(view)) is not None]
        line(axis, [x for _, x in places], [arm for arm, _ in places], colour, name)
        for arm in arms.values():
            for split, style in STYLES.items():
                by_rows = within(view, arm, split)
                axis.plot(list(by_rows), list(by_rows.values()), color=colour, linestyle=style, marker=".")
    axis.set_xscale("log")
    name_axes(axis, "training rows", f"report {view.arms[0].metric}")


def draw_languages(axis: Axes, view: SweepView) -> None:
    """Every language's accuracy, a colour for each arm."""
    languages = languages_of(view)
    for (place, arm), colour in zip(enumerate(view.arms), cycle(COLOURS), strict=False):
        aside = 0.6 * ((place + 0.5) / len(view.arms) - 0.5)
        found = [arm.others[score_of(language)] for language in languages]
        bars(axis, [at + aside for at in range(len(languages))], found, colour, called(view, arm.arm))
    axis.set_xticks(range(len(languages)), languages)
    name_axes(axis, "language", "report accuracy")


def cost_drawer(view: SweepView, metric: str) -> Callable[[Axes], None]:
    """What draws scores over one measurement."""

    def drawn(axis: Axes) -> None:
        words, unit = COSTS[metric]
        for (name, arms), colour in zip(by_way(view).items(), cycle(COLOURS), strict=False):
            places = [(arm, x / unit) for arm in arms.values() if (x := view.measured(arm, metric)) is not None]
            line(axis, [x for _, x in places], [arm for arm, _ in places], colour, name)
        axis.set_xlim(left=0)
        name_axes(axis, words, f"report {view.arms[0].metric}")

    return drawn


def line(axis: Axes, xs: Sequence[float], found: Sequence[ArmResult], colour: Any, label: str) -> None:
    """Scores with their intervals, joined in the order of their rows."""
    if xs:
        axis.plot(xs, [one.mean for one in found], color=colour)
        bars(axis, xs, found, colour, label)


def bars(axis: Axes, xs: Sequence[float], found: Sequence[ArmResult | OtherScore], colour: Any, label: str) -> None:
    """Scores with their intervals."""
    apart = [[one.mean - one.low for one in found], [one.high - one.mean for one in found]]
    axis.errorbar(xs, [one.mean for one in found], apart, fmt="o", color=colour, label=label, **BAR)


def name_axes(axis: Axes, across: str, upwards: str) -> None:
    """What the axes are, and what the colours mean."""
    axis.set_xlabel(across)
    axis.set_ylabel(upwards)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False)
