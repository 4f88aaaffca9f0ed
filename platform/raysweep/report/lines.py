"""A journal record as one plain line, for logs; None for records that matter to nobody while the sweep runs."""

from raysweep.journal import Record
from raysweep.report.trial_view import TrialView
from raysweep.report.view import SweepView
from raysweep.report.wording import findings, number, plural, settings


def line(view: SweepView, record: Record) -> str | None:
    """What to say of a record that `view` has just taken in."""
    trial = view.trials.get(record.get("trial", ""))
    return _of_sweep(view, record) if trial is None else _of_trial(view, trial, record)


def _of_sweep(view: SweepView, record: Record) -> str | None:
    match record["kind"]:
        case "sweep":
            made_up = " on SYNTHETIC DATA" if view.synthetic else ""
            trials = plural(view.spec.budget.trials, "trial")
            return f"sweep {view.spec.name}: recipe {view.spec.recipe}, {trials}{made_up}"
        case "resumed":
            unfinished = sum(not trial.over for trial in view.trials.values())
            return f"resumed: {plural(len(view.trials) - unfinished, 'trial')} over, {unfinished} to take up again"
        case "confirmed":
            return findings(view)[0] + "."
        case "registered":
            return f"registered {record['model']} version {record['version']} as @{record['alias']}"
        case "ended":
            return f"ended: {record['reason']}"
    return None


def _of_trial(view: SweepView, trial: TrialView, record: Record) -> str | None:
    match record["kind"]:
        case "started":
            return _started(view, trial)
        case "decided":
            rank = f"rank {record['rank']} of {record['of']}"
            return f"{trial.id} at rung {record['rung']}: {rank}, {record['action']}"
        case "failed":
            after = "tried again" if record["again"] else "given up"
            cause, error = record["cause"], trial.failures[-1]["error"]
            return f"{trial.id} attempt {record['attempt']} failed ({cause}), {after}: {error}"
        case "adapted":
            return f"{trial.id} adapted, batches in {record['accumulate']} parts: {record['reason']}"
        case "finished":
            return _finished(view, trial)
        case "evaluated":
            return f"{trial.id} on the report split: " + ", ".join(
                f"{k} {number(v)}" for k, v in record["metrics"].items()
            )
    return None


def _started(view: SweepView, trial: TrialView) -> str:
    """In the search the settings say which trial it is; in the proof the arm and seed do."""
    which = settings(trial, view) if trial.role == "search" else f"{trial.arm} seed {trial.seed}"
    again = f", attempt {trial.attempt} from step {trial.restored}" if trial.attempt > 1 else ""
    return f"{trial.id} started{again}: {which}"


def _finished(view: SweepView, trial: TrialView) -> str:
    value = "" if trial.value is None else f", {view.metric} {number(trial.value)}"
    searching = trial.role == "search"
    group, total = (view.search, view.spec.budget.trials) if searching else (view.confirming, view.proof_trials)
    over = f"{sum(other.over for other in group)} of {total}"
    best = f", best {number(view.best.value)} {view.best.id}" if view.best and searching else ""
    return f"{trial.id} {trial.state} at step {trial.step}{value} ({over} over{best})"
