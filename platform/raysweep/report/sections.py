"""The report's sections about what happened: the proof, the search, every trial and every failure."""

from raysweep.report import figures, proof_figures
from raysweep.report.blocks import note, plot, section
from raysweep.report.markup import Child, Markup, tag
from raysweep.report.tables import (
    arms_table,
    comparisons_table,
    failures_table,
    others_table,
    rungs_table,
    trials_table,
)
from raysweep.report.view import SweepView
from raysweep.report.wording import plural, unproven_values

UNCOMPARED = "The winner was compared with nothing: the sweep file names no references."


def proof(view: SweepView) -> Markup:
    """Finalists and references on fresh seeds and the report split, and whether they can be told apart."""
    if not view.arms:
        return section("proof", tag("p", _unproven(view)))
    method = (
        "Each arm was trained again on the same fresh seeds, without early stopping, and measured on the report split, "
        f"which the search never saw (opened for {plural(len(view.opened), 'trial')}). "
        f"Intervals are at {100 * (1 - view.spec.confirm.alpha):g} %."
    )
    found = comparisons_table(view) if view.comparisons else tag("p", UNCOMPARED)
    figure = plot("arms", proof_figures.arms(view), "Diamonds are means with their intervals, faint dots single seeds.")
    compared = [tag("h3", "Comparisons"), found, *_error_note(view)]
    missing = [note(sentence) for sentence in unproven_values(view)]
    return section("proof", note(method), figure, arms_table(view), *missing, *compared, *_others(view))


def search(view: SweepView) -> Markup:
    """How the search went: curves and rungs, values by trial, each setting, and quality against cost."""
    if not view.search:
        return section("search", tag("p", "No trial was asked for yet."))
    drawn = plot("curves", figures.curves(view), _curves_note(view)) or tag("p", "No trial has reported yet.")
    parts: list[Child] = [tag("h3", "Curves and rungs"), drawn, _rungs(view)]
    if (history := plot("history", figures.history(view))) is not None:
        parts += [tag("h3", "Values by trial"), history]
    return section("search", *parts, *_settings(view), *_costs(view))


def trials(view: SweepView) -> Markup | None:
    """Every trial."""
    if not view.trials:
        return None
    text = "Click on a column's head to sort. Settings that are alike in all trials are in the sweep file below."
    return section("trials", note(text), trials_table(view))


def failures(view: SweepView) -> Markup:
    """Every failure, or that there was none."""
    failed = any(trial.failures for trial in view.trials.values())
    return section("failures", failures_table(view) if failed else tag("p", "No attempt failed."))


def _unproven(view: SweepView) -> str:
    if view.spec.confirm.top == 0:
        return "The sweep file asks for no proof (confirm.top is 0), so nothing here is confirmed."
    if view.confirming:
        return f"Not measured yet: {sum(t.over for t in view.confirming)} of the proof's trainings are over."
    return "There were no finalists." if view.ended else "There are no finalists yet."


def _error_note(view: SweepView) -> list[Child]:
    text = (
        "The remaining error is what a score lacks to the best there is; at -10 % the winner lacks a tenth less than "
        "the other arm. It is not defined where the other arm may lack nothing at all."
    )
    return [note(text)] if any(row.error_reduction for row in view.comparisons) else []


def _others(view: SweepView) -> list[Child]:
    text = "Measured on the same trained models. They are for information and decide nothing."
    return [tag("h3", "Further scores"), note(text), others_table(view)] if view.others else []


def _curves_note(view: SweepView) -> str:
    shown, reported = len(figures.shown_curves(view)), sum(bool(trial.curve) for trial in view.search)
    left = f"{shown} of {reported} curves are drawn. " if shown < reported else ""
    return f"{left}Dotted lines are rungs; a cross is where a trial was stopped. Click on the legend to show or hide."


def _rungs(view: SweepView) -> Markup:
    return rungs_table(view) if view.rungs else note("No rung has decided anything.")


def _settings(view: SweepView) -> list[Child]:
    found = enumerate(figures.slices(view))
    drawn = [tag("div", tag("h3", path), plot(f"slice-{place}", figure)) for place, (path, figure) in found]
    if not drawn:
        return []
    text = "Filled dots are complete trials; hollow ones are not, so their values are of fewer steps."
    return [tag("h3", "Settings"), note(text), tag("div", *drawn, class_="slices")]


def _costs(view: SweepView) -> list[Child]:
    drawn = [plot(f"cost-{place}", figure) for place, (_, figure) in enumerate(proof_figures.tradeoffs(view))]
    text = "Dots are search trials on the select split; diamonds are arms of the proof on the report split."
    said = note(text if drawn else "Not measured, or the same for all models.")
    return [tag("h3", "Quality against cost"), said, *drawn]
