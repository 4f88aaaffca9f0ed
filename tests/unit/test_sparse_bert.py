"""What is particular to the SparseBERT recipe: one dense model for many trials, controls, tickets, steps in parts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from raysweep.recipe import configure, find
from raysweep.trial import Evaluation, Report, Trial
from tests.pruned_models import kept_weights
from tests.text_models import encoder_folder
from trainables import sparse_bert
from trainables.parts.scores import SCORES
from trainables.parts.semi_structured import is_two_four
from trainables.parts.text_inputs import scored
from trainables.parts.text_predictor import TextPredictor
from trainables.parts.weights import weights_of

Flat = dict[str, Any]
TINY: Flat = {"data.train_rows": 64, "train.lr": 3e-3, "train.batch_size": 16, "pruning.calibration_rows": 16}
TINY |= {"dense.epochs": 1, "train.epochs": 1, "measure.memory": False, "measure.repeats": 5}
WEIGHTS: Flat = TINY | {"pruning.target": "weights"}
UNITS: Flat = TINY | {"pruning.target": "heads+neurons"}
RISING: Flat = {"pruning.schedule": "cubic", "pruning.epochs": 2, "pruning.every": 1}


@pytest.fixture
def trial(tmp_path: Path) -> Any:
    def make(flat: Flat, **changes: Any) -> Trial:
        return replace(
            Trial("t0000", configure(find("sparse_bert"), flat), 1, tmp_path, tmp_path / "shared"), **changes
        )

    return make


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each epoch trained: the dense model, or one that is made small."""
    told: list[str] = []
    train_epoch = sparse_bert.train_epoch

    def noted(run: Any) -> dict[str, float]:
        told.append("small" if run.pipeline else "dense")
        return train_epoch(run)

    monkeypatch.setattr(sparse_bert, "train_epoch", noted)
    return told


def train(job: Trial) -> list[Report]:
    return list(sparse_bert.train(job))


def evaluated(job: Trial) -> Evaluation:
    return sparse_bert.evaluate(job, train(job)[-1].state())


def test_trials_that_begin_with_one_dense_model_train_it_once(trial: Any, epochs: list[str]) -> None:
    flat = {"dense.epochs": 2, "dense.models": 3}
    for job in (WEIGHTS, UNITS, TINY | {"train.epochs": 2}):
        train(trial(job | flat))
    assert epochs == ["dense"] * 2 + ["small"] * (1 + 1 + 2)
    train(trial(WEIGHTS | flat, seed=4))
    assert epochs.count("dense") == 2
    train(trial(WEIGHTS | flat, seed=5))
    assert epochs.count("dense") == 4


def test_each_dense_model_is_another_one(trial: Any, tmp_path: Path) -> None:
    told = [train(trial(TINY, seed=seed))[0].metrics for seed in (1, 4, 2)]
    files = [load_file(file) for file in sorted((tmp_path / "shared").glob("dense-*.safetensors"))]
    assert len(files) == 2
    assert not torch.equal(*(weights["head.classifier.weight"] for weights in files))
    assert told[0]["stage.dense"] == told[1]["stage.dense"]
    assert told[0]["train.loss"] != told[1]["train.loss"]  # order and dropout are those of the trial's own seed


def test_a_resumed_trial_finds_its_dense_model(trial: Any, epochs: list[str]) -> None:
    reports = sparse_bert.train(job := trial(WEIGHTS | {"train.epochs": 2}))
    state = next(reports).state()
    (last,) = reports
    epochs.clear()
    (rest,) = train(replace(job, restored=state))
    assert epochs == ["small"]
    assert rest.metrics["stage.dense"] == last.metrics["stage.dense"]


def test_the_control_trains_as_long_as_what_is_pruned(trial: Any) -> None:
    flat = {"pruning.epochs": 2, "train.epochs": 2}
    control, pruned = (train(trial(job | flat)) for job in (TINY, WEIGHTS))
    assert [report.step for report in control] == [report.step for report in pruned] == [1, 2, 3, 4]
    assert control[-1].metrics["size.nonzero"] > pruned[-1].metrics["size.nonzero"]
    assert not [name for name in control[-1].metrics if name.startswith("sparsity")]


def test_each_stage_is_scored_when_it_is_over(trial: Any) -> None:
    reports = train(trial(WEIGHTS | RISING | {"train.epochs": 2}))
    told = [{name for name in report.metrics if name.startswith("stage.")} for report in reports]
    early, pruned = {"stage.dense"}, {"stage.dense", "stage.pruned"}
    assert told == [early, pruned, pruned, pruned | {"stage.finetuned"}]
    last = reports[-1].metrics
    assert last["stage.pruned"] == reports[1].metrics["epoch.score"] == reports[1].metrics["select.score"]
    assert last["stage.finetuned"] == max(report.metrics["epoch.score"] for report in reports[2:])
    rising = [report.metrics["sparsity.weights"] for report in reports]
    assert 0 < rising[0] < rising[1] == rising[2] == rising[3] == pytest.approx(0.5, abs=1e-4)


