"""What a trial's process tells, in good times and bad; the recipe is the toy of tests/recipes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysweep.engine import checkpoint
from raysweep.engine.isolated import IsolatedRunner, ProcessLostError, runner_for
from raysweep.engine.runner import Assignment, Outcome, Runner
from raysweep.predictions import load_predictions
from raysweep.trial import Stretch


def assignment(folder: Path, **changes: Any) -> Assignment:
    config = {"quality": 0.8, "epochs": 4, **changes.pop("config", {})}
    given = {"trial": "t0001", "recipe": "toy", "seed": 3, "steps": 9, "every": 1, **changes}
    return Assignment(config=config, sweep_folder=str(folder), **given)


def drive(runner: Runner | IsolatedRunner, task: Assignment, most: int = 50) -> list[dict[str, Any]]:
    runner.begin(task)
    events: list[dict[str, Any]] = []
    for _ in range(most):
        outcome: Outcome = runner.step()
        events += outcome.events
        if outcome.over:
            break
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in events]


def test_a_trial_from_start_to_finish(tmp_path: Path) -> None:
    events = drive(Runner(), assignment(tmp_path))
    assert kinds(events) == ["started", *["reported", "saved"] * 4, "finished"]
    assert [event["step"] for event in events if event["kind"] == "reported"] == [1, 2, 3, 4]
    assert events[-1]["outcome"] == "complete"
    assert (tmp_path / "trials/t0001/closed").exists()


def test_the_step_limit_completes_a_trial(tmp_path: Path) -> None:
    events = drive(Runner(), assignment(tmp_path, steps=2))
    assert kinds(events) == ["started", "reported", "saved", "reported", "finished"]


def test_checkpoints_every_second_step_and_before_the_proof(tmp_path: Path) -> None:
    events = drive(Runner(), assignment(tmp_path, every=2, steps=3, prove=True))  # the proof may be long
    assert [event["step"] for event in events if event["kind"] == "saved"] == [2, 3]


def test_a_lost_process_tells_its_last_report_again_and_goes_on(tmp_path: Path) -> None:
    whole = drive(Runner(), assignment(tmp_path / "whole"))
    drive(Runner(), assignment(tmp_path), most=3)
    events = drive(Runner(), assignment(tmp_path))
    assert events[0] == {**whole[0], "step": 2}
    reported = [(event["step"], event["metrics"]) for event in events if event["kind"] == "reported"]
    assert reported == [(e["step"], e["metrics"]) for e in whole if e["kind"] == "reported"][1:]


def test_an_exception_is_an_outcome_with_its_last_line(tmp_path: Path) -> None:
    runner = Runner()
    events = drive(runner, assignment(tmp_path, config={"trouble": "raise"}))
    assert kinds(events)[-2:] == ["failed", "finished"]
    assert events[-2]["error"] == "ValueError: no luck in t0001"
    assert events[-2]["cause"] == "exception"
    assert "Traceback" in (tmp_path / "trials/t0001/error.txt").read_text()
    assert (tmp_path / "trials/t0001/closed").exists()
    again = drive(runner, assignment(tmp_path, trial="t0002"))
    assert again[-1] == {"kind": "finished", "outcome": "complete"}  # the process stays good for the next trial


def test_nan_is_infeasible_at_once(tmp_path: Path) -> None:
    events = drive(Runner(), assignment(tmp_path, config={"trouble": "nan"}))
    assert kinds(events) == ["started", "reported", "saved", "failed", "finished"]
    assert events[-2]["error"] == "score is nan at step 2"
    assert events[-1]["outcome"] == "infeasible"


def test_out_of_memory_halves_the_micro_batch_and_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    events = drive(Runner(), assignment(tmp_path, config={"trouble": "memory"}))
    assert [event["accumulate"] for event in events if event["kind"] == "adapted"] == [2, 4]
    reported = [event for event in events if event["kind"] == "reported"]
    assert [event["step"] for event in reported] == [1, 2, 3, 4]
    assert [event["metrics"]["accumulate"] for event in reported] == [1, 4, 4, 4]
    saved = checkpoint.load(tmp_path / "trials/t0001" / checkpoint.FILE)
    assert saved["accumulate"] == 4  # a process that takes the trial up again does not run out once more


def test_an_unknown_setting_fails_the_trial_in_words(tmp_path: Path) -> None:
    events = drive(Runner(), assignment(tmp_path, config={"qualty": 1.0}))
    assert kinds(events)[-2:] == ["failed", "finished"]


def test_the_proof_opens_the_report_split_last(tmp_path: Path) -> None:
    events = drive(Runner(), assignment(tmp_path, prove=True))
    assert kinds(events)[-3:] == ["opened", "evaluated", "finished"]
    proof = events[-2]
    loaded = np.load(tmp_path / proof["predictions"])
    assert loaded["predictions"].shape == loaded["targets"].shape == (50,)
    assert (tmp_path / proof["model"] / "model.safetensors").exists()
    assert "opened" not in kinds(drive(Runner(), assignment(tmp_path, trial="t0002")))


def test_further_scores_stand_in_the_same_file_and_in_the_record(tmp_path: Path) -> None:
    plain = drive(Runner(), assignment(tmp_path, prove=True))[-2]
    proof = drive(Runner(), assignment(tmp_path, trial="t0002", prove=True, config={"further": True}))[-2]
    assert (plain["others"], proof["others"]) == ({}, {"large/small": "f1"})
    loaded = load_predictions(tmp_path / proof["predictions"], proof["statistic"], proof["others"])
    without = load_predictions(tmp_path / plain["predictions"], plain["statistic"], plain["others"])
    np.testing.assert_array_equal(loaded.predictions, without.predictions)
    np.testing.assert_array_equal(loaded.others["large/small"].predictions, loaded.predictions.round())
    np.testing.assert_array_equal(loaded.others["large/small"].targets, loaded.targets.round())
    assert loaded.others["large/small"].statistic == "f1"
    assert without.others == {}


def test_what_scores_several_tasks_comes_back_from_the_record(tmp_path: Path) -> None:
    told = drive(Runner(), assignment(tmp_path, prove=True, config={"tasks": True, "further": True}))[-2]
    proof = json.loads(json.dumps(told))
    assert proof == told  # what the driver applies is what the journal will have
    assert proof["statistic"] == [["spearman", 50, 0.0], ["accuracy", 50, 0.5]]
    assert proof["others"] == {"large/small": "f1", "both": proof["statistic"]}
    loaded = load_predictions(tmp_path / proof["predictions"], proof["statistic"], proof["others"])
    assert (
        loaded.statistic == (Stretch("spearman", 50), Stretch("accuracy", 50, 0.5)) == loaded.others["both"].statistic
    )
    assert {type(one) for one in loaded.statistic} == {Stretch}


@pytest.mark.parametrize("config", [{}, {"further": True}])
def test_a_model_that_predicts_no_numbers_is_infeasible(tmp_path: Path, config: dict[str, Any]) -> None:
    events = drive(Runner(), assignment(tmp_path, prove=True, config={"trouble": "blind", **config}))
    assert kinds(events)[-2:] == ["failed", "finished"]
    assert events[-1]["outcome"] == "infeasible"


def test_an_untrained_reference_reports_step_zero(tmp_path: Path) -> None:
    events = drive(Runner(), assignment(tmp_path, config={"epochs": 0}, prove=True))
    assert kinds(events) == ["started", "reported", "saved", "opened", "evaluated", "finished"]


def test_isolated_trials_have_a_process_of_their_own(tmp_path: Path) -> None:
    task = assignment(tmp_path, config={"alone": True})
    runner = runner_for(task)
    assert isinstance(runner, IsolatedRunner)
    events = drive(runner, task)
    runner.close()
    assert events[0]["process"] != os.getpid()
    assert events[-1] == {"kind": "finished", "outcome": "complete"}
    assert isinstance(runner_for(assignment(tmp_path)), Runner)


def test_an_isolated_process_that_dies_is_lost(tmp_path: Path) -> None:
    task = assignment(tmp_path, config={"alone": True, "trouble": "die"})
    with pytest.raises(ProcessLostError, match="exit code -9"):
        drive(IsolatedRunner(), task)
    events = drive(IsolatedRunner(), task)
    assert events[0]["step"] == 1
    assert events[-1] == {"kind": "finished", "outcome": "complete"}
