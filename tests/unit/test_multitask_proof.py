"""What is told of a multi-task trial and proven in the end: kept weights, scores of all tasks, the probe."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysweep.evidence.scores import score
from raysweep.trial import Evaluation, Trial
from tests.multitask_runs import changed, flat_of, prepare, through_a_file, trial_of
from tests.task_folders import folder_of, write_jsonl
from trainables import multitask
from trainables.parts.multitask.probe import probe_score
from trainables.parts.state import tensors
from trainables.parts.text_inputs import value


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("proof")
    prepare(path)
    return path


def test_the_weights_of_the_best_epoch_are_kept(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_of(tmp_path, flat_of(place, "mood", "likeness") | {"train.epochs": 6, "train.lr": 0.02})
    told, found = [], []
    for report in multitask.train(trial):
        told.append(report.metrics)
        found.append(through_a_file(report.state(), tmp_path))
    scores = [each["epoch.score"] for each in told]
    best = int(np.argmax(scores))
    assert best < len(scores) - 1, "weights that came later were worse"
    kept = tensors(found[-1]["progress"]["kept"])
    assert not changed(kept, tensors(found[best]["weights"]))
    assert changed(kept, tensors(found[-1]["weights"]))
    assert told[-1]["select.score"] == scores[best]
    for task in trial.config.tasks:
        of_epochs = [each[f"epoch.{task}.score"] for each in told]
        assert told[-1][f"select.{task}.score"] == of_epochs[best]
        assert told[-1][f"best.{task}.score"] == max(of_epochs)
    monkeypatch.setattr(multitask.build, "served_costs", lambda *_: {})
    proofs = [multitask.evaluate(trial, state).predictions for state in (found[best], found[-1])]
    assert np.array_equal(*proofs)


PAIRS = [
    {"sentence1": f"the old dog {n}", "sentence2": f"a {'cat' * (n % 3)} dog {n}", "score": n / 5} for n in range(6)
]


@pytest.fixture(scope="module")
def probed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, Any, Evaluation]:
    """A trial whose vectors are tried on pairs after each epoch: its last report and the proof."""
    path = tmp_path_factory.mktemp("probed")
    source = folder_of(path / "pairs", write_jsonl, validation=PAIRS, test=PAIRS[1:])
    probe = {"probe.enabled": True, "probe.each_epoch": True, "probe.source": source}
    trial = trial_of(path, flat_of(place, "mood", "sense", "likeness") | probe)
    *_, last = [(report.metrics, report.state()) for report in multitask.train(trial)]
    return trial, last, multitask.evaluate(trial, last[1])


def test_the_report_is_scored_as_the_proof_scores_it(probed: tuple[Trial, Any, Evaluation]) -> None:
    trial, _, found = probed
    assert list(trial.shared.glob("*.npy")) == [], "states of an encoder that has learnt are of use to no other trial"
    proven = score(found.statistic, found.predictions[None], found.targets).item()
    assert found.metrics["report.score"] == pytest.approx(proven, abs=1e-9)
    assert [(one.statistic, one.size) for one in found.statistic] == [("spearman", 7), ("accuracy", 7), ("accuracy", 7)]
    ends = np.cumsum([7, 7])
    stretches = zip(*(np.split(side, ends) for side in (found.predictions, found.targets)), strict=True)
    for task, stretch, (given, targets) in zip(("likeness", "mood", "sense"), found.statistic, stretches, strict=True):
        other = found.others[f"{task} {stretch.statistic}"]
        assert np.array_equal(given, other.predictions)
        assert np.array_equal(targets, other.targets)
    for name, other in found.others.items():
        proven = score(other.statistic, other.predictions[None], other.targets).item()
        assert found.metrics[f"report.{name}"] == pytest.approx(proven, abs=1e-9)


def test_select_is_scored_as_the_report_is(probed: tuple[Trial, Any, Evaluation]) -> None:
    _, (told, _), found = probed
    own = {task: told[f"select.{task}.score"] for task in ("likeness", "mood", "sense")}
    above = [(own[task] - one.chance) / (1 - one.chance) for task, one in zip(own, found.statistic, strict=True)]
    assert [one.chance for one in found.statistic] == [0, 1 / 2, 1 / 3]
    assert told["select.score"] == pytest.approx(np.mean(above), abs=1e-12)


def test_the_probe_tries_the_vectors_of_the_kept_weights(probed: tuple[Trial, Any, Evaluation]) -> None:
    trial, (told, state), found = probed
    encoder, model = multitask.kept_model(trial, state)
    own = [probe_score(trial.config.probe, model, encoder, split, "cpu") for split in ("select", "report")]
    assert told["select.probe"] == pytest.approx(value(own[0]), abs=1e-9)
    assert np.array_equal(found.others["probe spearman"].predictions, own[1].predictions)
    assert found.metrics["report.probe spearman"] == pytest.approx(value(own[1]), abs=1e-9)
    assert len(own[1].predictions) == 5


def test_nothing_is_probed_that_is_not_asked_for(place: Path, tmp_path: Path) -> None:
    for more in ({}, {"probe.enabled": True}):
        report = next(iter(multitask.train(trial_of(tmp_path, flat_of(place, "mood") | more))))
        assert "select.probe" not in report.metrics
