"""The machine or cluster that trials run on: joined or started, asked what fits at once, and left quickly."""

import logging
import os
import threading
import warnings
from typing import Any

import ray

from raysweep.interrupt import keeping_handlers
from raysweep.problems import UserError
from raysweep.spec import ResourceSpec

SECONDS_TO_LEAVE = 1.5  # Ray's own shutdown takes 1.3 s; after an interrupt the whole way out has 3 s

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a folder that a sweep file names without / is where the command is, in trials too
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # they import TensorBoard and cost half of a short trial's overhead
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours ends at once: the journal needs no last snapshot
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),  # nor any other
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def join() -> None:
    """Join the cluster that RAY_ADDRESS names, else start one on this machine. Ray's own output is kept back."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="ray")
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address := os.environ.get("RAY_ADDRESS"):
        settings["address"] = address
    else:  # "auto" would attach to any cluster that happens to run here
        cores = len(os.sched_getaffinity(0))
        settings |= {"address": "local", "num_cpus": cores, "include_dashboard": False}
    with keeping_handlers():
        ray.init(**settings)


def capacity(wanted: ResourceSpec) -> int:
    """How many trials of this size run at once. Raises UserError when not even one fits."""
    have = ray.cluster_resources()
    fits = {"CPU": have.get("CPU", 0) // wanted.cpu}
    if wanted.gpu:
        fits["GPU"] = have.get("GPU", 0) // wanted.gpu
    scarce = min(fits, key=lambda name: fits[name])
    if fits[scarce] < 1:
        asked = getattr(wanted, scarce.lower())
        raise UserError(f"a trial asks for {asked:g} {scarce}, but there are {have.get(scarce, 0):g}: see 'resources'")
    return int(min(fits[scarce], wanted.max_parallel or fits[scarce]))


def leave() -> None:
    """Leave the cluster, at once where Ray does not let go by itself; what was started here ends with this process."""
    leaving = threading.Thread(target=ray.shutdown, daemon=True)
    leaving.start()
    leaving.join(SECONDS_TO_LEAVE)
