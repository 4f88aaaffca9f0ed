"""From a trial of the sweep to what its process needs, and what remains of it when it is over."""

from pathlib import Path

from raysweep.engine import checkpoint
from raysweep.engine.runner import Assignment
from raysweep.spec import SweepSpec
from raysweep.sweep import TrialState


def assignment_for(trial: TrialState, spec: SweepSpec, folder: Path) -> Assignment:
    """What the process that trains this trial needs. Finalists and references train to the end and are proven."""
    return Assignment(
        trial=trial.id,
        recipe=spec.recipe,
        config=trial.config,
        seed=trial.seed,
        sweep_folder=str(folder),
        steps=spec.scheduler.max,
        every=spec.checkpoints.every,
        threads=spec.resources.cpu,
        gpu=spec.resources.gpu,
        device="cuda" if spec.resources.gpu else "cpu",
        prove=trial.role != "search",
    )


def forget_checkpoint(trial: TrialState, folder: Path) -> None:
    """Free the disk of a trial that is over; a winner is trained again on fresh seeds, so none is needed any more."""
    if trial.outcome is not None:
        (folder / "trials" / trial.id / checkpoint.FILE).unlink(missing_ok=True)
