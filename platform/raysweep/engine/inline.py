"""Trials one after another in this process, without Ray: for tests, and for a debugger inside a recipe."""

from pathlib import Path

from raysweep.engine.assign import assignment_for, forget_checkpoint
from raysweep.engine.isolated import runner_for
from raysweep.sweep import Sweep, TrialState


def run(sweep: Sweep, folder: Path) -> None:
    """Run the sweep's trials to the end, or until it halts."""
    while isinstance(trial := sweep.next(), TrialState):
        _train(trial, sweep, folder)


def _train(trial: TrialState, sweep: Sweep, folder: Path) -> None:
    assignment = assignment_for(trial, sweep.spec, folder)
    runner = runner_for(assignment)
    runner.begin(assignment)
    while sweep.receive(trial.id, runner.step().events):
        pass
    runner.close()
    forget_checkpoint(trial, folder)
