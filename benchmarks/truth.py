"""Whether a sweep remembers what happened: python -m benchmarks.truth [--note TEXT] [--out FILE]

27 trials under ASHA (nine steps, eta 3), plain Ray Tune and ours. Once undisturbed: what does Optuna hold of the trials
that ASHA stopped? Once killed in the middle with SIGKILL and taken up again: what is left of ASHA's rungs?
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measured import heading, last_output, result_of, run_side, start_side, table, write_page
from benchmarks.truth_sides import RUNGS, SIDES, TRIALS, Rungs

MODULE = "benchmarks.truth_sides"
KILL_AT = TRIALS // 2  # values at the first rung
SECONDS_TO_KILL = 300.0


@dataclass(frozen=True, slots=True)
class Restart:
    """ASHA's rungs in the killed process at the last, and in the next one at the first."""

    before: Rungs
    after: Rungs

    @property
    def kept(self) -> int:
        """How many of the values recorded before are there afterwards, at their rung."""
        return sum(
            (Counter(values) & Counter(self.after.get(rung, []))).total() for rung, values in self.before.items()
        )

    @property
    def recorded(self) -> int:
        """How many values were recorded before."""
        return sum(len(values) for values in self.before.values())


def restart(side: str) -> Restart:
    """Start a side, kill it in the middle, start it again on the same folder and let it end."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        first = start_side(MODULE, folder, side)
        deadline = time.monotonic() + SECONDS_TO_KILL
        while len(max(tables(folder).get(first.pid, {}).values(), key=len, default=[])) < KILL_AT:
            if first.poll() is not None or time.monotonic() > deadline:
                first.kill()
                raise SystemExit(f"{side} was to be killed in the middle:\n{last_output(folder)}")
            time.sleep(0.01)
        first.kill()
        first.wait()
        second = start_side(MODULE, folder, side)
        result_of(folder, second.wait())
        return Restart(tables(folder)[first.pid], tables(folder, first=True)[second.pid])


def tables(folder: Path, first: bool = False) -> dict[int, Rungs]:
    """The last, or the first, table that each process wrote; a torn last line is left out."""
    path = folder / RUNGS
    text = path.read_text() if path.exists() else ""
    tables: dict[int, Rungs] = {}
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            note = json.loads(line)
            rungs = {int(rung): values for rung, values in note["rungs"].items()}
            if not first or note["process"] not in tables:
                tables[note["process"]] = rungs
    return tables


def page(told: dict[str, dict[str, Any]], restarts: dict[str, Restart], top: str) -> list[str]:
    """The results page, in parts."""
    truth = [
        [side, result["trials"], result["stopped"], result["as complete"], result["as pruned"]]
        for side, result in told.items()
    ]
    memory = [
        [side, _counts(run.before), _counts(run.after), f"{run.kept} of {run.recorded}"]
        for side, run in restarts.items()
    ]
    return [
        top,
        "Ray Tune is plain: `OptunaSearch` and `ASHAScheduler`, with a snapshot every second instead of every ten. "
        "Which trials are stopped depends on the order in which reports arrive, so it differs from run to run.",
        "## What Optuna holds of the trials that ASHA stopped",
        table(["side", "trials", "stopped by ASHA", "held as COMPLETE", "held as PRUNED"], truth),
        f"## ASHA's rungs after SIGKILL, with {KILL_AT} trials judged at the first",
        table(["side", "values by rung before", "after the restart", "kept"], memory),
    ]


def _counts(rungs: Rungs) -> str:
    return ", ".join(f"rung {rung}: {len(values)}" for rung, values in sorted(rungs.items())) or "none"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--note", default="", help="a line for the page: what else ran meanwhile")
    parser.add_argument("--out", type=Path, help="write the page here too")
    options = parser.parse_args(arguments)
    top = heading("Truth: whether a sweep remembers what happened", options.note)
    told = {side: run_side(MODULE, side) for side in SIDES}
    restarts = {side: restart(side) for side in SIDES}
    write_page(page(told, restarts, top), options.out)


if __name__ == "__main__":
    main()
