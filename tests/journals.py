"""Journals for tests, written with the Journal class: a whole small sweep, in all the ways a trial can end."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysweep.journal import FILE, Journal
from raysweep.spec import SweepSpec

Event = tuple[str, dict[str, Any]]
STEPS = 4


def spec(name: str = "tiny", tracking: dict[str, Any] | None = None) -> dict[str, Any]:
    """A sweep file's content as the journal's first record has it."""
    return SweepSpec.model_validate(
        {
            "name": name,
            "description": "What a small sweep looks like.",
            "recipe": "toy",
            "space": {"lr": {"loguniform": [1e-5, 1e-2]}, "layers": {"choice": [1, 2]}, "note": "plain"},
            "objectives": [{"metric": "spearman"}],
            "references": {"plain": {"layers": 1}},
            "confirm": {"top": 1, "seeds": [101, 102]},
            "tracking": tracking or {},
        }
    ).model_dump(by_alias=True)


def head(name: str = "tiny", tracking: dict[str, Any] | None = None) -> Event:
    data = {
        "name": "toy pairs",
        "source": "made by the test",
        "synthetic": True,
        "rows": {"train": 80, "select": 20, "report": 20},
        "hashes": {"train": "a" * 64, "select": "b" * 64, "report": "c" * 64},
    }
    machine = {"cpu": "a processor", "cores": 2, "memory": 4 * 2**30, "gpu": None, "python": "3.11", "torch": "2.13.0"}
    origin = {"machine": machine, "commit": "0123abcd", "command": "raysweep run tiny.yaml"}
    return "sweep", {
        "version": "sweep/v1",
        "name": name,
        "recipe": "toy",
        "spec": spec(name, tracking),
        "data": data,
        **origin,
    }


def curve(number: int, step: int) -> dict[str, float]:
    """Metrics of trial `number` after `step`; one of them is not a number at first."""
    loss = math.nan if step == 1 else 1.0 / (step + number)
    return {"spearman": 0.5 + 0.01 * number + 0.05 * step, "loss": loss, "parameters": 1000.0 + number}


def trial(number: int, outcome: str = "complete", role: str = "search", arm: str | None = None) -> Iterator[Event]:
    """All events of one trial."""
    name = f"t{number:04d}"
    config = {"lr": 1e-3 / (number + 1), "layers": 1 + number % 2, "note": "plain"}
    origin = {"role": role, "arm": arm, "of": "t0000" if arm else None}
    yield "asked", {"trial": name, "number": number, **origin, "config": config, "params": {}, "seed": 7 + number}
    if outcome == "infeasible":
        yield "finished", _finish(name, outcome, 0, {})
        return
    yield "started", {"trial": name, "attempt": 1, "process": 4000 + number, "node": "here", "step": 0}
    steps = {"complete": STEPS, "stopped": 2, "failed": 1}[outcome]
    for step in range(1, steps + 1):
        yield "reported", {"trial": name, "step": step, "metrics": curve(number, step), "seconds": 0.25}
        yield "saved", {"trial": name, "step": step}
    if outcome == "stopped":
        because = {"reason": "rank 3 of 3 at rung 0", "rung": 0, "rank": 3, "of": 3, "cutoff": 0.6}
        yield "decided", {"trial": name, "step": steps, "action": "stop", **because}
    if outcome == "failed":
        yield "failed", {"trial": name, "attempt": 1, "cause": "exception", "error": "ValueError: no", "again": False}
    yield "finished", _finish(name, outcome, steps, curve(number, steps))


def _finish(name: str, outcome: str, step: int, values: dict[str, float]) -> dict[str, Any]:
    value = values.get("spearman")
    return {"trial": name, "outcome": outcome, "step": step, "value": value, "values": values, "seconds": 0.25 * step}


def proof(first: int) -> Iterator[Event]:
    """The confirm phase: two seeds of the finalist, two of the reference."""
    for number, arm in enumerate(["finalist-1", "finalist-1", "plain", "plain"], first):
        name, role = f"t{number:04d}", "finalist" if arm == "finalist-1" else "reference"
        yield from trial(number, "complete", role, arm)
        yield "opened", {"trial": name, "split": "report"}
        yield (
            "evaluated",
            {
                "trial": name,
                "metrics": {"spearman": 0.7 + 0.01 * number},
                "predictions": f"trials/{name}/predictions.npz",
                "statistic": "spearman",
                "model": f"trials/{name}/model",
                "card": {"parameters": 1200, "bytes": 4800, "sentence_transformer": False},
            },
        )
    yield "confirmed", confirmed(first)


def confirmed(first: int) -> dict[str, Any]:
    def arm(name: str, role: str, numbers: list[int], mean: float) -> dict[str, Any]:
        place = {"arm": name, "role": role, "of": "t0000", "config": {"layers": 1}, "seeds": [101, 102]}
        scores = {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "per_seed": [mean, mean]}
        trials = [f"t{number:04d}" for number in numbers]
        return {**place, **scores, "metric": "spearman", "trials": trials, "select_per_seed": [0.8, 0.8]}

    arms = [arm("finalist-1", "finalist", [first, first + 1], 0.76), arm("plain", "reference", [first + 2], 0.70)]
    figures = {"difference": 0.06, "low": 0.01, "high": 0.11, "p": 0.01, "p_holm": 0.01}
    comparisons = [{"arm": "finalist-1", "against": "plain", **figures, "verdict": "better"}]
    chosen = {"winner": "finalist-1", "champion": f"t{first:04d}", "optimism": 0.01}
    return {"arms": arms, "comparisons": comparisons, **chosen}


def sweep(name: str = "tiny", trials: int = 8, tracking: dict[str, Any] | None = None) -> list[Event]:
    """All events of a sweep that went well: complete, stopped, failed, infeasible trials, proof, registered model."""
    outcomes = ["complete", "stopped", "complete", "failed", "infeasible", "complete", "stopped", "complete"]
    search = [event for number in range(trials) for event in trial(number, outcomes[number % len(outcomes)])]
    model = {"model": name, "version": "1", "alias": "champion", "uri": f"models:/{name}/1", "model_id": "m-1"}
    registered = ("registered", {**model, "verified": 0.0, "run_id": "none"})
    ended = ("ended", {"reason": "all trials are done", "complete": True})
    return [head(name, tracking), *search, *proof(trials), registered, ended]


def write(directory: Path, events: list[Event]) -> Path:
    """Append these events to the folder's journal."""
    directory.mkdir(parents=True, exist_ok=True)
    journal = Journal(directory / FILE)
    for kind, fields in events:
        journal.append(kind, **fields)  # type: ignore[arg-type]
    journal.close()
    (directory / "sweep.yaml").write_text("schema: sweep/v1\nname: tiny\n")
    (directory / "report.html").write_text("<html>the report</html>")
    return directory
