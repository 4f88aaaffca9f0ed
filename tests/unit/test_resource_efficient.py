"""What is particular to the resource-efficient recipe: rounds, what learns, what is told of resources, languages."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from raysweep.problems import UserError
from raysweep.recipe import configure, find
from raysweep.schedule import rungs_of
from raysweep.spec import SchedulerSpec
from raysweep.trial import Evaluation, Report, Trial
from raysweep.yaml_file import parse_yaml
from tests.decoders import text_encoder_folder
from tests.task_folders import folder_of, write_jsonl
from trainables import resource_efficient
from trainables.parts.efficient import build
from trainables.parts.text_predictor import TextPredictor

ROOT = Path(__file__).parents[2]
Flat = dict[str, Any]
TINY: Flat = {"train.epochs": 2, "train.lr": 3e-3, "train.batch_size": 16, "model.dropout": 0.0}
TINY |= {"measure.memory": False, "measure.repeats": 5}
FEW: Flat = TINY | {"data.train_rows": 48}
LORA: Flat = {"tuning.kind": "lora", "tuning.rank": 2}


@pytest.fixture
def trial(tmp_path: Path) -> Any:
    def make(flat: Flat, **changes: Any) -> Trial:
        config = configure(find("resource_efficient"), flat)
        return replace(Trial("t0000", config, 1, tmp_path, tmp_path / "shared"), **changes)

    return make


def run(trial: Trial) -> list[Report]:
    return list(resource_efficient.train(trial))


def told(reports: list[Report], *names: str) -> list[list[float]]:
    return [[report.metrics[name] for name in names] for report in reports]


def test_each_size_of_a_curve_is_trained_as_it_is_by_itself(trial: Any) -> None:
    names = ("train.loss", "epoch.score", "select.score", "train.rows")
    alone = [told(run(trial(TINY | {"data.train_rows": rows})), *names) for rows in (24, 40)]
    curve = run(trial(TINY | {"curve.sizes": [24, 40]}))
    assert told(curve, *names) == alone[0] + alone[1]
    last = curve[-1].metrics
    assert last["curve.24.score"] == alone[0][-1][2]
    assert last["curve.40.score"] == last["select.score"] == alone[1][-1][2]


def test_the_rungs_of_the_whole_space_are_sizes_of_the_training_set() -> None:
    spec = parse_yaml((ROOT / "search_spaces" / "efficient.yaml").read_text(), None).data
    epochs, sizes = spec["space"]["train.epochs"], spec["space"]["curve.sizes"]
    scheduler = SchedulerSpec(**spec["scheduler"])
    assert rungs_of(scheduler) == [epochs, 2 * epochs]
    assert scheduler.max == len(sizes) * epochs


def test_the_last_size_is_all_rows(trial: Any) -> None:
    reports = run(trial(TINY | {"curve.sizes": [16, -1], "train.epochs": 1, "tuning.kind": "head_only"}))
    assert told(reports, "train.rows") == [[16], [2000]]


def test_folds_are_scored_on_what_they_hold_out_and_the_last_round_takes_all(trial: Any) -> None:
    reports = run(trial(FEW | {"cross_validation.folds": 3}))
    rows = [row for (row,) in told(reports, "train.rows")]
    assert rows[-2:] == [48, 48]
    assert sum(48 - row for row in rows[:6:2]) == 48
    best = [max(one.metrics["epoch.score"] for one in reports[at : at + 2]) for at in (0, 2, 4)]
    for report in reports[-2:]:
        assert report.metrics["folds.score"] == pytest.approx(np.mean(best))
        assert report.metrics["folds.deviation"] == pytest.approx(np.std(best, ddof=1))
    assert reports[-1].metrics["select.score"] == max(one.metrics["epoch.score"] for one in reports[-2:])


def test_parts_of_a_batch_are_the_same_steps(trial: Any) -> None:
    rested = FEW | {"tuning.kind": "head_only"}  # without the encoder's dropout, which differs from part to part
    whole, parts = (run(trial(rested | {"train.accumulate": parts})) for parts in (1, 5))
    assert told(parts, "train.loss") == [pytest.approx(loss, rel=1e-5) for loss in told(whole, "train.loss")]


@pytest.mark.parametrize(("tuning", "learns"), [({}, 1.0), (LORA, 0.1), ({"tuning.kind": "head_only"}, 0.002)])
def test_what_learns_is_what_is_tuned(trial: Any, tuning: Flat, learns: float) -> None:
    reports = run(trial(FEW | tuning))
    share = reports[-1].metrics["size.trainable"] / reports[-1].metrics["size.parameters"]
    assert learns / 3 < share <= learns
    assert reports[0].metrics["size.parameters"] == reports[-1].metrics["size.parameters"]


def test_texts_go_once_through_an_encoder_that_rests(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run(trial(FEW | {"tuning.kind": "head_only"}))
    monkeypatch.setattr(build.TextModel, "vectors", None)  # whoever calls it now fails
    reports = run(trial(FEW | {"tuning.kind": "head_only", "train.lr": 1e-2}))
    assert len(reports) == 2


def test_a_head_on_stored_vectors_answers_as_the_whole_model(trial: Any, tmp_path: Path) -> None:
    rested = trial(FEW | {"tuning.kind": "head_only"})
    state = run(rested)[-1].state()
    predictions = resource_efficient.evaluate(rested, state).predictions
    resource_efficient.export(rested, state, tmp_path / "model")
    served = TextPredictor(tmp_path / "model").predict(texts_of(rested, "report"))
    assert np.array_equal(served.argmax(axis=1), predictions)


def texts_of(trial: Trial, split: Any) -> Any:
    return resource_efficient.read_examples(trial.config.data, split).texts


def test_the_exported_folder_says_what_training_and_serving_took(trial: Any, tmp_path: Path) -> None:
    one = trial(FEW)
    reports = run(one)
    state = reports[-1].state()
    costs = resource_efficient.evaluate(one, state).metrics
    resource_efficient.export(one, state, tmp_path / "model")
    usage = YAML(typ="safe").load((tmp_path / "model" / "resource_usage.yaml").read_text())
    assert usage["training"]["duration_seconds"] == pytest.approx(
        reports[-1].metrics["resources.train_seconds"], rel=1e-5
    )
    assert usage["serving"]["latency_p50_ms"] == pytest.approx(costs["latency.p50_ms"], rel=1e-5), "measured once"
    assert usage["serving"]["memory_serving_mb"] == "not measured: measure.memory is false"
    assert usage["training"]["samples"] == 96


def test_what_training_took_is_added_up_over_a_restart(trial: Any) -> None:
    reports = resource_efficient.train(trial(FEW))
    first = next(reports)
    state, second = first.state(), next(reports)
    resumed = run(trial(FEW, restored=state))
    seconds = [report.metrics["resources.train_seconds"] for report in (first, *resumed)]
    assert seconds[1] > seconds[0]
    assert told(resumed, "train.loss", "epoch.score") == told([second], "train.loss", "epoch.score")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("gpt_neo", {"model.pooling": "last"} | LORA),
        ("bitnet", {"model.pooling": "last", "ternary.enabled": True} | LORA),
        ("bitnet", {"ternary.enabled": True}),
        ("distilbert", {}),
        ("gpt_neo", {"encoder.load_in": "int8"} | LORA),
        ("gpt_neo", {"encoder.load_in": "nf4"} | LORA),
    ],
)
def test_every_architecture_is_trained_exported_and_served(trial: Any, kind: str, more: Flat, tmp_path: Path) -> None:
    if "encoder.load_in" in more:
        pytest.importorskip("bitsandbytes")
    wide = {"hidden_size": 64, "intermediate_size": 64} if "encoder.load_in" in more else {}  # nf4 has blocks of 64
    name = text_encoder_folder(tmp_path / "encoder", kind, **wide)
    one = trial(FEW | {"encoder.name": name, "data.task": "mnli", "encoder.max_length": 32} | more)
    assert resource_efficient.inspect(one.config).rows["train"] == 48
    state = run(one)[-1].state()
    predictions = resource_efficient.evaluate(one, state).predictions
    resource_efficient.export(one, state, tmp_path / "model")
    served = TextPredictor(tmp_path / "model").predict(texts_of(one, "report"))
    assert served.shape == (400, 3)
    assert np.mean(served.argmax(axis=1) == predictions) > 0.98  # ternary inputs may be rounded otherwise in a batch


def test_a_ternary_model_is_smaller_where_it_is_stored(trial: Any) -> None:
    plain, ternary = (run(trial(FEW | {"ternary.enabled": on, "train.epochs": 1}))[-1].metrics for on in (False, True))
    linear = 2 * (4 * 64 * 64 + 2 * 64 * 128)  # weights in the layers of the encoder that is built here
    assert plain["size.bytes"] - ternary["size.bytes"] > 0.9 * (4 - 0.25) * linear


def languages(folder: Path) -> Flat:
    """The test rows in two languages: the second has the words of the other row of each pair of rows."""
    rows = [
        {"premise": f"a b{row} {word}", "hypothesis": f"{word} c", "label": row % 3}
        for row, word in enumerate(["yes", "maybe", "no"] * 8)
    ]
    for code, test in {"en": rows, "de": [{**row, "premise": "x"} for row in rows]}.items():
        (folder / "xnli").mkdir(exist_ok=True)
        folder_of(folder / "xnli" / code, write_jsonl, test=test)
    return {"data.task": "mnli", "xnli.languages": ["en", "de"], "xnli.source": str(folder / "xnli")}


def test_the_mean_over_languages_decides_and_each_stands_beside_it(trial: Any, tmp_path: Path) -> None:
    one = trial(FEW | languages(tmp_path))
    state = run(one)[-1].state()
    found: Evaluation = resource_efficient.evaluate(one, state)
    assert found.statistic == "mean"
    right = [
        found.others[f"language {code}"].predictions == found.others[f"language {code}"].targets
        for code in ("en", "de")
    ]
    assert found.predictions == pytest.approx(np.mean(right, axis=0))
    assert found.metrics["language en.accuracy"] == pytest.approx(np.mean(right[0]))
    assert {"mnli", "mnli macro_f1", "language de macro_f1"} <= found.others.keys()
    assert not [name for name in found.others if name.startswith("report")]


WRONG = [
    ({"encoder.load_in": "int8"}, "encoder.load_in int8 cannot learn itself: set tuning.kind to lora"),
    (LORA | {"encoder.load_in": "nf4", "ternary.enabled": True}, "both decide what weights are held in"),
    ({"train.accumulate": 33, "train.batch_size": 32}, "train.accumulate 33 parts need as many examples"),
    ({"train.precision": "bf16", "train.products": "bfloat16"}, "train.precision and train.products both round"),
    ({"data.task": "squad"}, "data.task with answers in contexts is not for this recipe"),
    ({"data.task": "stsb", "train.label_smoothing": 0.1}, "train.label_smoothing is for labels"),
    ({"encoder.layers": 0}, "encoder.layers 0 leaves nothing to tune"),
    ({"curve.sizes": [10], "train.epochs": 0}, "curve.sizes and cross_validation.folds train"),
    ({"curve.sizes": [10], "cross_validation.folds": 2}, "both say what the rounds train on"),
    ({"xnli.languages": "all"}, "xnli.languages need data.task mnli"),
    ({"tuning.rank": 4}, "rank has no effect with kind 'full'"),
]


@pytest.mark.parametrize(("flat", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_does_not_go_together_is_told(flat: Flat, message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        configure(find("resource_efficient"), flat)


def test_the_first_token_of_a_decoder_is_no_pooling(trial: Any, tmp_path: Path) -> None:
    name = text_encoder_folder(tmp_path / "encoder", "gpt_neo")
    with pytest.raises(UserError, match=r"the first token of a decoder .* sees no other"):
        resource_efficient.inspect(
            trial({"encoder.name": name, "encoder.max_length": 32, "model.pooling": "cls"}).config
        )


def test_widths_that_a_library_reads_wrongly_are_told_before_any_trial(
    trial: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(build.quantised, "_misread", lambda part: part.in_features == 16)  # as on some CPUs
    monkeypatch.setattr(build.torch.cuda, "is_available", bool)
    name = text_encoder_folder(tmp_path / "encoder", "gpt_neo")  # 16 wide
    config = trial(LORA | {"encoder.name": name, "encoder.max_length": 32, "encoder.load_in": "nf4"}).config
    with pytest.raises(UserError, match="has 16 inputs, whose weights in nf4 bitsandbytes reads wrongly on cpu"):
        resource_efficient.inspect(config)


def test_more_rows_than_there_are_is_told_before_any_trial(trial: Any) -> None:
    with pytest.raises(UserError, match=r"curve.sizes holds 5000, but there are 2000 training rows"):
        resource_efficient.inspect(trial({"curve.sizes": [100, 5000]}).config)


def test_no_epochs_score_the_model_as_it_starts(trial: Any) -> None:
    (report,) = run(trial(FEW | {"train.epochs": 0}))
    assert report.step == 0
    assert report.metrics["resources.train_seconds"] == 0
    assert json.dumps(report.metrics)
