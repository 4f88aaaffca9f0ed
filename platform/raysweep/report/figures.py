"""Figures of the search: curves with rungs, the way to the best value, and each setting by itself."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from raysweep.report.plot import COLOURS, GRID, Figure, canvas, dots, hover, scale_x
from raysweep.report.trial_view import TrialState, TrialView
from raysweep.report.view import SweepView
from raysweep.report.wording import setting

MOST_CURVES = 300  # more make the page slow and show nothing
MOST_SLICES = 24
DRAWN: tuple[TrialState, ...] = ("stopped", "complete", "failed", "infeasible", "interrupted", "running")


def curves(view: SweepView) -> Figure | None:
    """Every search trial's primary metric by step, its end, and what each rung did; the proof's curves on request."""
    trials = shown_curves(view)
    if not trials:
        return None
    figure, best = canvas("step", view.metric, height=440), view.best
    for state in DRAWN:
        group = [trial for trial in trials if trial.state == state and trial is not best]
        _add_lines(figure, view, group, state, COLOURS[state], opacity=0.6 if state == "stopped" else 1)
    if best:
        _add_lines(figure, view, [best], f"best: {best.id}", COLOURS["best"], width=3)
    for role in ("finalist", "reference"):
        group = [trial for trial in view.confirming if trial.role == role]
        _add_lines(figure, view, group, f"{role}s of the proof", COLOURS[role], dash="dot", visible="legendonly")
    _add_ends(figure, view, [trial for trial in trials if trial.state == "stopped"])
    _add_rungs(figure, view)
    return figure


def shown_curves(view: SweepView) -> list[TrialView]:
    """The search trials whose curves are drawn: all that reported, or the first of a long sweep and the best."""
    trials = [trial for trial in view.search if trial.series(view.metric)]
    return [trial for place, trial in enumerate(trials) if place < MOST_CURVES or trial is view.best]


def history(view: SweepView) -> Figure | None:
    """The last value of each search trial by its number, and the best complete one so far."""
    valued = [trial for trial in view.search if trial.score is not None]
    if not valued:
        return None
    figure = canvas("search trial", view.metric)
    for state in DRAWN:
        group = [trial for trial in valued if trial.state == state]
        if group:
            figure.add_trace(dots(view, group, [trial.number for trial in group], state, hollow=state != "complete"))
    numbers, best = _best_so_far(view)
    line = {"shape": "hv", "color": COLOURS["best"], "width": 2.5}
    figure.add_trace(go.Scatter(x=numbers, y=best, mode="lines", line=line, name="best so far", hoverinfo="skip"))
    return figure


def slices(view: SweepView) -> list[tuple[str, Figure]]:
    """For each setting that differs in the search: the value against it, over those trials in which it is active."""
    differ = [path for path in view.varying if len({repr(trial.config.get(path)) for trial in view.search}) > 1]
    drawn = [(path, _slice(view, path)) for path in differ[:MOST_SLICES]]
    return [(path, figure) for path, figure in drawn if figure is not None]


def _add_lines(
    figure: Figure, view: SweepView, trials: Sequence[TrialView], name: str, colour: str, **look: Any
) -> None:
    """Many curves as one trace, with gaps between them: hundreds of traces would make the page slow."""
    points: list[tuple[int | None, float | None, str]] = []
    for trial in trials:
        text = hover(trial, view)
        points += [(step, value, text) for step, value in trial.series(view.metric)]
        points.append((None, None, text))
    if not points:
        return
    x, y, texts = zip(*points, strict=True)
    line = {"color": colour, "width": look.pop("width", 1.6), "dash": look.pop("dash", "solid")}
    style = {"mode": "lines+markers", "marker": {"size": 4, "color": colour}, "line": line, "name": name, **look}
    template = "%{text}<br>step %{x}: <b>%{y:.4g}</b><extra></extra>"
    figure.add_trace(go.Scatter(x=x, y=y, text=texts, hovertemplate=template, **style))


def _add_ends(figure: Figure, view: SweepView, trials: Sequence[TrialView]) -> None:
    ends = [trial.series(view.metric)[-1] for trial in trials]
    if ends:
        x, y = zip(*ends, strict=True)
        marker = {"symbol": "x-thin", "size": 8, "line": {"width": 1.8, "color": COLOURS["stopped"]}}
        figure.add_trace(go.Scatter(x=x, y=y, mode="markers", marker=marker, name="stopped here", hoverinfo="skip"))


def _add_rungs(figure: Figure, view: SweepView) -> None:
    for rung in view.rungs:
        figure.add_vline(rung.step, line={"color": GRID, "dash": "dot", "width": 2})
        note = {"text": f"{rung.went_on} of {rung.arrived} go on", "showarrow": False, "font": {"size": 11}}
        figure.add_annotation(x=rung.step, y=1, yref="paper", yanchor="bottom", **note)


def _best_so_far(view: SweepView) -> tuple[list[int], list[float]]:
    """Numbers of the complete trials with the best score up to each, drawn on to the last trial."""
    better: Callable[[list[float]], float] = max if view.maximize else min
    best: dict[int, float] = {}
    for trial in view.search:
        if trial.state == "complete" and trial.score is not None:
            best[trial.number] = better([trial.score, *list(best.values())[-1:]])
    if best:
        best[view.search[-1].number] = list(best.values())[-1]
    return list(best), list(best.values())


def _slice(view: SweepView, path: str) -> Figure | None:
    active = [trial for trial in view.search if path in trial.config and trial.score is not None]
    if not active:
        return None
    values = {trial.id: trial.config[path] for trial in active}
    numeric = {type(value) for value in values.values()} <= {int, float}
    asked = sum(path in trial.config for trial in view.search)
    note = "" if asked == len(view.search) else f"active in {asked} of {len(view.search)} trials"
    figure = canvas(note, view.metric, height=250)
    for name in ("stopped", "complete"):
        group = [trial for trial in active if (trial.state == "complete") == (name == "complete")]
        x = [values[trial.id] if numeric else html.escape(setting(values[trial.id])) for trial in group]
        figure.add_trace(dots(view, group, x, name, hollow=name == "stopped"))
    figure.update_layout(showlegend=False, margin_t=10)
    if numeric:
        scale_x(figure, list(values.values()))
    else:
        figure.update_xaxes(type="category", categoryorder="category ascending")
    return figure
