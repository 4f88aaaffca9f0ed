"""The sides of `benchmarks.overhead`, each in a process of its own: run many trials of nothing, say how long it took.

Every side has four workers, one searched number, ASHA's rungs 1, 3 and 9, and nine reports for each trial.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import nothing
from benchmarks.measured import write_result

WORKERS = 4
Counts = dict[str, int]


def ours(folder: Path, trials: int, work: dict[str, Any]) -> Counts:
    """Ours under Ray Tune at a sweep file's defaults: warm processes, journal with its flushes, a checkpoint a step."""
    from benchmarks.sweeps import idle_sweep
    from raysweep.engine import cluster, tune
    from raysweep.journal import FILE, records

    tune.run(idle_sweep(folder, trials, work, WORKERS), folder)
    cluster.leave()
    found = records(folder / FILE)
    complete = sum(record.get("outcome") == "complete" for record in found)
    return {"complete": complete, "reports": sum(record["kind"] == "reported" for record in found)}


def ray_tune(folder: Path, trials: int, work: dict[str, Any], warm: bool = False) -> Counts:
    """Plain Ray Tune: a function, OptunaSearch and ASHAScheduler, all else as it comes; `warm` sets reuse_actors."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", num_cpus=WORKERS)
    config = tune.TuneConfig(
        metric="score",
        mode="max",
        num_samples=trials,
        search_alg=OptunaSearch(seed=0),
        scheduler=ASHAScheduler(max_t=nothing.STEPS, reduction_factor=3),
        reuse_actors=warm,
    )
    space = {"quality": tune.uniform(0, 1)}
    trainable = partial(_tune_trial, work=work)
    results = tune.Tuner(
        trainable, param_space=space, tune_config=config, run_config=tune.RunConfig(storage_path=str(folder))
    ).fit()
    ray.shutdown()
    reports = [result.metrics["training_iteration"] for result in results if result.metrics]
    return {"complete": sum(count == nothing.STEPS for count in reports), "reports": sum(reports)}


def _tune_trial(config: dict[str, Any], work: dict[str, Any]) -> None:
    from ray import tune

    for score in nothing.train(quality=config["quality"], **work):
        tune.report({"score": score})


def plain_optuna(folder: Path, trials: int, work: dict[str, Any]) -> Counts:
    """Plain Optuna: threads of one process, TPE, SuccessiveHalvingPruner and a study in memory."""
    import optuna

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0), pruner=pruner)

    def objective(trial: Any) -> float:
        score = 0.0
        for step, score in enumerate(nothing.train(quality=trial.suggest_float("quality", 0, 1), **work), 1):
            trial.report(score, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    study.optimize(objective, n_trials=trials, n_jobs=WORKERS)
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    return {"complete": len(complete), "reports": sum(len(trial.intermediate_values) for trial in study.trials)}


SIDES: dict[str, Callable[[Path, int, dict[str, Any]], Counts]] = {
    "raysweep": ours,
    "Ray Tune": ray_tune,
    "Ray Tune, reuse_actors": partial(ray_tune, warm=True),
    "Optuna": plain_optuna,
}


def main(folder: Path, side: str, trials: int, work: dict[str, Any]) -> None:
    marks = folder / "marks"
    counts = SIDES[side](folder, trials, {**work, "marks": str(marks)})
    expected = {"complete": trials, "reports": trials * nothing.STEPS}
    assert counts == expected, f"{side}: {counts}, not {expected}"
    write_result(folder, {"trials": nothing.span(marks)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
