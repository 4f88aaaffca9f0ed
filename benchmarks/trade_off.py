"""A picture of quality against size and latency: a colour for each method, a marker for each share that is pruned."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from benchmarks.methods import DENSE, by_method, chance, dense_of, percent, sparsity, whole_units
from benchmarks.results_page import SweepRun
from raysweep.evidence import ArmResult
from raysweep.report.view import SweepView

PANELS = {  # the metric, what the axis says, and what a unit of it is
    "size.file_bytes": ("weight file, MB", 1e6),
    "latency.ratio": ("time for one text, times the dense model's", 1.0),
    "latency.ratio16": ("time for 16 texts, times the dense model's", 1.0),
}
ROWS = {False: "single weights set to zero", True: "heads and neurons removed"}  # whether units go
WIDTH, HEIGHT = 5.5, 5.2  # of a panel, in inches
COLOURS = [*mpl.color_sequences["tab20"][::2], *mpl.color_sequences["tab20"][1::2]]
NOT_PRUNED, MARKERS = "*", "osD^vP<>X"
LOOK: dict[Any, Any] = {
    "svg.hashsalt": "sparse_bert",  # the same figures are the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "0.92",
    "lines.linewidth": 1,
}
BAR: dict[str, Any] = {"elinewidth": 0.8, "capsize": 2, "markersize": 5, "alpha": 0.85}
Methods = dict[str, dict[float, ArmResult]]


def picture(runs: Sequence[SweepRun], page: Path) -> list[str]:
    """Draw what has been proven beside the page; the lines that show it there, if there is anything to draw."""
    views = [run.view for run in runs if panels_of(run.view)]
    if not views:
        return []
    path = written(page, lambda: draw(views), LOOK)
    words = (
        "Bars are the scores' intervals, the dashed line is the dense model's mean, dotted lines are random choices."
    )
    return [f"![Quality against size and latency]({path.name})", words]


def written(page: Path, drawing: Callable[[], Figure], look: Mapping[Any, Any]) -> Path:
    """Write a picture beside its page, whole; the same figures give the same file."""
    path, fresh = page.with_suffix(".svg"), page.with_suffix(".writing.svg")
    page.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(dict(look)):
        drawing().savefig(fresh, metadata={"Date": None})
    os.replace(fresh, path)
    return path


def panels_of(view: SweepView) -> list[str]:
    """The metrics that this sweep's proof has figures of."""
    return [metric for metric in PANELS if any(view.measured(arm, metric) is not None for arm in view.arms)]


def rows_of(view: SweepView) -> dict[str, Methods]:
    """The methods by what they prune, each row with the models of which nothing is pruned."""
    found: dict[str, Methods] = {}
    for units, words in ROWS.items():
        chosen = {
            name: {share: arm for share, arm in arms.items() if share == DENSE or whole_units(arm) == units}
            for name, arms in by_method(view).items()
        }
        if any(share != DENSE for arms in chosen.values() for share in arms):
            found[words] = {name: arms for name, arms in chosen.items() if arms}
    return found or {"nothing pruned": by_method(view)}


def draw(views: Sequence[SweepView]) -> Figure:
    """Rows of panels for each sweep."""
    rows = [(view, words, methods) for view in views for words, methods in rows_of(view).items()]
    columns = max(len(panels_of(view)) for view in views)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * len(rows)), layout="constrained")
    for place, (view, words, methods) in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        place.suptitle(f"{view.header['name']}: {words}")
        draw_row(place, view, methods, columns)
    return figure


def draw_row(place: SubFigure, view: SweepView, methods: Methods, columns: int) -> None:
    """The panels of some methods, and below them what colours and markers mean."""
    axes = place.subplots(1, columns, sharey=True, squeeze=False)[0]
    colours, markers = dict(zip(methods, cycle(COLOURS), strict=False)), markers_of(methods)
    for axis, metric in zip(axes, panels_of(view), strict=False):
        draw_panel(axis, view, metric, methods, colours, markers)
    for axis in axes[len(panels_of(view)) :]:
        axis.set_axis_off()
    axes[0].set_ylabel(f"report {view.arms[0].metric}")
    place.legend(handles=list(marks(methods, colours, markers)), loc="outside lower center", ncols=8, frameon=False)


def markers_of(methods: Methods) -> dict[float, str]:
    """A marker for each share."""
    shares = sorted({share for arms in methods.values() for share in arms} - {DENSE})
    return {DENSE: NOT_PRUNED, **dict(zip(shares, cycle(MARKERS), strict=False))}


def marks(methods: Methods, colours: Mapping[str, Any], markers: Mapping[float, str]) -> Iterator[Line2D]:
    """What the legend shows: lines in the methods' colours, then the shares' markers."""
    for name, arms in methods.items():
        yield Line2D([], [], color=colours[name], linewidth=2, linestyle=line_of(arms), label=name)
    for share, marker in markers.items():
        label = "nothing pruned" if share == DENSE else percent(share)
        yield Line2D([], [], color="0.3", marker=marker, linestyle="none", label=label)


def line_of(arms: Mapping[float, ArmResult]) -> Literal[":", "-"]:
    return ":" if any(chance(arm) for arm in arms.values()) else "-"


def draw_panel(
    axis: Axes,
    view: SweepView,
    metric: str,
    methods: Methods,
    colours: Mapping[str, Any],
    markers: Mapping[float, str],
) -> None:
    """Scores with their intervals over one measurement, those of one method joined in the order of their shares."""
    words, unit = PANELS[metric]
    dense = dense_of(view)
    if dense is not None:
        axis.axhline(dense.mean, color="0.4", linewidth=0.8, linestyle="--", zorder=1)
    for name, arms in methods.items():
        places = [(arm, x / unit) for arm in arms.values() if (x := view.measured(arm, metric)) is not None]
        axis.plot(
            [x for _, x in places],
            [arm.mean for arm, _ in places],
            color=colours[name],
            linestyle=line_of(arms),
            label=name,
        )
        for arm, x in places:
            apart = [[arm.mean - arm.low], [arm.high - arm.mean]]
            axis.errorbar([x], [arm.mean], apart, fmt=markers[sparsity(arm.config)], color=colours[name], **BAR)
    axis.set_xlim(left=0)
    axis.set_xlabel(words)
