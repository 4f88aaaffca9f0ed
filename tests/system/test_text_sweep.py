"""A small sweep of DendriticBERT on pairs of texts, killed once, to a registered model that says which label fits."""

import json
from pathlib import Path

import pytest
from text_sweeps import STRANGE, assert_answers_as_it_did, assert_went_on, champion_of, found_in, killed_and_resumed

from trainables.parts.tasks import TASKS

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
    folder = tmp_path_factory.mktemp("sweeps") / "text"
    return folder, killed_and_resumed("dsn_sst2.yaml", folder, SETTINGS)


def test_a_killed_sweep_goes_on_where_it_was(sweep: tuple[Path, str]) -> None:
    assert_went_on(sweep[0], ["t0000"], epochs=5)


def test_every_arm_is_proven_on_both_report_splits(sweep: tuple[Path, str]) -> None:
    (confirmed,) = found_in(sweep[0], "confirmed")
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
    assert_answers_as_it_did(folder, "dsn-sst2", "mnli", tmp_path)
    told = json.loads((folder / "trials" / champion_of(folder)["trial"] / "model" / "model.json").read_text())
    assert told["labels"] == list(TASKS["mnli"].labels) == ["entailment", "neutral", "contradiction"]


def test_nothing_strange_is_printed(sweep: tuple[Path, str]) -> None:
    assert not [word for word in STRANGE if word in sweep[1]]
