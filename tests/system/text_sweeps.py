"""Small sweeps of text models: killed and taken up again, and what the model answers that they register."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, answer, kill, run, start, wait_for

from raysweep.journal import FILE, Record, records
from raysweep.predictions import load_predictions
from trainables.parts.task_data import TaskDataSettings, read_examples

STRANGE = ("Warning", "WARNING", "Traceback", "Downloading", "torch.onnx", "site-packages")
LOAD = """
import json, sys, mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(f"models:/{sys.argv[2]}@champion")
rows = json.load(open(sys.argv[3]))
pairs = isinstance(rows[0], list)
texts = pandas.DataFrame(rows, columns=["text", "text_pair"] if pairs else ["text"])
print(json.dumps(model.predict(texts).tolist()))
"""


def command(space: str, folder: Path, settings: Sequence[str]) -> list[object]:
    """What runs a search space with these settings."""
    given = [part for setting in settings for part in ("--set", setting)]
    return [ROOT / "search_spaces" / space, "--dir", folder, *given]


def killed_and_resumed(space: str, folder: Path, settings: Sequence[str], elsewhere: Path | None = None) -> str:
    """Run a sweep in `folder`, kill it after its second report, and take it up again: what it printed then.

    It is begun beside `folder`, and taken up there or `elsewhere`.
    """
    first = start("run", *command(space, folder, settings), cwd=folder.parent)

    def reported(found: list[Record]) -> bool:
        return sum(record["kind"] == "reported" for record in found) == 2

    wait_for(folder, reported, first)
    kill(first.pid, signal.SIGKILL)
    first.communicate()
    code, output = run("resume", folder, cwd=elsewhere or folder.parent, timeout=280)
    assert code == 0, output
    return output


def found_in(folder: Path, kind: str) -> list[Record]:
    return [record for record in records(folder / FILE) if record["kind"] == kind]


def assert_went_on(folder: Path, trials: Sequence[str], epochs: int) -> None:
    """Every epoch of these trials was reported once, some trial began with a checkpoint, and the sweep has ended."""
    for trial in trials:
        steps = [record["step"] for record in found_in(folder, "reported") if record["trial"] == trial]
        assert steps == list(range(1, epochs + 1))
    assert max(record["step"] for record in found_in(folder, "started")) >= 1
    last = records(folder / FILE)[-1]
    assert (last["kind"], last["complete"]) == ("ended", True)


def champion_of(folder: Path) -> Record:
    """What was told of the registered trial when its report split was opened."""
    (confirmed,) = found_in(folder, "confirmed")
    (found,) = (one for one in found_in(folder, "evaluated") if one["trial"] == confirmed["champion"])
    return found


def assert_answers_as_it_did(folder: Path, model: str, task: str, place: Path) -> None:
    """The registered model, in a process of its own, chooses the labels of the report split that were recorded."""
    found, examples = champion_of(folder), read_examples(TaskDataSettings(task=task), "report")
    stored = load_predictions(folder / found["predictions"], found["statistic"], found["others"])
    (place / "texts.json").write_text(json.dumps(examples.texts))
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    chances = np.array(json.loads(answer(LOAD, uri, model, place / "texts.json", cwd=folder.parent)))
    assert chances.shape == (len(examples), len(found["card"]["labels"]))
    assert chances.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (chances.argmax(axis=1) == stored.predictions).all()
    assert (stored.targets == examples.targets).all()
