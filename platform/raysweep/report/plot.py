"""What the figures share. Plain SVG traces only: WebGL ones compile code at run time, which the page forbids."""

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from raysweep.report.trial_view import TrialView
from raysweep.report.view import SweepView
from raysweep.report.wording import setting

Figure = Any  # plotly ships no types
# Readable on white and on dark, and told apart by people who do not see red and green apart.
COLOURS = {
    "best": "#E69F00",
    "complete": "#3B8BD4",
    "stopped": "#98A2B3",
    "failed": "#D1495B",
    "infeasible": "#D1495B",
    "running": "#1FA37A",
    "interrupted": "#B08968",
    "waiting": "#98A2B3",
    "finalist": "#E69F00",
    "reference": "#8E6BBF",
}
GRID = "rgba(128,128,128,0.22)"
LOG_FROM = 50.0  # a ratio of largest to smallest from which a logarithmic axis reads better


def canvas(x: str, y: str, height: int = 340) -> Figure:
    """An empty figure that takes its background from the page; the page sets the colour of its text."""
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "linecolor": GRID}
    layout = {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "height": height,
        "margin": {"l": 10, "r": 16, "t": 34, "b": 10},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "legend": {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
        "xaxis": {**axis, "title": {"text": html.escape(x), "standoff": 8}},
        "yaxis": {**axis, "title": {"text": html.escape(y), "standoff": 8}},
        "hovermode": "closest",
    }
    return go.Figure(layout=layout)


def dots(view: SweepView, trials: Sequence[TrialView], x: Sequence[Any], name: str, hollow: bool = False) -> Figure:
    """One dot a trial at its last value of the primary metric."""
    marker = {"color": COLOURS[name], "size": 9, "symbol": "circle-open" if hollow else "circle", "opacity": 0.85}
    text = [hover(trial, view) for trial in trials]
    template = "%{text}<br><b>%{y:.4g}</b><extra></extra>"
    y = [trial.score for trial in trials]
    return go.Scatter(x=x, y=y, text=text, mode="markers", marker=marker, name=name, hovertemplate=template)


def hover(trial: TrialView, view: SweepView) -> str:
    """What a trial's dot says: its settings that differ between trials."""
    chosen = [f"{path}: {setting(trial.config[path])}" for path in view.varying if path in trial.config]
    return "<br>".join(html.escape(line) for line in [f"{trial.id}, {trial.state}", *chosen[:16]])


def scale_x(figure: Figure, values: Sequence[float]) -> None:
    """A logarithmic axis where values span magnitudes."""
    if min(values) > 0 and max(values) / min(values) >= LOG_FROM:
        figure.update_xaxes(type="log", dtick=1, exponentformat="e")
