"""A small sweep of DendriticBERT on pairs of texts, killed once, to a registered model that says which label fits."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, answer, kill, run, start, wait_for

from raysweep.journal import FILE, Record, records
from raysweep.predictions import load_predictions
from trainables.parts.task_data import TaskDataSettings, read_examples
from trainables.parts.tasks import TASKS

LOAD = """
import json, sys, mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/dsn-sst2@champion")
texts = pandas.DataFrame(json.load(open(sys.argv[2])), columns=["text", "text_pair"])
print(json.dumps(model.predict(texts).tolist()))
"""
SETTINGS = [
    "space.data.task=mnli",
    "space.data.source=synthetic",
    "space.data.train_rows=400",
    "space.encoder.name=embedded",
    "space.encoder.layers=1",
    "space.model.pooling=mean+max",
    "space.train.lr=3e-3",
    "space.train.epochs=5",
    "scheduler.max=5",
    "references={untrained: {train.epochs: 0}, dsn: {encoder.layers: 0}}",
    "confirm.seeds=[1, 2]",
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Killed after its second report, and taken up again."""
    folder = tmp_path_factory.mktemp("sweeps")
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    first = start("run", ROOT / "search_spaces/dsn_sst2.yaml", "--dir", folder / "text", *settings, cwd=folder)

    def reported(found: list[Record]) -> bool:
        return sum(record["kind"] == "reported" for record in found) == 2

    wait_for(folder / "text", reported, first)
    kill(first.pid, signal.SIGKILL)
    first.communicate()
    code, output = run("resume", folder / "text", cwd=folder, timeout=240)
    assert code == 0, output
    return folder / "text", output


def test_a_killed_sweep_goes_on_where_it_was(sweep: tuple[Path, str]) -> None:
    found = records(sweep[0] / FILE)
    steps = [record["step"] for record in found if record["kind"] == "reported" and record["trial"] == "t0000"]
    assert steps == [1, 2, 3, 4, 5]
    assert max(record["step"] for record in found if record["kind"] == "started") >= 1
    assert found[-1]["kind"] == "ended"
    assert found[-1]["complete"]


def test_every_arm_is_proven_on_both_report_splits(sweep: tuple[Path, str]) -> None:
    confirmed = next(record for record in records(sweep[0] / FILE) if record["kind"] == "confirmed")
    assert {arm["arm"] for arm in confirmed["arms"]} == {"finalist-1", "untrained", "dsn"}
    for arm in confirmed["arms"]:
        other = arm["others"]["validation_mismatched"]
        assert other["low"] <= other["mean"] <= other["high"]
    assert "validation_mismatched" in sweep[1]
    assert "SYNTHETIC" in sweep[1]


def test_the_registered_model_takes_pairs_and_answers_in_the_order_of_its_labels(
    sweep: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = sweep
    champion = next(record["champion"] for record in records(folder / FILE) if record["kind"] == "confirmed")
    examples = read_examples(TaskDataSettings(task="mnli"), "report")
    (tmp_path / "texts.json").write_text(json.dumps(examples.texts))
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    chances = np.array(json.loads(answer(LOAD, uri, tmp_path / "texts.json", cwd=folder.parent)))
    assert chances.shape == (len(examples), 3)
    assert chances.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    told = json.loads((folder / "trials" / champion / "model" / "model.json").read_text())
    assert told["labels"] == list(TASKS["mnli"].labels) == ["entailment", "neutral", "contradiction"]
    evaluated = next(r for r in records(folder / FILE) if r["kind"] == "evaluated" and r["trial"] == champion)
    stored = load_predictions(folder / evaluated["predictions"], evaluated["statistic"], evaluated["others"])
    assert (chances.argmax(axis=1) == stored.predictions).all()
    assert (stored.targets == examples.targets).all()


def test_nothing_strange_is_printed(sweep: tuple[Path, str]) -> None:
    for word in ("Warning", "Traceback", "Downloading", "site-packages"):
        assert word not in sweep[1]