def test_without_any_epoch_one_report_tells_all(trial: Any) -> None:
    (report,) = train(trial(UNITS | {"train.epochs": 0}))
    assert report.step == 0
    assert report.metrics["select.score"] == report.metrics["stage.pruned"]
    assert report.metrics["sparsity.heads"] == report.metrics["sparsity.neurons"] == 0.5
    assert report.metrics["size.reduction"] > 0.3


def test_a_quantised_model_is_told_by_its_own_bytes(trial: Any) -> None:
    (report,) = train(job := trial(TINY | {"quantise.kind": "fp16"}))
    assert report.metrics["select.score"] == report.metrics["stage.quantised"]
    assert report.metrics["size.bytes"] == report.metrics["size.file_bytes"] < 4 * report.metrics["size.parameters"]
    found = sparse_bert.evaluate(job, report.state())
    assert found.metrics["size.file_bytes"] == pytest.approx(report.metrics["size.file_bytes"], abs=2000)
    assert found.metrics["dense.file_bytes"] > 4 * report.metrics["size.parameters"]
    assert set(found.others) == {"macro_f1", "f1", "dense", "pruned", "finetuned"}


@pytest.mark.parametrize("freeze", ["none", "first"])
def test_the_models_before_each_stage_are_scored_on_the_report_split(freeze: str, trial: Any) -> None:
    """Also where frozen layers are pruned, which are no part of what is kept of the dense model."""
    frozen = {} if freeze == "none" else {"encoder.freeze": freeze, "encoder.freeze_layers": 1}
    most = UNITS | frozen | {"dense.epochs": 2, "pruning.sparsity": 0.75, "train.epochs": 2}
    found, dense = evaluated(trial(most)), evaluated(trial(most | {"pruning.target": "none", "train.epochs": 0}))
    pruned = evaluated(trial(most | {"train.epochs": 0}))
    assert np.array_equal(found.others["dense"].predictions, dense.predictions)
    assert np.array_equal(found.others["pruned"].predictions, pruned.predictions)
    assert np.array_equal(found.others["finetuned"].predictions, found.predictions)
    assert not np.array_equal(found.predictions, dense.predictions)
    assert not np.array_equal(pruned.predictions, dense.predictions)
    assert found.metrics["report.score"] == SCORES[found.statistic](found.predictions, found.targets)
    assert found.metrics["dense.file_bytes"] == dense.metrics["size.file_bytes"] > found.metrics["size.file_bytes"]


@pytest.mark.parametrize("target", ["weights", "heads+neurons"])
def test_taylor_ranks_a_frozen_encoder_as_one_that_learns(target: str, trial: Any) -> None:
    def pruned(importance: str, freeze: str) -> dict[str, torch.Tensor]:
        flat = {"pruning.importance": importance, "encoder.freeze": freeze, "dense.epochs": 0, "train.epochs": 0}
        run, pipeline, _ = sparse_bert.begin(trial(TINY | flat | {"pruning.target": target}))
        pipeline.begin()
        learns = [weight.requires_grad for weight in run.model.encoder.parameters()]
        assert all(learns) if freeze == "none" else not any(learns)
        return {name: weight == 0 for name, weight in weights_of(run.model).items()}

    frozen, learning, other = pruned("taylor", "all"), pruned("taylor", "none"), pruned("magnitude", "all")
    name = "encoder.encoder.layer.0.output.dense.weight"
    assert all(torch.equal(zeros, learning[name]) for name, zeros in frozen.items())
    assert int(frozen[name].count_nonzero()) == int(other[name].count_nonzero()) == 64 * 256 // 2
    assert not torch.equal(frozen[name], other[name])


def test_the_card_tells_what_takes_two_of_four_and_what_was_left_whole(trial: Any, tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "odd", "bert", intermediate_size=22)
    at_once = TINY | {"encoder.name": folder, "encoder.max_length": 40, "dense.epochs": 0, "train.epochs": 0}
    cards = {}
    for target in ("two_four", "weights"):
        job = trial(at_once | {"pruning.target": target})
        cards[target] = sparse_bert.export(job, train(job)[-1].state(), tmp_path / target)
    words = "dense kernels: no sparse tensor cores on cpu; the 2:4 pattern alone is no speed-up"
    assert cards["two_four"]["two_four"] == words
    matrices = [f"encoder.encoder.layer.{layer}.output.dense.weight" for layer in range(2)]
    assert cards["two_four"]["left_whole"] == [f"{name}: 22 inputs" for name in matrices]
    assert cards["two_four"].keys() - cards["weights"].keys() == {"two_four", "left_whole"}


