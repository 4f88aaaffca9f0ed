"""Small sweeps of SparseBERT: one killed while trials share a dense model, one whose winner is quantised."""

from pathlib import Path

import pytest
from commands import run
from text_sweeps import (
    STRANGE,
    assert_answers_as_it_did,
    assert_went_on,
    champion_of,
    command,
    found_in,
    killed_and_resumed,
)

pytestmark = pytest.mark.slow  # contracts try the recipe, and the sweeps of others the engine
SPACE, MODEL = "sparse_methods.yaml", "sparse-methods"
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


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("sweeps") / "sparse"
    return folder, killed_and_resumed(SPACE, folder, SETTINGS + TWO)


def test_a_killed_sweep_goes_on_where_it_was(killed: tuple[Path, str]) -> None:
    assert_went_on(killed[0], ["t0000", "t0001"], epochs=3)


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
        assert set(arm["others"]) == {"dense", "pruned", "finetuned", "macro_f1", "f1"}
    found = champion_of(killed[0])
    assert {"latency.ratio", "dense.p50_ms", "report.score"} <= set(found["metrics"])
    assert "SYNTHETIC" in killed[1]


def test_the_registered_model_is_pruned_and_answers_as_it_did(killed: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = killed
    assert_answers_as_it_did(folder, MODEL, "sst2", tmp_path)
    card, metrics = champion_of(folder)["card"], champion_of(folder)["metrics"]
    assert card["labels"] == ["negative", "positive"]
    assert card["nonzero"] < metrics["dense.file_bytes"] / 4
    assert metrics["size.file_bytes"] == card["weight_bytes"] < metrics["dense.file_bytes"]


def test_nothing_strange_is_printed(killed: tuple[Path, str]) -> None:
    assert not [word for word in STRANGE if word in killed[1]]


def test_a_quantised_winner_is_registered_and_answers_as_it_did(tmp_path: Path) -> None:
    folder = tmp_path / "int8"
    code, output = run("run", *command(SPACE, folder, SETTINGS + ONE), cwd=tmp_path, timeout=280)
    assert code == 0, output
    assert not [word for word in STRANGE if word in output]
    (registered,) = found_in(folder, "registered")
    assert registered["verified"] < 1e-5
    assert_answers_as_it_did(folder, MODEL, "sst2", tmp_path)
    found = champion_of(folder)
    assert (folder / "trials" / found["trial"] / "model" / "model.onnx").is_file()
    assert found["card"]["kernel"].startswith("ONNX Runtime")
    assert found["metrics"]["size.file_bytes"] < found["metrics"]["dense.file_bytes"] / 2
