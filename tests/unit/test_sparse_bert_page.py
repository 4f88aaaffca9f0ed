"""The results page of SparseBERT sweeps: which arms are compared, in which points, and the picture beside it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import sparse_bert, trade_off
from benchmarks.methods import by_method, controls_of, dense_of, removed
from benchmarks.results_page import SweepRun
from benchmarks.sparse_bert_published import SPARSE_BERT
from raysweep.evidence import paired_difference
from raysweep.proof import Trials
from raysweep.trial import Scored
from tests import journals
from tests.journals import Event
from tests.results import LABELS, SEED, SEEDS, answers, cells, evaluated, head, page_of, prove_it, trained

METRIC = "select.score"
HEADS = {"pruning.target": "heads+neurons"}
SETTINGS: dict[str, dict[str, Any]] = {
    "dense": {"pruning.target": "none"},
    "heads-30": {**HEADS, "pruning.sparsity": 0.3},
    "heads-50": {**HEADS, "pruning.sparsity": 0.5},
    "random-heads-50": {**HEADS, "pruning.sparsity": 0.5, "pruning.importance": "random"},
    "weights-50": {"pruning.target": "weights"},  # the recipe's own 50 %
    "int8": {"pruning.target": "none", "quantise.kind": "dynamic_int8"},
}
NUMBERS = {variant: f"finalist-{number}" for number, variant in enumerate(SETTINGS, 1)}
# Wrong of 400 once pruned, once trained again, and as served; of the dense model that all begin with, 40.
WRONG = {
    "dense": (40, 40, 40),
    "heads-30": (80, 44, 44),
    "heads-50": (160, 60, 60),
    "random-heads-50": (200, 100, 100),
    "weights-50": (60, 42, 42),
    "int8": (40, 40, 48),
}
SIZES = {"dense": 1000.0, "heads-30": 800.0, "heads-50": 600.0, "random-heads-50": 600.0, "weights-50": 1000.0}


def measured(variant: str) -> dict[str, float]:
    """Without memory, which was not asked for."""
    parameters = SIZES.get(variant, 1000.0)
    times = {"latency.p50_ms": parameters / 100, "dense.p50_ms": 10.0, "latency.ratio": parameters / 1000}
    return {"size.parameters": parameters, "size.file_bytes": 4 * parameters, "sparsity.heads": 0.5, **times}


def stages(variant: str) -> dict[str, Scored]:
    pruned, finetuned, _ = WRONG[variant]
    found = {"dense": 40, "pruned": pruned, "finetuned": finetuned}
    return {name: Scored(answers(wrong), LABELS, "accuracy") for name, wrong in found.items()}


def events_of(folder: Path) -> Iterator[Event]:
    yield head("sparse_bert", METRIC, per="variant", seeds=SEEDS)
    for number, (variant, settings) in enumerate(SETTINGS.items()):
        config = {"variant": variant, "train.lr": 1e-4, **settings}
        yield from trained(number, config, METRIC, {METRIC: 0.9, "sparsity.weights": 0.25})
    for place, (variant, settings) in enumerate(SETTINGS.items(), 1):
        config = {"variant": variant, "train.lr": 1e-4, **settings}
        for number, seed in enumerate(SEEDS, 10 * place):
            arm = {"role": "finalist", "arm": NUMBERS[variant], "seed": seed}
            yield from trained(number, config, METRIC, {METRIC: 0.9}, **arm)
            yield evaluated(folder, number, answers(WRONG[variant][2]), stages(variant), measured(variant))


def proven(folder: Path) -> Path:
    return prove_it(journals.write(folder, list(events_of(folder))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return proven(tmp_path_factory.mktemp("sparse"))


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return page_of(sparse_bert.main, folder)


def named(variant: str) -> str:
    name, _, share = variant.rpartition("-")
    return f"{NUMBERS[variant]} ({name}, {share} %)" if name else f"{NUMBERS[variant]} ({share})"


def test_every_arm_stands_against_the_dense_one_and_against_chance_at_its_own_share(folder: Path) -> None:
    view = SweepRun.read(folder).view
    dense, chance = NUMBERS["dense"], NUMBERS["random-heads-50"]
    others = [(arm, dense) for variant, arm in NUMBERS.items() if variant != "dense"]
    assert sparse_bert.compared_pairs(view) == [*others, (NUMBERS["heads-50"], chance)]


def test_a_reference_is_known_by_its_settings_and_a_dense_finalist_goes_before_it(folder: Path) -> None:
    view = SweepRun.read(folder).view
    dense, *others = view.arms
    heads = next(arm for arm in others if arm.arm == NUMBERS["heads-50"])
    config = {**heads.config, "pruning.target": "none"}
    view.confirmed.arms[:] = [replace(heads, arm="untouched", role="reference", config=config), heads]
    assert (dense_of(view).arm, list(by_method(view))) == ("untouched", ["untouched", "heads"])
    view.confirmed.arms.append(dense)
    assert dense_of(view) == dense
    assert controls_of(view, heads) == []
    by_chance = {**heads.config, "pruning.importance": "random"}
    view.confirmed.arms.append(replace(heads, arm="chance", role="reference", config=by_chance))
    assert [arm.arm for arm in controls_of(view, heads)] == ["chance"]
    assert controls_of(view, view.arms[-1]) == []


def test_scores_stand_by_method_and_share_with_points_to_the_dense_model(page: str) -> None:
    start = "### The proof"
    assert "| method | nothing pruned | 30 % pruned | 50 % pruned |" in page
    none, thirty, fifty = cells(page, "heads", start)
    assert none == "-"
    assert (thirty[:8], thirty[-7:]) == ("0.8900 [", "; -1.00")  # 44 of 400 are wrong, where 40 are by the dense one
    assert (fifty[:8], fifty[-7:]) == ("0.8500 [", "; -5.00")
    assert cells(page, "dense", start)[0].endswith("]")
    assert cells(page, "weights", start)[2].endswith("; -0.50")
    assert cells(page, "random-heads", start)[2].endswith("; -15.00")


def test_stages_are_compared_by_the_recorded_predictions_of_each(page: str) -> None:
    dense, pruned, finetuned, served, *gains = cells(page, named("heads-50"), "### Before and after")
    means = [mean.partition(" ")[0] for mean in (dense, pruned, finetuned, served)]
    assert means == ["0.9000", "0.6000", "0.8500", "0.8500"]
    after, before = (np.stack([answers(wrong)] * 3) for wrong in (60, 160))
    found = paired_difference(after, before, LABELS, "accuracy", 0.05, np.random.default_rng(SEED))
    recovered = f"+25.00 [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    assert gains[0] == recovered
    assert gains[1] == "+0.00 [+0.00, +0.00]"
    assert gains[2].startswith("-5.00 [")
    assert cells(page, named("int8"), "### Before and after")[5].startswith("-2.00 [")  # what quantising takes


def test_a_stage_that_was_not_scored_is_left_open(folder: Path) -> None:
    run = SweepRun.read(folder)
    result = next(arm for arm in run.view.arms if arm.arm == NUMBERS["heads-50"])
    arm = Trials(run.records, run.view.metric, folder).arm(result.arm)
    del arm.others["finetuned"], result.others["finetuned"]
    row = sparse_bert.stage_row(run.view, result, arm, list(sparse_bert.STAGES))
    assert (row[3], row[6]) == ("-", "-")
    assert row[5].startswith("+25.00 [")  # nothing was quantised: what is served is what was trained
    for result in run.view.arms:
        result.others.clear()
    assert sparse_bert.stages(run) == ["The stages were not scored one by one."]


def test_only_what_was_removed_is_said_to_make_a_model_faster(folder: Path, page: str) -> None:
    where = "### Speed and memory"
    said = {variant: cells(page, named(variant), where)[0] for variant in SETTINGS}
    assert said == {
        "dense": "-",
        "heads-30": "smaller matrices",
        "heads-50": "smaller matrices",
        "random-heads-50": "smaller matrices",
        "weights-50": "a mask alone is no speed-up",
        "int8": "ONNX Runtime, dynamic_int8",
    }
    masked = replace(SweepRun.read(folder).view.arms[1], trials=[])  # nothing measured: the target decides
    assert removed(SweepRun.read(folder).view, masked)


def test_measurements_are_shown_and_missing_ones_left_open(page: str) -> None:
    sizes = cells(page, named("heads-50"), "### Sizes")
    assert sizes == ["600", "-", "-", "50.0 %", "-", "-", "2,400", "-"]
    speeds = cells(page, named("heads-50"), "### Speed and memory")[1:]
    assert speeds == ["6.00", "-", "10.00", "0.60", "-", "-", "-", "-", "-"]


def test_the_picture_has_a_panel_for_what_was_measured_and_every_method_in_it(folder: Path, page: str) -> None:
    assert "![Quality against size and latency](page.svg)" in page
    drawn = (folder / "page.svg").read_bytes()
    page_of(sparse_bert.main, folder)
    assert (folder / "page.svg").read_bytes() == drawn
    figure = trade_off.draw([SweepRun.read(folder).view])
    weights, units = (part.axes for part in figure.subfigs)
    for axes in (weights, units):
        labels = ["weight file, MB", "time for one text, times the dense model's"]
        assert [axis.get_xlabel() for axis in axes] == labels
    lines = {line.get_label(): line for line in units[1].lines if not line.get_label().startswith("_")}
    assert list(lines) == ["dense", "heads", "random-heads", "int8"]
    assert lines["heads"].get_xydata() == pytest.approx(np.array([[0.8, 0.89], [0.6, 0.85]]))
    assert [name for name, line in lines.items() if line.get_linestyle() == ":"] == ["random-heads"]
    shown = [text.get_text() for part in figure.subfigs for text in part.legends[0].texts]
    in_weights = ["dense", "weights", "int8", "nothing pruned", "50 %"]
    assert shown == [*in_weights, "dense", "heads", "random-heads", "int8", "nothing pruned", "30 %", "50 %"]


def test_two_of_four_stand_against_half_of_the_weights_at_random(folder: Path) -> None:
    view = SweepRun.read(folder).view
    two_four, chance = (
        replace(view.arms[4], arm=name, config={**view.arms[4].config, **settings})
        for name, settings in {
            "two_four": {"pruning.target": "two_four"},
            "chance": {"pruning.importance": "random"},
        }.items()
    )
    view.confirmed.arms[:] = [two_four, chance]
    assert sparse_bert.compared_pairs(view) == [("two_four", "chance")]


def test_nothing_is_drawn_of_a_sweep_without_proof(tmp_path: Path) -> None:
    events = [head("sparse_bert", METRIC, seeds=SEEDS), *trained(0, {"variant": "dense"}, METRIC, {METRIC: 0.9})]
    page = page_of(sparse_bert.main, journals.write(tmp_path, events))
    assert not (tmp_path / "page.svg").exists()
    assert "svg" not in page
    assert page.split("## Published numbers")[0].endswith("nothing is claimed.\n\n")


def test_published_sparsities_follow_from_the_shapes() -> None:
    layers, width, inner, parameters = 22, 768, 1152, 149_606_402
    layer = 3 * width * width + width * width + 2 * inner * width + width * inner
    linear = layers * layer + width * width + 2 * width
    assert linear == 110_888_448
    heads = 79 * 64 * width * 4  # query, key, value and output of each
    shown = {row[0]: row for row in SPARSE_BERT}
    for name, zeros in {"magnitude": 33_266_552, "heads": heads, "2:4": linear // 2}.items():
        assert shown[name][1] == f"{100 * zeros / parameters:.2f}"
        assert shown[name][2] == f"{4 * (parameters - zeros) / 2**20:.2f}"
    for row in SPARSE_BERT:
        assert float(row[4]) == pytest.approx(759.38 / float(row[3]), abs=0.006)
