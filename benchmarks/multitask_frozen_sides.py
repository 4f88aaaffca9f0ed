"""The sides of `benchmarks.multitask_frozen`, each in a process of its own: train a trial, say how long epochs took."""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.measured import ROOT, write_result
from raysweep.recipe import configure, find
from raysweep.trial import Trial
from raysweep.yaml_file import read_yaml
from trainables import multitask

SWEEP = ROOT / "search_spaces" / "multitask_freezing.yaml"
UNFROZEN, MAKING, FROZEN = "unfrozen", "frozen, nothing stored yet", "frozen, states stored"
SIDES = (UNFROZEN, MAKING, FROZEN)  # the last finds what the one before it has left in the shared folder


def settings_of(options: dict[str, Any], side: str) -> dict[str, Any]:
    """What all variants of the sweep file have in common, on the data and rows that are asked for."""
    space = read_yaml(SWEEP).data["space"]
    tasks = {"topic": options["topic"], "sentiment": options["sentiment"]}
    rows = {"train_rows": options["rows"], "select_share": options["select_share"]}
    return {
        **{path: value for path, value in space.items() if not isinstance(value, dict) and "probe" not in path},
        **{f"tasks.{name}.data.source": source for name, source in tasks.items()},
        **{f"tasks.{name}.data.{setting}": value for name in tasks for setting, value in rows.items()},
        "encoder.name": options["encoder"],
        "freezing.kind": "none" if side == UNFROZEN else "backbone",
        "train.epochs": options["epochs"] if side == UNFROZEN else options["frozen_epochs"],
    }


def main() -> None:
    folder, side, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    config, shared = configure(find("multitask"), settings_of(options, side)), Path(options["shared"])
    found = set(shared.glob("*.npy"))
    begun, passed = time.perf_counter(), [0.0]
    for report in multitask.train(Trial("t0000", config, options["seed"], folder, shared, threads=options["threads"])):
        passed.append(report.metrics["time.train_seconds"])  # the recipe's own clock: each epoch with its scoring
    whole = time.perf_counter() - begun
    epochs = [after - before for before, after in pairwise(passed)]
    made = set(shared.glob("*.npy")) - found
    assert bool(made) == (side == MAKING), (
        f"{side}: {len(found)} files of states before, and {len(made)} more behind it"
    )
    write_result(folder, {"epochs": epochs, "whole": whole, "bytes": sum(path.stat().st_size for path in made)})


if __name__ == "__main__":
    main()
