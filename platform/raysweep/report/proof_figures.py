"""Figures of what was found: finalists and references, and quality against what it costs."""

import html
from typing import Any

import plotly.graph_objects as go

from raysweep.evidence import ArmResult, pareto_front
from raysweep.report.plot import COLOURS, Figure, canvas, dots, scale_x
from raysweep.report.trial_view import TrialView
from raysweep.report.view import SweepView
from raysweep.report.wording import arm_name, costs, measurement, number

MOST_COSTS = 2


def arms(view: SweepView) -> Figure | None:
    """Each finalist and reference on the report split: its mean with the interval, and every seed."""
    if not view.arms:
        return None
    figure = canvas(f"{view.arms[0].metric} on the report split", "", height=110 + 46 * len(view.arms))
    for arm in reversed(view.arms):  # the first arm on top
        name, colour = html.escape(arm_name(arm.arm, view)), COLOURS[arm.role]
        texts = [f"seed {seed}: {number(score)}" for seed, score in zip(arm.seeds, arm.per_seed, strict=False)]
        marker = {"color": colour, "size": 8, "opacity": 0.45}
        seeds = {"mode": "markers", "marker": marker, "text": texts, "hoverinfo": "text"}
        figure.add_trace(go.Scatter(x=[arm.mean], y=[name], error_x=_whiskers(arm), hoverinfo="x", **_diamond(arm)))
        figure.add_trace(go.Scatter(x=arm.per_seed, y=[name] * len(arm.per_seed), **seeds))
    figure.update_layout(showlegend=False, margin_t=10)
    return figure


def tradeoffs(view: SweepView) -> list[tuple[str, Figure]]:
    """Quality against every other objective, and against measured costs that differ between models, sizes first."""
    names = {name for trial in view.trials.values() for name in trial.measured}
    others = [objective.metric for objective in view.spec.objectives if objective.metric != view.metric]
    ranked = sorted(
        set(costs(names)) - {*others, view.metric}, key=lambda name: ("bytes" not in name, "param" not in name, name)
    )
    drawn = [(name, _tradeoff(view, name)) for name in [*others, *ranked]]
    return [(name, figure) for name, figure in drawn if figure is not None][: max(MOST_COSTS, len(others))]


def _with(view: SweepView, metric: str) -> list[TrialView]:
    complete = [trial for trial in view.search if trial.state == "complete" and trial.score is not None]
    return [trial for trial in complete if metric in trial.measured]


def _tradeoff(view: SweepView, cost: str) -> Figure | None:
    trials = _with(view, cost)
    x = [trial.measured[cost] for trial in trials]
    known = [(arm, at) for arm in view.arms if (at := view.measured(arm, cost)) is not None]
    if len({*x, *(at for _, at in known)}) < 2:
        return None
    figure = canvas(cost, view.metric)
    figure.add_trace(dots(view, trials, x, "complete"))
    _add_front(figure, view, trials, cost)
    for arm, at in known:
        name = html.escape(arm_name(arm.arm, view))
        text = f"{name}: {number(arm.mean)} at {measurement(cost, at)}"
        words = {"name": f"{name}, report split", "hovertext": text, "hoverinfo": "text"}
        figure.add_trace(go.Scatter(x=[at], y=[arm.mean], error_y=_whiskers(arm), **words, **_diamond(arm)))
    scale_x(figure, x + [at for _, at in known])
    return figure


def _add_front(figure: Figure, view: SweepView, trials: list[TrialView], cost: str) -> None:
    """The trials that no other beats in both; what is no objective is to be small."""
    points = [(trial.measured[cost], trial.score or 0.0) for trial in trials]
    goals = {objective.metric: objective.goal for objective in view.spec.objectives}
    front = sorted(points[index] for index in pareto_front(points, (goals.get(cost, "minimize"), goals[view.metric])))
    line = {"color": COLOURS["complete"], "dash": "dot", "width": 1.5}
    x, y = [at for at, _ in front], [score for _, score in front]
    figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, name="beaten by none", hoverinfo="skip"))


def _whiskers(arm: ArmResult) -> dict[str, Any]:
    sides = {"array": [arm.high - arm.mean], "arrayminus": [arm.mean - arm.low]}
    return {"type": "data", "symmetric": False, "thickness": 2, "width": 6, "color": COLOURS[arm.role], **sides}


def _diamond(arm: ArmResult) -> dict[str, Any]:
    return {"mode": "markers", "marker": {"color": COLOURS[arm.role], "size": 12, "symbol": "diamond"}}