def test_what_sparse_tensor_cores_are_timed_with_is_the_finished_model(
    trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def noted(trial: Trial, model: Any, select: Any) -> dict[str, float]:
        seen.append(is_two_four(model.encoder.encoder.layer[0].intermediate.dense.weight))
        return {}

    monkeypatch.setattr(sparse_bert.compressed, "two_four_costs", noted)
    evaluated(trial(TINY | {"pruning.target": "two_four"}))
    assert seen == [True]


@pytest.mark.parametrize("flat", [WEIGHTS | RISING, UNITS], ids=["weights", "units"])
def test_the_exported_model_is_pruned_and_answers_as_the_trained_one(flat: Flat, trial: Any, tmp_path: Path) -> None:
    job = trial(flat)
    state = train(job)[-1].state()
    card = sparse_bert.export(job, state, tmp_path / "model")
    served = TextPredictor(tmp_path / "model")
    run, pipeline, select = sparse_bert.begin(replace(job, restored=state))
    assert pipeline.pruning is not None
    pipeline.pruning.check_held()
    wanted = scored(run.model, select, 64, "cpu")["accuracy"].predictions
    assert (served.predict(select.examples.texts).argmax(1) == wanted).all()
    pruned = {name: weight for name, weight in run.model.named_parameters() if name.endswith("query.weight")}
    assert len(pruned) == 2
    for name, masked in pruned.items():
        there = served.model.get_parameter(name)
        assert int(there.count_nonzero()) == int(masked.count_nonzero()) == masked.numel() // 2
        assert there.numel() == (64 * 64 if flat is not UNITS else 32 * 64)
    assert card["nonzero"] == sum(int(weight.count_nonzero()) for weight in served.model.parameters())


def test_a_lottery_ticket_is_what_was_before_all_training_with_a_new_optimizer(
    trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[torch.optim.AdamW] = []
    new_optimizer = sparse_bert.new_optimizer

    def noted(*given: Any) -> torch.optim.AdamW:
        made.append(new_optimizer(*given))
        return made[-1]

    monkeypatch.setattr(sparse_bert, "new_optimizer", noted)
    still = {"train.lr": 1e-15, "dense.lr": 3e-3, "pruning.rewind": True, "pruning.epochs": 1, "train.epochs": 1}
    job = trial(WEIGHTS | still)
    ticket = train(job)[-1].state()
    assert len(made) == 3  # of the dense model, of the stage that prunes, of what starts again
    steps = [[int(entry["step"]) for entry in optimizer.state.values()] for optimizer in made]
    assert [set(counts) for counts in steps] == [{4}, {4}, {4}]
    run, pipeline, _ = sparse_bert.begin(replace(job, restored=ticket))
    assert pipeline.pruning is not None
    masks, drawn = kept_weights(run.model, pipeline.pruning), sparse_bert.untrained(job)
    dense = sparse_bert.dense_weights(job)
    for name, weight in run.model.named_parameters():
        torch.testing.assert_close(weight.detach(), drawn[name] * masks.get(name, 1), rtol=0, atol=1e-9)
    kept = dense["encoder.encoder.layer.0.output.dense.weight"].abs()
    mask = masks["encoder.encoder.layer.0.output.dense.weight"]
    assert kept[mask].min() > kept[~mask].max()  # ranked by the dense model, though it starts before it


def test_steps_in_parts_are_the_same_steps(trial: Any) -> None:
    flat = UNITS | {"model.dropout": 0.0, "regulariser.kind": "group", "pruning.epochs": 1, "pruning.begin": 0.5}
    runs = []
    for accumulate in (1, 2):
        run, pipeline, _ = sparse_bert.begin(trial(flat, accumulate=accumulate))
        for part in run.model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
            if hasattr(part, "dropout_prob"):
                part.dropout_prob = 0.0
        pipeline.begin()
        before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
        sparse_bert.train_epoch(run)
        runs.append(run)
    for (name, one), other in zip(runs[0].model.named_parameters(), runs[1].model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=name)
        assert not torch.equal(one, before[name]), name


def test_more_parts_than_rows_are_parts_of_one_row(trial: Any) -> None:
    (report,) = train(trial(UNITS | {"pruning.importance": "taylor", "train.batch_size": 4}, accumulate=8))
    assert report.metrics["sparsity.heads"] == 0.5


def test_a_stage_that_prunes_learns_from_the_dense_model_and_is_drawn_to_zero(trial: Any) -> None:
    flat = WEIGHTS | {"pruning.epochs": 1, "pruning.begin": 0.9, "train.epochs": 1}
    plain, penalised, distilled = (
        train(trial(flat | more))
        for more in ({}, {"regulariser.kind": "l1", "regulariser.alpha": 9.0}, {"distill.kind": "hidden"})
    )
    more = [penalised[epoch].metrics["train.loss"] - plain[epoch].metrics["train.loss"] for epoch in (0, 1)]
    assert more[0] > 0.1 > abs(more[1])  # the penalty ends with the stage that prunes
    assert distilled[0].metrics["train.loss"] != plain[0].metrics["train.loss"]
