"""Trials under Ray Tune: its actors, placement and retries as they are; what to run, and how far, is the Sweep's.

Tune's own searchers and schedulers lose what happened (a stopped trial told as complete, rungs forgotten on
restore), so three thin adapters stand in their places and pass everything to one `Sweep` in the driver.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from raysweep.engine import cluster
from raysweep.engine.assign import assignment_for, forget_checkpoint
from raysweep.engine.worker import WarmTrainable
from raysweep.sweep import Sweep


class Driver:
    """What the adapters share: the sweep, its folder, and which Tune trial is which of ours."""

    def __init__(self, sweep: Sweep, folder: Path, at_once: int) -> None:
        self.sweep, self.folder, self.at_once = sweep, folder, at_once
        self._names: dict[str, str] = {}  # Tune's trial id -> ours
        self.error: Exception | None = None

    @contextlib.contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Keep what goes wrong in the driver, for Tune passes on only its text."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            raise

    def suggest(self, tune_id: str) -> Any:
        running = sum(trial.running and trial.outcome is None for trial in self.sweep.trials.values())
        if running >= self.at_once:
            return None
        trial = self.sweep.next()
        if isinstance(trial, str):
            return Searcher.FINISHED if trial == "over" else None
        self._names[tune_id] = trial.id
        return {"assignment": asdict(assignment_for(trial, self.sweep.spec, self.folder))}

    def receive(self, tune_id: str, result: dict[str, Any]) -> bool:
        name = self._names[tune_id]
        goes_on = self.sweep.receive(name, result["events"])
        forget_checkpoint(self.sweep.trials[name], self.folder)
        return goes_on

    def lost(self, trial: Any, again: bool) -> None:
        with self.noting_errors():
            self.sweep.lost(self._names[trial.trial_id], _cause(trial.error_file), again)


class SweepSearcher(Searcher):  # type: ignore[misc]
    """Asks the sweep; learns nothing here, for the sweep hears every report itself."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver

    def suggest(self, trial_id: str) -> Any:
        with self._driver.noting_errors():
            return self._driver.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: see the class."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the journal is the one truth."""


class SweepScheduler(FIFOScheduler):  # type: ignore[misc]
    """Passes each result on and obeys."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        with self._driver.noting_errors():
            goes_on = self._driver.receive(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if result.get("over"):  # a stopped trial's last result was received when it came
            with self._driver.noting_errors():
                self._driver.receive(trial.trial_id, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A process died; a recipe's own failures come back as results. Tune takes up again only what was running.

        A callback would hear it too, but with any callback Tune imports MLflow and W&B to count it: 0.9 s a sweep.
        """
        self._driver.lost(trial, again=trial.status != "PENDING" and trial.should_recover())


def run(sweep: Sweep, folder: Path) -> None:
    """Run the sweep's trials to the end, or until it halts. Raises UserError when no trial fits the machine."""
    cluster.join()
    driver = Driver(sweep, folder, cluster.capacity(sweep.spec.resources))
    storage = folder / "ray"
    try:
        _tune(driver, storage)
    except TuneError:
        # Tune wraps what our adapters raise (a full disk, mostly) in a traceback's text; the original is what helps.
        if driver.error is None:
            raise
        raise driver.error from None
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def _tune(driver: Driver, storage: Path) -> None:
    resources = driver.sweep.spec.resources
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(driver.at_once)  # else processes start one after the other
    tune.run(
        WarmTrainable,
        name="trials",
        storage_path=str(storage),
        search_alg=SweepSearcher(driver),
        scheduler=SweepScheduler(driver),
        num_samples=-1,  # the sweep says when it is over
        resources_per_trial={"cpu": resources.cpu, "gpu": resources.gpu},
        max_failures=driver.sweep.spec.failures.retries,
        reuse_actors=True,
        raise_on_failed_trial=False,
        verbose=0,
    )


def _cause(error_file: str | None) -> str:
    """What Tune wrote of the newest failure: the error's own line if there is one, else how it begins."""
    text = Path(error_file).read_text() if error_file else ""
    lines = [line.strip() for line in text.rpartition("Failure # ")[2].splitlines()[1:] if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Exit)\b.*:", line)]
    return (named or lines or ["the process ended"])[-1 if named else 0][:300]
