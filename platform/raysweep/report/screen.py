"""The live display: what the sweep has found so far, what runs now, and how long it will take."""

from statistics import fmean

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raysweep.report.terminal import STYLES, best, counts, rungs
from raysweep.report.trial_view import TrialView
from raysweep.report.view import SweepView
from raysweep.report.wording import duration, number, settings

FAILURES = 2  # last failures that are shown
RECENT = 5  # trials that are over and still shown, if there is room


def screen(view: SweepView, height: int, now: float) -> RenderableType:
    """All of it, in at most `height` lines. `now` is unix seconds."""
    head = [*_head(view, now), Text("")]
    failures = _failures(view)
    room = max(1, height - len(head) - len(failures) - 2)  # the table's head, and the line with the cursor
    return Group(*head, _trials(view, room, now), *failures)


def left(view: SweepView) -> float | None:
    """Seconds until the sweep is over, from what trials took and how many run at once; None until that is known."""
    over = [trial.seconds for trial in view.search if trial.over]
    complete = [trial.seconds for trial in view.trials.values() if trial.state == "complete"]
    proof = view.proof_trials - sum(trial.over for trial in view.confirming)
    worked = sum(trial.seconds for trial in view.trials.values())
    if not over or worked == 0 or view.elapsed == 0 or (proof and not complete):
        return None
    at_once = worked / view.elapsed  # seconds of training for each second of the clock
    begun = sum(trial.seconds for trial in view.running)
    if view.confirming:
        return max(0.0, proof * fmean(complete) - begun) / at_once
    search = max(0.0, (view.spec.budget.trials - len(over)) * fmean(over) - begun) / at_once
    return _within_wall(view, search, fmean(over)) + (proof * fmean(complete) / at_once if proof else 0.0)


def _within_wall(view: SweepView, search: float, mean: float) -> float:
    """The search's seconds under its time limit, after which the trials that run still end."""
    limit = view.spec.budget.wall_minutes
    return search if limit is None else min(search, max(0.0, 60 * limit - view.elapsed) + mean)


def _head(view: SweepView, now: float) -> list[RenderableType]:
    if not view.begun:
        return [_one_line(Text("the sweep has not begun"))]
    title = Text(f"{view.spec.name} ", style="bold").append(
        f"recipe {view.spec.recipe}, {view.phase}", style="not bold dim"
    )
    warning = [_one_line(Text("SYNTHETIC DATA: the scores say nothing about a real task", style="bold yellow"))]
    lines = [_one_line(title), *(warning if view.synthetic else []), _bar(view), _one_line(_times(view, now))]
    lines.append(_one_line(Text("best   ", style="dim").append(best(view))))
    if reached := rungs(view):
        lines.append(_one_line(Text("rungs  ", style="dim").append(reached, style="not dim")))
    return lines


def _bar(view: SweepView) -> RenderableType:
    """How much of the phase is over, in trials."""
    group = view.confirming if view.phase == "confirm" else view.search
    total = view.proof_trials if view.phase == "confirm" else view.spec.budget.trials
    over = sum(trial.over for trial in group)
    words = Text(f"proof: {over} of {total} trainings over") if view.phase == "confirm" else counts(view)
    row = Table.grid(padding=(0, 1))
    row.add_column(no_wrap=True)
    row.add_column(no_wrap=True, overflow="ellipsis")
    row.add_row(ProgressBar(total=max(total, 1), completed=over, width=24), words)
    return row


def _times(view: SweepView, now: float) -> Text:
    since = max(0.0, now - view.sessions[-1][1]) if view.sessions else 0.0
    remaining = left(view)
    words = "estimating the time left" if remaining is None else f"about {duration(max(0.0, remaining - since))} left"
    return Text("time   ", style="dim").append(f"{duration(view.elapsed + since)}, {words}", style="not dim")


def _trials(view: SweepView, room: int, now: float) -> RenderableType:
    """What runs, then what was over last, as far as there is room; only the settings are cut to the width."""
    heads = ["trial", "step", view.metric, "state", "settings"]
    rows = [_row(view, trial, now) for trial in _shown(view, room)]
    table = Table(box=None, header_style="dim", pad_edge=False, expand=True)
    for head, *cells in zip(heads[:-1], *[row[:-1] for row in rows], strict=True):
        table.add_column(Text(head), no_wrap=True, width=max([len(head), *(cell.cell_len for cell in cells)]))
    table.add_column(heads[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(*row)
    hidden = len(view.running) - len([trial for trial in _shown(view, room) if trial.state == "running"])
    return Group(table, _one_line(Text(f"{hidden} more running", style="dim"))) if hidden else table


def _shown(view: SweepView, room: int) -> list[TrialView]:
    """One line is kept for telling how many more run."""
    running = view.running
    if len(running) > room:
        return running[: room - 1]
    over = [trial for trial in reversed(view.trials.values()) if trial.over]
    return [*running, *over[:RECENT]][:room]


def _row(view: SweepView, trial: TrialView, now: float) -> list[Text]:
    which = settings(trial, view) if trial.role == "search" else f"{trial.arm}, seed {trial.seed}"
    state = f"running {duration(max(0.0, now - trial.began))}" if trial.state == "running" else trial.state
    value = Text("" if trial.value is None else number(trial.value), style="bold" if trial is view.best else "")
    step = f"{trial.step}/{view.spec.scheduler.max}"
    style = "" if trial.state == "running" else "dim"
    return [
        Text(trial.id, style),
        Text(step, style),
        value,
        Text(state, STYLES.get(trial.state, "dim")),
        Text(which, style),
    ]


def _failures(view: SweepView) -> list[RenderableType]:
    found = [(record["time"], trial, record) for trial in view.trials.values() for record in trial.failures]
    last = sorted(found, key=lambda entry: entry[0])[-FAILURES:]
    after = {True: "tried again", False: "given up"}
    return [
        _one_line(Text(f"{trial.id} {record['cause']}, {after[record['again']]}: {record['error']}", style="red"))
        for _, trial, record in last
    ]


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
