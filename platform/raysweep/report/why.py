"""`raysweep why`: one trial's whole story."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raysweep.journal import Record
from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.report.terminal import STYLES, grid, table
from raysweep.report.trial_view import TrialView
from raysweep.report.view import SweepView
from raysweep.report.wording import duration, measurement, number, place, plural, setting

BESIDE = 3  # metrics whose names stand side by side on 80 columns


def explain(view: SweepView, trial_id: str) -> RenderableType:
    """A trial's settings, steps, rung decisions and failures, and why it ended. Raises UserError if unknown."""
    if trial_id not in view.trials:
        raise UserError([Problem(f"unknown trial '{trial_id}'", hint=did_you_mean(trial_id, list(view.trials)))])
    trial = view.trials[trial_id]
    title = Text(f"{trial.id}: {place(trial, view)}, ").append(trial.state, style=STYLES.get(trial.state, ""))
    return Group(
        title,
        "",
        outcome(trial, view),
        *_repeats(trial),
        "",
        _settings(trial, view),
        *_steps(trial, view),
        *_mishaps(trial),
    )


def outcome(trial: TrialView, view: SweepView) -> Text:
    """Why a trial stands or ended as it does, in a sentence."""
    reached = f"step {trial.step} of {view.spec.scheduler.max}"
    match trial.state:
        case "complete":
            return Text(
                f"It was trained to its last step and scored {number(trial.value)} {view.metric}{_rank(trial, view)}."
            )
        case "stopped":
            return Text(_stopped(trial, view))
        case "failed" | "infeasible":
            return Text(f"It was given up at {reached} after {plural(trial.attempt, 'attempt')}: {trial.ending}")
        case "running":
            return Text(f"It is running: attempt {trial.attempt}, {reached}.")
        case "interrupted":
            return Text(f"The sweep was interrupted while it was at {reached}; it goes on when the sweep is resumed.")
    return Text("It was asked for and has not started.")


def _stopped(trial: TrialView, view: SweepView) -> str:
    stops = [decision for decision in trial.decisions.values() if decision["action"] == "stop"]
    if not stops:
        return f"It was stopped at step {trial.step}; no rung decided so."
    decision = stops[-1]
    needed, value = decision["cutoff"], trial.curve.get(decision["step"], {}).get(view.metric)
    told = f"It was stopped at step {decision['step']}: {decision['reason']}."
    if needed is None or value is None:
        return told
    bound = "at least" if view.maximize else "at most"
    away = f"{abs(needed - value):.2g} away"
    return f"{told} It had {number(value)} {view.metric} and needed {bound} {number(needed)}: {away}."


def _ranked(decision: Record) -> str:
    return f"rank {decision['rank']} of {decision['of']}"


def _rank(trial: TrialView, view: SweepView) -> str:
    """Its place among the complete search trials."""
    scores = [other.score for other in view.search if other.state == "complete" and other.score is not None]
    if trial.role != "search" or trial.score is None:
        return ""
    better = sum(score > trial.score if view.maximize else score < trial.score for score in scores)
    return f", rank {better + 1} of {len(scores)} complete trials"


def _repeats(trial: TrialView) -> list[RenderableType]:
    return [Text(f"It repeats the settings of {trial.of} with seed {trial.seed}.")] if trial.of else []


def _settings(trial: TrialView, view: SweepView) -> Table:
    """Settings that differ between trials first and in bold."""
    rows = grid()
    for path in sorted(trial.config, key=lambda path: path not in view.varying):
        rows.add_row(Text(path), Text(setting(trial.config[path]), style="bold" if path in view.varying else "dim"))
    return rows


def _steps(trial: TrialView, view: SweepView) -> list[RenderableType]:
    if not trial.curve:
        return ["", Text("It has reported nothing.")]
    changing, constant = _metrics(trial, view.metric)
    beside = changing if len(changing) <= BESIDE else []
    rows = table("step", view.metric, *beside, "time")
    rows.add_column("rung", no_wrap=True)
    for step in sorted(trial.curve):
        values = [number(trial.curve[step].get(name)) for name in (view.metric, *beside)]
        rows.add_row(str(step), *values, duration(trial.pace[step]), Text(_decision(trial.decisions.get(step))))
    rest = changing[len(beside) :]
    further = [_further(trial, rest[start : start + BESIDE]) for start in range(0, len(rest), BESIDE)]
    alike = ", ".join(f"{name} {measurement(name, trial.last.get(name))}" for name in constant)
    return ["", rows, *further, *([Text(f"in all steps: {alike}", style="dim")] if alike else [])]


def _further(trial: TrialView, names: list[str]) -> Table:
    """Metrics for which the first table has no room."""
    rows = table("step", *names)
    for step in sorted(trial.curve):
        rows.add_row(str(step), *(number(trial.curve[step].get(name)) for name in names))
    return rows


def _metrics(trial: TrialView, primary: str) -> tuple[list[str], list[str]]:
    """The other metrics' names: those that change from step to step, and those that do not."""
    names = sorted({name for metrics in trial.curve.values() for name in metrics} - {primary})
    changing = [name for name in names if len({metrics.get(name) for metrics in trial.curve.values()}) > 1]
    return changing, [name for name in names if name not in changing]


def _decision(decision: Record | None) -> str:
    if decision is None:
        return ""
    needed = f", needed {number(decision['cutoff'])}" if decision["cutoff"] is not None else ""
    return f"rung {decision['rung']}: {_ranked(decision)}{needed}: {decision['action']}"


def _mishaps(trial: TrialView) -> list[RenderableType]:
    lines = [
        Text(f"attempt {failure['attempt']} failed ({failure['cause']}): {failure['error']}; ").append(
            "tried again" if failure["again"] else "given up", style="yellow" if failure["again"] else "red"
        )
        for failure in trial.failures
    ]
    lines += [Text(f"adapted: {made['reason']}; batches in {made['accumulate']} parts") for made in trial.adaptations]
    return ["", *lines] if lines else []
