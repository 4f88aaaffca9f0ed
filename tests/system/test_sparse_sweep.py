"""Small sweeps of SparseBERT: one killed while trials share a dense model, one whose winner is quantised."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import ROOT, answer, kill, run, start, wait_for

from raysweep.journal import FILE, Record, records
from raysweep.predictions import load_predictions
from trainables.parts.task_data import TaskDataSettings, read_examples

LOAD = """
import json, sys, mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/sparse-methods@champion")
texts = pandas.DataFrame(json.load(open(sys.argv[2])), columns=["text"])
print(json.dumps(model.predict(texts).tolist()))
"""
METHODS = "{magnitude: {pruning.target: weights}, units: {pruning.target: heads+neurons, pruning.importance: taylor}}"
SETTINGS = [
    "space.data.source=synthetic",
    "space.data.train_rows=256",
    "space.encoder.name=embedded",
    "space.dense.epochs=2",
    "space.pruning.epochs=1",
    "space.train.epochs=2",
    "space.train.lr=3e-3",
    "space.measure.repeats=5",
    "space.measure.memory=false",
]
TWO = ["space.pruning.sparsity=0.5", f"space.variant={{choice: {METHODS}}}", "budget.trials=2", "confirm.seeds=[1, 2]"]
ONE = ["space.pruning.target=neurons", "space.quantise.kind=static_int8", "space.pruning.sparsity=0.5"]
ONE += ["space.variant=int8", "budget.trials=1", "confirm.seeds=[1]", "confirm.per=[variant]"]
ONE += ["references={dense: {variant: dense, pruning.target: none, quantise.kind: onnx}}"]


def command(folder: Path, settings: list[str]) -> list[Any]:
    given = [part for setting in SETTINGS + settings for part in ("--set", setting)]
    return [ROOT / "search_spaces/sparse_methods.yaml", "--dir", folder, *given]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Killed after its second report, and taken up again."""
    folder = tmp_path_factory.mktemp("sweeps")
    first = start("run", *command(folder / "sparse", TWO), cwd=folder)

    def reported(found: list[Record]) -> bool:
        return sum(record["kind"] == "reported" for record in found) == 2

    wait_for(folder / "sparse", reported, first)
    kill(first.pid, signal.SIGKILL)
    first.communicate()
    code, output = run("resume", folder / "sparse", cwd=folder, timeout=280)
    assert code == 0, output
    return folder / "sparse", output


def found_in(folder: Path, kind: str) -> list[Record]:
    return [record for record in records(folder / FILE) if record["kind"] == kind]


def champion_of(folder: Path) -> Record:
    """What was told of the registered trial when its report split was opened."""
    (confirmed,) = found_in(folder, "confirmed")
    (found,) = (one for one in found_in(folder, "evaluated") if one["trial"] == confirmed["champion"])
    return found


def served(folder: Path, place: Path) -> Any:
    """The chances of the labels of the report split, by the registered model in a process of its own."""
    examples = read_examples(TaskDataSettings(task="sst2"), "report")
    (place / "texts.json").write_text(json.dumps(examples.texts))
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    chances = np.array(json.loads(answer(LOAD, uri, place / "texts.json", cwd=folder.parent)))
    assert chances.shape == (len(examples), 2)
    assert chances.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    return chances


def test_a_killed_sweep_goes_on_where_it_was(killed: tuple[Path, str]) -> None:
    for trial in ("t0000", "t0001"):
        steps = [record["step"] for record in found_in(killed[0], "reported") if record["trial"] == trial]
        assert steps == [1, 2, 3]
    assert max(record["step"] for record in found_in(killed[0], "started")) >= 1
    (ended,) = found_in(killed[0], "ended")
    assert ended["complete"]


def test_trials_of_one_seed_begin_with_one_dense_model(killed: tuple[Path, str]) -> None:
    folder, _ = killed
    seeds = {record["trial"]: record["seed"] for record in found_in(folder, "asked")}
    dense: dict[int, set[float]] = {}
    for record in found_in(folder, "reported"):
        dense.setdefault(seeds[record["trial"]] % 3, set()).add(record["metrics"]["stage.dense"])
    assert [len(scores) for scores in dense.values()] == [1] * len(dense)
    assert len(list((folder / "shared").glob("dense-*.safetensors"))) == len(dense)
    assert not list((folder / "shared").glob("*.part"))


def test_every_method_is_proven_beside_the_dense_model(killed: tuple[Path, str]) -> None:
    (confirmed,) = found_in(killed[0], "confirmed")
    assert len(confirmed["arms"]) == 3
    assert {arm["config"]["pruning.target"] for arm in confirmed["arms"]} == {"weights", "heads+neurons", "none"}
    for arm in confirmed["arms"]:
        assert set(arm["others"]) == {"dense", "pruned", "finetuned"}
    found = champion_of(killed[0])
    assert {"latency.ratio", "dense.p50_ms", "report.score"} <= set(found["metrics"])
    assert "SYNTHETIC" in killed[1]


def test_the_registered_model_is_pruned_and_answers_as_it_did(killed: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = killed
    found = champion_of(folder)
    stored = load_predictions(folder / found["predictions"], found["statistic"], found["others"])
    assert (served(folder, tmp_path).argmax(axis=1) == stored.predictions).all()
    card = found["card"]
    assert card["labels"] == ["negative", "positive"]
    assert card["nonzero"] < found["metrics"]["dense.file_bytes"] / 4
    assert found["metrics"]["size.file_bytes"] == card["weight_bytes"] < found["metrics"]["dense.file_bytes"]


def test_nothing_strange_is_printed(killed: tuple[Path, str]) -> None:
    for word in ("Warning", "Traceback", "Downloading", "site-packages"):
        assert word not in killed[1]


def test_a_quantised_winner_is_registered_and_answers_as_it_did(tmp_path: Path) -> None:
    code, output = run("run", *command(tmp_path / "int8", ONE), cwd=tmp_path, timeout=280)
    assert code == 0, output
    for word in ("Warning", "Traceback", "WARNING", "torch.onnx", "site-packages"):
        assert word not in output
    folder = tmp_path / "int8"
    (registered,) = found_in(folder, "registered")
    assert registered["verified"] < 1e-5
    found = champion_of(folder)
    stored = load_predictions(folder / found["predictions"], found["statistic"], found["others"])
    assert (served(folder, tmp_path).argmax(axis=1) == stored.predictions).all()
    assert (folder / "trials" / found["trial"] / "model" / "model.onnx").is_file()
    assert found["card"]["kernel"].startswith("ONNX Runtime")
    assert found["metrics"]["size.file_bytes"] < found["metrics"]["dense.file_bytes"] / 2
