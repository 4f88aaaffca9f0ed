"""How a sweep stands and how it ended, for a terminal."""

from pathlib import Path
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from raysweep.report.view import SweepView
from raysweep.report.wording import (
    arm_name,
    duration,
    findings,
    headline,
    interval,
    measurement,
    number,
    place,
    score_name,
    settings,
    sittings,
    size,
    unproven_values,
    verdict,
)

STYLES = {"complete": "green", "failed": "red", "infeasible": "red", "running": "cyan", "interrupted": "yellow"}


def status(view: SweepView, unshipped: int | None = None) -> RenderableType:
    """Where a sweep stands; `unshipped` is how many bytes of the journal the trackers have not yet taken."""
    if not view.begun:
        return Text(headline(view))
    rows = grid()
    rows.add_row("sweep", Text(f"{view.spec.name}, recipe {view.spec.recipe}", style="bold"))
    rows.add_row("state", _state(view))
    rows.add_row("trials", counts(view))
    rows.add_row("best", best(view))
    rows.add_row("rungs", rungs(view) or "none has decided anything")
    rows.add_row("time", f"{duration(view.elapsed)}, {sittings(view)}")
    if unshipped is not None:
        rows.add_row("trackers", "have everything" if unshipped == 0 else f"{size(unshipped)} behind the journal")
    parts = [rows, *_running(view), *arms(view), *_model(view)]
    return Group(*warnings(view), *parts)


def print_summary(console: Console, view: SweepView, report: Path) -> None:
    """What a sweep found, when it is over; the report's path is the last line, whole, by itself."""
    found: list[RenderableType] = [Text(findings(view)[0] + ".", style="bold"), *arms(view), *_model(view)]
    searched = Text("search trials: ").append(counts(view))
    console.print(Group("", *warnings(view), *found, searched, ""))
    console.print(str(report), markup=False, highlight=False, soft_wrap=True)


def counts(view: SweepView) -> Text:
    """Search trials by outcome, of the budget."""
    text = Text(f"{len(view.search)} of {view.spec.budget.trials}")
    for state, count in view.counts().items():
        text.append(", ").append(f"{count} {state}", style=STYLES.get(state, ""))
    return text


def best(view: SweepView) -> Text:
    """The best complete trial; before there is one, the trial that leads."""
    trial = view.best or view.leading
    if trial is None:
        return Text("none yet")
    words = f"{number(trial.value)} {view.metric} ({trial.id}: {settings(trial, view)})"
    return Text(words if view.best else f"none complete; {words} leads after step {trial.step}")


def rungs(view: SweepView) -> str:
    """Each rung as `step 3: 9 of 27`."""
    return "   ".join(f"step {rung.step}: {rung.went_on} of {rung.arrived} went on" for rung in view.rungs)


def table(*heads: str) -> Table:
    """A table without lines. Heads are taken literally: in a plain string rich would read `[...]` as its own markup."""
    rows = Table(box=None, header_style="dim")
    for head in heads:
        rows.add_column(Text(head))
    return rows


def grid() -> Table:
    """Two columns: a dim name, and what is said of it."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    return rows


def warnings(view: SweepView) -> list[RenderableType]:
    """What must not be overlooked."""
    if not view.synthetic:
        return []
    return [Text("SYNTHETIC DATA: scores show that the sweep works, nothing about a real task", style="bold yellow")]


def arms(view: SweepView) -> list[RenderableType]:
    """Finalists and references, then what was told apart, then what else was measured."""
    if not view.arms:
        return []
    rows = table("arm", f"{view.arms[0].metric} on report", "on select", "seeds")
    for arm in view.arms:
        name = Text(arm_name(arm.arm, view), style="bold green" if arm == view.winner else "")
        score = interval(arm.mean, arm.low, arm.high)
        rows.add_row(name, Text(score), number(fmean(arm.select_per_seed)), ", ".join(map(str, arm.seeds)))
    lines = [
        Text(f"{arm_name(row.arm, view)} {verdict(row, view)} (p {number(row.p_holm)}, Holm)")
        for row in view.comparisons
    ]
    if view.confirmed:
        lines.append(Text(f"optimism gap {view.confirmed.optimism:+.3g}: search score minus fresh seeds' mean"))
    return ["", rows, *map(Text, unproven_values(view)), *lines, *_others(view)]


def _others(view: SweepView) -> list[RenderableType]:
    """Further scores, which decide nothing."""
    if not view.others:
        return []
    rows = table("further score", "arm", "on report")
    for name, statistic in view.others.items():
        for arm in view.arms:
            score = arm.others[name]
            words = (score_name(name, statistic), arm_name(arm.arm, view), interval(score.mean, score.low, score.high))
            rows.add_row(*map(Text, words))
    return ["", rows]


def _state(view: SweepView) -> Text:
    if view.ended:
        return Text(f"ended: {view.ended['reason']}")
    words = {
        "running": f"running, {view.phase}",
        "interrupted": f"interrupted in its {view.phase} phase; it can be resumed",
    }
    return Text(words[view.state], style=STYLES[view.state])


def _running(view: SweepView) -> list[RenderableType]:
    if not view.running:
        return []
    rows = table("trial", "", "step", view.metric, "settings")
    for trial in view.running:
        step = f"{trial.step}/{view.spec.scheduler.max}"
        words = (trial.id, place(trial, view), step, number(trial.value), settings(trial, view))
        rows.add_row(*(Text(word) for word in words))
    return ["", rows]


def _model(view: SweepView) -> list[RenderableType]:
    if not view.registered:
        return [Text("no model is registered")] if view.ended else []
    record = view.registered
    off = measurement("", record["verified"])
    return [Text(f"model {record['model']} version {record['version']} @{record['alias']}, loads back within {off}")]
