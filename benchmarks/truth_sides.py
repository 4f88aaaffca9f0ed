"""The sides of `benchmarks.truth`, each in a process of its own: 27 trials under ASHA, begun or taken up again.

Whenever something happened, the table of ASHA's rungs that this process holds is appended to folder/rungs.jsonl. At
the end, the folder's result says what Optuna holds of the trials that ASHA stopped.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measured import write_result
from benchmarks.nothing import STEPS, train

TRIALS, WORKERS, SECONDS = 27, 4, 0.1  # seconds of a step: long enough to be killed in the middle
RUNGS = "rungs.jsonl"
Rungs = dict[int, list[float]]  # the values recorded at each rung


def ours(folder: Path) -> dict[str, int]:
    """The engine on a journal, new or left behind by a killed process; Optuna's study is the sweep's own."""
    from benchmarks.sweeps import idle_sweep
    from raysweep.engine import cluster, tune
    from raysweep.journal import FILE

    again = (folder / FILE).exists()
    work = {"marks": str(folder / "marks"), "seconds": SECONDS, "flat": False}
    sweep = idle_sweep(folder, TRIALS, work, WORKERS, lambda record: note())

    def note() -> None:
        recorded: dict[tuple[int, int], list[float]] = sweep._scheduler._values  # type: ignore[attr-defined]
        _note(folder, {rung: list(values) for (_, rung), values in recorded.items()})

    note()
    if again:
        sweep.resume()
    tune.run(sweep, folder)
    cluster.leave()
    stopped = {trial.number for trial in sweep.trials.values() if trial.outcome == "stopped"}
    return _told(sweep._search._study, lambda trial: trial.number in stopped)


def ray_tune(folder: Path) -> dict[str, int]:
    """Plain Ray Tune with OptunaSearch and ASHAScheduler, or `Tuner.restore` where a killed process left off.

    Its snapshots are taken every second (10 s is its default), so that little is lost with the process.
    """
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1"
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", num_cpus=WORKERS)
    trainable, stored = partial(_tune_trial, marks=str(folder / "marks")), folder / "ray"
    searcher = OptunaSearch(seed=0)
    if stored.exists():
        tuner = tune.Tuner.restore(str(stored), trainable)
    else:
        scheduler = _watched_asha()(max_t=STEPS, reduction_factor=3)
        scheduler.folder = folder
        config = tune.TuneConfig(
            metric="score", mode="max", num_samples=TRIALS, search_alg=searcher, scheduler=scheduler
        )
        run = tune.RunConfig(name="ray", storage_path=str(folder))
        tuner = tune.Tuner(trainable, param_space={"quality": tune.uniform(0, 1)}, tune_config=config, run_config=run)
    results = [result.metrics for result in tuner.fit()]
    ray.shutdown()
    stopped = {metrics["config"]["quality"] for metrics in results if metrics["training_iteration"] < STEPS}
    study = searcher._ot_study
    return _told(study, lambda trial: trial.params["quality"] in stopped) if study else {}


def _watched_asha() -> type:
    """Ray's ASHAScheduler, which also writes down its rungs when a trial is added and when one has reported."""
    from ray.tune.schedulers import ASHAScheduler

    class Watched(ASHAScheduler):  # type: ignore[misc]
        folder: Path

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            super().on_trial_add(tune_controller, trial)
            self._note()

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            action = super().on_trial_result(tune_controller, trial, result)
            self._note()
            return str(action)

        def _note(self) -> None:
            # its table has a rung at max_t too, where nothing is left to decide
            rungs = {int(rung): list(recorded.values()) for rung, recorded in self._brackets[0]._rungs if rung < STEPS}
            _note(self.folder, rungs)

    return Watched


def _tune_trial(config: dict[str, Any], marks: str) -> None:
    from ray import tune

    for score in train(marks, config["quality"], SECONDS, flat=False):
        tune.report({"score": score})


def _told(study: Any, stopped: Callable[[Any], bool]) -> dict[str, int]:
    states = [trial.state.name for trial in study.trials if stopped(trial)]
    return {
        "trials": len(study.trials),
        "stopped": len(states),
        "as complete": states.count("COMPLETE"),
        "as pruned": states.count("PRUNED"),
    }


def _note(folder: Path, rungs: Rungs) -> None:
    with (folder / RUNGS).open("a") as file:
        file.write(json.dumps({"process": os.getpid(), "rungs": rungs}) + "\n")


SIDES = {"raysweep": ours, "Ray Tune": ray_tune}

if __name__ == "__main__":
    write_result(Path(sys.argv[1]), SIDES[sys.argv[2]](Path(sys.argv[1])))
