"""Journals of sweeps with a proof, and how their results pages are read, for the tests of these pages."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.journal import FILE, records
from raysweep.predictions import save_predictions
from raysweep.proof import prove
from raysweep.spec import SweepSpec
from raysweep.trial import Evaluation, Scored
from tests import journals
from tests.journals import Event

Main = Callable[[Sequence[str]], None]

LABELS = np.tile([0.0, 1.0], 200)
SEED, SEEDS = 42, [101, 102, 103]
COMMAND = "raysweep run /home/a/dsn.yaml --set space.data.source=/home/a/sst2 --dir '/home/b'"
DONE: Event = ("ended", {"reason": "all trials are done", "complete": True})


def head(recipe: str, metric: str, **confirm: Any) -> Event:
    """The first record of a sweep of this recipe."""
    fields = {"name": "small", "recipe": recipe, "space": {}, "objectives": [{"metric": metric}], "seed": SEED}
    spec = SweepSpec.model_validate({**fields, "references": {"untrained": {"train.epochs": 0}}, "confirm": confirm})
    told = {"name": spec.name, "recipe": recipe, "spec": spec.model_dump(by_alias=True), "command": COMMAND}
    return "sweep", {**journals.head()[1], **told}


def trained(
    number: int,
    config: dict[str, Any],
    metric: str,
    values: dict[str, float],
    role: str = "search",
    arm: str | None = None,
    seed: int = 1,
    tried: float = 0.0,
) -> Iterator[Event]:
    """A trial of two epochs that ended with these values, and tried so many dendrites in the first."""
    trial, of = f"t{number:04d}", "t0000" if arm else None
    place = {"number": number, "role": role, "arm": arm, "of": of, "config": config, "params": {}, "seed": seed}
    yield "asked", {"trial": trial, **place}
    for step, dendrites in enumerate((tried, 0.0), 1):
        metrics = {**values, "epoch.dendrites": dendrites}
        yield "reported", {"trial": trial, "step": step, "metrics": metrics, "seconds": 900.0}
    finish = {"outcome": "complete", "step": 2, "value": values[metric], "values": metrics, "seconds": 1800.0}
    yield "finished", {"trial": trial, **finish}


def answers(wrong: int) -> np.ndarray:
    return np.where(np.arange(400) < wrong, 1 - LABELS, LABELS)


def evaluated(
    folder: Path, number: int, found: np.ndarray, others: dict[str, Scored], metrics: dict[str, float]
) -> Event:
    """What a trial predicted for the 400 examples, with its file."""
    trial = f"t{number:04d}"
    path = folder / "trials" / trial / "predictions.npz"
    path.parent.mkdir(parents=True)
    save_predictions(Evaluation({}, found, LABELS, "accuracy", others), path)
    told = {"metrics": metrics, "others": {name: other.statistic for name, other in others.items()}}
    place = {"predictions": str(path.relative_to(folder)), "statistic": "accuracy", "model": None, "card": {}}
    return "evaluated", {"trial": trial, **told, **place}


def prove_it(folder: Path) -> Path:
    """The engine's own verdict on what the folder holds so far, and the end."""
    found = records(folder / FILE)
    verdict = prove(found, SweepSpec.model_validate(found[0]["spec"]), folder)
    assert verdict is not None
    return journals.write(folder, [("confirmed", verdict), DONE])


def page_of(main: Main, folder: Path) -> str:
    out = folder / "page.md"
    main([str(folder), "--out", str(out), "--note", "half of the rows"])
    return out.read_text()


def cells(page: str, start: str, after: str) -> list[str]:
    """The cells of the first row that starts so, behind a heading; without the first cell."""
    row = next(line for line in page[page.index(after) :].splitlines() if line.startswith(f"| {start} |"))
    return row.strip("| ").split(" | ")[start.count("|") + 1 :]
