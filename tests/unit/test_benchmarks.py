"""The benchmarks' arithmetic and their trial of nothing; what they measure, they measure when they are run."""

import json

import pytest
import torch

from benchmarks import measured, multitask_frozen, nothing, overhead, pruning, pruning_removal, pruning_sides, truth
from benchmarks import multitask_frozen_sides as frozen_sides
from benchmarks.sweeps import idle_sweep
from raysweep.engine import inline
from trainables.parts.pruning.removal import sizes_of
from trainables.parts.pruning.selection import two_of_four


def runs(**seconds):
    return {side: [{"trials": one, "process": 2 * one} for one in values] for side, values in seconds.items()}


def test_a_ratio_compares_runs_of_the_same_repeat():
    measured_runs = runs(ours=[1.0, 2.0, 30.0], peer=[4.0, 4.0, 60.0])
    assert overhead.ratio(measured_runs, "ours", "peer", "trials") == 0.5  # of 0.25, 0.5 and 0.5


def test_ideal_spreads_the_sleep_over_the_workers():
    assert overhead.LOADS["second"].ideal == pytest.approx(10.0)
    assert overhead.LOADS["nothing"].ideal == 0.0


def test_rows_give_medians_and_all_runs():
    sides = runs(**{overhead.OURS: [11.0, 13.0, 12.0], overhead.PEER: [20.0, 26.0, 48.0]})
    ours, peer = overhead.rows(overhead.LOADS["second"], sides)
    assert ours == [overhead.OURS, 12.0, pytest.approx(1.2), 0.5, 24.0, 0.5, [11.0, 13.0, 12.0], [22.0, 26.0, 24.0]]
    assert peer[3] == peer[5] == 1.0


@pytest.mark.parametrize(("ours", "verdict"), [(11.5, "1.15 x ideal; at most 1.15 wanted: met"), (11.6, "**missed**")])
def test_the_verdict_is_on_the_target(ours, verdict):
    (line,) = overhead.verdicts({"second": runs(**{overhead.OURS: [ours], overhead.PEER: [20.0]})})
    assert line.endswith(verdict)


def test_a_page_shows_only_what_was_run():
    imports = runs(**{overhead.OURS: [10.0], overhead.PEER: [29.0]})
    page = "\n\n".join(overhead.page({"imports": imports}, "# top"))
    assert "2.9 x as fast as Ray Tune; at least 3 x wanted: **missed**" in page
    assert "trials of nothing" not in page


def test_kept_values_are_counted_rung_by_rung():
    restart = truth.Restart(before={1: [0.1, 0.1, 0.2], 3: [0.3]}, after={1: [0.1, 0.2, 0.4], 3: []})
    assert (restart.kept, restart.recorded) == (2, 4)


@pytest.mark.parametrize(("form", "said"), [("onnx", "met"), ("torch", "")])
def test_ratios_of_pruning_are_taken_inside_of_a_round_and_judged_in_one_form(form, said):
    told = {"texts": "as they are", "tokens": 21.5, "batch": 1, "what": "model alone"}
    told |= {"model": "removed, onnx", "peer": f"dense, {form}"}
    times = [(6.0, 10.0), (14.0, 20.0), (2.4, 4.0)]
    rounds = [[{**told, "ms": {"model": model, "peer": peer}}] for model, peer in times]
    *_, title, page = pruning.removal(rounds)
    assert title == f"### removed, onnx / dense, {form}"
    head, _, line = page.splitlines()
    assert f"| removed, onnx, ms | dense, {form}, ms |" in head
    assert line == f"| as they are | 21.50 | 1 | model alone | 6.00 | 10.00 | 0.60 | {said} | 0.60, 0.70, 0.60 |"


def test_all_forms_of_a_smaller_model_are_compared_with_dense_ones():
    pairs = pruning_removal.LIKE + pruning_removal.UNLIKE
    assert len(set(pairs)) == len(pairs) == 6
    assert all(model.startswith("removed, ") and peer.startswith("dense, ") for model, peer in pairs)


@pytest.mark.parametrize(
    ("milliseconds", "said"), [(70.0, "met"), (71.0, "**missed**"), (100.0, "does not help on this processor")]
)
def test_a_quantised_model_is_held_against_both_dense_ones(milliseconds, said):
    times = {"torch": 100.0, "onnx": 50.0, "onnx int8": milliseconds}
    rounds = [[{"kind": "onnx int8", "batch": 16, "bytes": 1234567, "ms": times}]]
    *_, line = pruning.quantise(rounds)[-1].splitlines()
    shown = f"{milliseconds:.2f} | {milliseconds / 100:.2f} | {milliseconds / 50:.2f}"
    assert line == f"| onnx int8 | 16 | 1,234,567 | {shown} | {said} |"


@pytest.mark.parametrize(("alone", "said"), [(0.005, "5.00 % | met"), (0.006, "6.00 % | **missed**")])
def test_the_share_of_masks_is_one_of_the_masked_step(alone, said):
    seconds = {"plain": 0.08, "masked": 0.1, "masks alone": alone}
    *_, line = pruning.masking([[{"masks": "weights", "seconds": seconds}]])[-1].splitlines()
    assert line == f"| weights | 80.00 | 100.00 | 1.25 | {said} |"


def test_the_loop_is_compared_on_the_matrix_that_it_ran_on():
    found = {"weights": 110888448, "all": 2.5, "square": 0.004, "square, as a loop": 2.0}
    page = "\n".join(pruning.two_four([found]))
    assert (
        "all 110,888,448 weights of ModernBERT-base's matrices, at random: 2.50 s; at most 2 s wanted: **missed**"
        in page
    )
    assert "4.00 ms, by a plain loop 2000 ms, 500 x as long" in page


