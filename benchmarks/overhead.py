"""What a platform adds to a trial: python -m benchmarks.overhead [--repeats 3] [--note TEXT] [--out FILE]

Three loads, four sides, each run in a fresh process, the sides in turns. "Trials" is the time from the first trial's
first moment to the last one's last report; "process" is all, from the interpreter's start to its exit.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measured import Row, heading, run_side, table, write_page
from benchmarks.nothing import STEPS
from benchmarks.overhead_sides import SIDES, WORKERS

OURS, PEER = "raysweep", "Ray Tune"
MOST_OF_IDEAL, LEAST_FASTER = 1.15, 3.0  # the targets
Runs = dict[str, list[dict[str, float]]]  # by side, one for each repeat: seconds of `trials` and `process`


@dataclass(frozen=True, slots=True)
class Load:
    """So many trials, and what each does."""

    title: str
    trials: int
    work: dict[str, Any] = field(default_factory=dict)

    @property
    def ideal(self) -> float:
        """Seconds that the trials sleep, spread over the workers."""
        return float(self.trials * STEPS * self.work.get("seconds", 0.0) / WORKERS)


LOADS = {
    "nothing": Load("200 trials of nothing", 200),
    "second": Load("40 trials of 1 second", 40, {"seconds": 1 / STEPS}),
    "imports": Load("24 trials that import torch and transformers", 24, {"imports": True}),
}
SETTINGS = f"""\
Every side: {WORKERS} workers, {STEPS} reports a trial, one searched number, TPE, successive halving with rungs at 1, 3
and 9. All trials score alike, so no side stops any, and all have the same work. Each run ends with a check that every
trial gave all its reports.

- raysweep: its Ray Tune engine at the defaults of a sweep file: the journal with its flushes to disk, a checkpoint
  after every step, processes kept warm between trials. No trackers, no report.
- Ray Tune: `Tuner` with a function, `OptunaSearch()` and `ASHAScheduler(max_t=9, reduction_factor=3)`, else its
  defaults: a fresh process for each trial, its own loggers, no checkpoints.
- Ray Tune, reuse_actors: the same with `TuneConfig(reuse_actors=True)`.
- Optuna: `study.optimize(n_jobs={WORKERS})` with `SuccessiveHalvingPruner` and a study in memory: threads of one
  process, with nothing on disk and no isolation between trials; a lower bound."""


def measure(load: Load, repeats: int) -> Runs:
    """Seconds of all runs of all sides, taken in turns."""
    runs: Runs = {side: [] for side in SIDES}
    for _ in range(repeats):
        for side in SIDES:
            run = run_side("benchmarks.overhead_sides", side, str(load.trials), json.dumps(load.work))
            runs[side].append({key: run[key] for key in ("trials", "process")})
            print(f"{load.title}, {side}: {run['trials']:.2f} s, process {run['process']:.2f} s", file=sys.stderr)
    return runs


def ratio(runs: Runs, side: str, to: str, key: str) -> float:
    """The median over repeats of one side's seconds over another's in the same repeat."""
    return median(one[key] / other[key] for one, other in zip(runs[side], runs[to], strict=True))


def rows(load: Load, runs: Runs) -> list[Row]:
    """A line for each side."""
    lines: list[Row] = []
    for side, measured in runs.items():
        trials, process = ([run[key] for run in measured] for key in ("trials", "process"))
        share = median(trials) / load.ideal if load.ideal else "-"
        times = [median(trials), share, ratio(runs, side, PEER, "trials"), median(process)]
        lines.append([side, *times, ratio(runs, side, PEER, "process"), trials, process])
    return lines


def verdicts(measured: dict[str, Runs]) -> list[str]:
    """Whether the targets are met, for the loads that were run."""
    lines = []
    if runs := measured.get("second"):
        share = median(run["trials"] for run in runs[OURS]) / LOADS["second"].ideal
        text = f"{LOADS['second'].title}: {share:.2f} x ideal; at most {MOST_OF_IDEAL} wanted"
        lines.append(_verdict(text, share <= MOST_OF_IDEAL))
    if runs := measured.get("imports"):
        faster = 1 / ratio(runs, OURS, PEER, "trials")
        text = f"{LOADS['imports'].title}: {faster:.1f} x as fast as {PEER}; at least {LEAST_FASTER:.0f} x wanted"
        lines.append(_verdict(text, faster >= LEAST_FASTER))
    return lines


def _verdict(text: str, met: bool) -> str:
    return f"- {text}: {'met' if met else '**missed**'}"


def page(measured: dict[str, Runs], top: str) -> list[str]:
    """The results page, in parts."""
    head = ["side", "trials s", "x ideal", f"x {PEER}", "process s", f"x {PEER}", "trials s, all", "process s, all"]
    parts = [top, SETTINGS, "\n".join(verdicts(measured))]
    for name, runs in measured.items():
        load = LOADS[name]
        ideal = f" (ideal: {load.ideal:.1f} s)" if load.ideal else ""
        parts += [f"## {load.title}{ideal}", table(head, rows(load, runs))]
    return [part for part in parts if part]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side; medians are of these")
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS), help="which loads to run")
    parser.add_argument("--note", default="", help="a line for the page: what else ran meanwhile")
    parser.add_argument("--out", type=Path, help="write the page here too")
    options = parser.parse_args(arguments)
    top = heading("Overhead: what the platform adds to a trial", options.note)
    measured = {name: measure(LOADS[name], options.repeats) for name in options.loads}
    write_page(page(measured, top), options.out)


if __name__ == "__main__":
    main()