def test_the_timed_matrices_are_those_of_modernbert_and_the_loop_chooses_the_same():
    assert sum(outputs * inputs for outputs, inputs in pruning_sides.MODERNBERT) == 110_888_448
    weights = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(pruning_sides.looped(weights), two_of_four(weights.abs(), 1))


def test_joined_texts_have_as_many_words_as_are_asked_for():
    texts = pruning_removal.joined(["a b c", "d e"], 4)
    assert texts[:2] == ["a b c d", "e a b c"]
    assert len(texts) == 8 * 16


def test_half_of_every_layer_is_removed():
    model, _ = pruning_removal.text_model({"encoder": "embedded"})
    whole, half = sizes_of(model.encoder), sizes_of(pruning_removal.halved(model).encoder)
    assert half == {kind: [(count + 1) // 2 for count in counts] for kind, counts in whole.items()}


def frozen_runs(stored):
    """Two repeats, each unfrozen epoch behind the first one of 10 and 20 seconds."""
    unfrozen = [[50.0, 10.0], [50.0, 20.0]]
    epochs = {
        frozen_sides.UNFROZEN: unfrozen,
        frozen_sides.MAKING: [[5.0, stored], [5.0, stored]],
        frozen_sides.FROZEN: [[9.0, 9.0, stored, stored]] * 2,
    }
    whole = {frozen_sides.UNFROZEN: 60.0, frozen_sides.MAKING: 90.0, frozen_sides.FROZEN: 30.0}
    return {
        side: [{"epochs": one, "whole": whole[side], "bytes": 2e6} for one in many] for side, many in epochs.items()
    }


@pytest.mark.parametrize(("stored", "ratio", "met"), [(0.75, "20.0", "met"), (0.8, "18.8", "**missed**")])
def test_frozen_epochs_are_compared_in_their_own_repeat_without_the_first(stored, ratio, met):
    runs = frozen_runs(stored)
    *_, unfrozen, frozen = multitask_frozen.rates(runs).splitlines()
    assert unfrozen == "| unfrozen | 4.00 | 1.0 |  | 10.000, 20.000 |"
    assert frozen == f"| {frozen_sides.FROZEN} | {60 / stored:.2f} | {ratio} | {met} | {stored:.3f}, {stored:.3f} |"
    told, making = multitask_frozen.verdict(runs).splitlines()
    assert told == f"- frozen, {ratio} x the epochs a minute of the unfrozen one; at least 20 x wanted: {met}"
    assert making == (  # 60 seconds in epochs of 10 and 20
        "- making the states takes 60.0 s once in a sweep, before the first epoch: as long as 4.5 unfrozen epochs; "
        "they are 2.0 MB"
    )


def test_a_frozen_side_finds_what_the_one_before_has_made(tmp_path, monkeypatch):
    (shared := tmp_path / "shared").mkdir()
    options = {"topic": "synthetic", "sentiment": "synthetic", "rows": 32, "select_share": 0.01}
    options |= {"encoder": "embedded", "threads": 1, "epochs": 2, "frozen_epochs": 3, "seed": 0, "shared": str(shared)}
    found = {}
    for number, side in enumerate(frozen_sides.SIDES):
        (folder := tmp_path / str(number)).mkdir()
        monkeypatch.setattr("sys.argv", ["side", str(folder), side, json.dumps(options)])
        frozen_sides.main()
        found[side] = json.loads((folder / measured.RESULT).read_text())
    assert [len(found[side]["epochs"]) for side in frozen_sides.SIDES] == [2, 3, 3]
    assert [found[side]["bytes"] > 0 for side in frozen_sides.SIDES] == [False, True, False]
    assert all(sum(one["epochs"]) <= one["whole"] for one in found.values())


def test_tables_are_read_by_process_without_a_torn_line(tmp_path):
    notes = [{"process": 1, "rungs": {}}, {"process": 1, "rungs": {"1": [0.5]}}, {"process": 2, "rungs": {"1": [0.5]}}]
    lines = "".join(json.dumps(note) + "\n" for note in notes)
    (tmp_path / truth.RUNGS).write_text(lines + '{"process": 2, "ru')
    assert truth.tables(tmp_path) == {1: {1: [0.5]}, 2: {1: [0.5]}}
    assert truth.tables(tmp_path, first=True) == {1: {}, 2: {1: [0.5]}}


def test_a_table_is_markdown():
    assert (
        measured.table(["side", "s"], [["ours", [1.0, 2.345]]]) == "| side | s |\n| --- | --- |\n| ours | 1.00, 2.35 |"
    )


def test_a_trial_of_nothing_marks_its_span_and_goes_on_where_it_was(tmp_path):
    marks = tmp_path / "marks"
    assert list(nothing.train(str(marks), 0.8, flat=False, done=7)) == [0.8 * (1 - 0.5**8), 0.8 * (1 - 0.5**9)]
    assert len(marks.read_text().split()) == 3
    marks.write_text("12.5\n10.0\n11.0\n")
    assert nothing.span(marks) == 2.5


def test_the_sweep_of_nothing_runs_every_trial_to_its_end(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(measured.ROOT / "benchmarks" / "recipes"))
    sweep = idle_sweep(tmp_path, 5, {"marks": str(tmp_path / "marks")}, 1)
    inline.run(sweep, tmp_path)
    assert [(trial.outcome, trial.step) for trial in sweep.trials.values()] == [("complete", nothing.STEPS)] * 5


@pytest.mark.parametrize("main", [overhead.main, truth.main, pruning.main, multitask_frozen.main])
def test_wrong_arguments_are_told(main, capsys):
    with pytest.raises(SystemExit):
        main(["--loads", "everything", "--parts", "everything"])
    assert "usage:" in capsys.readouterr().err
