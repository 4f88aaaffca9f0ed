"""The sweep as a function of its journal: cut anywhere, it goes on as if it had never been interrupted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysweep.journal import FILE, Journal, Record, records
from raysweep.space import compile_space
from raysweep.spec import SweepSpec
from raysweep.sweep import Sweep, TrialState, signature
from raysweep.yaml_file import Place

SPACE = {"quality": {"uniform": [0.0, 1.0]}, "epochs": 9}


def make_spec(**changes: Any) -> SweepSpec:
    content = {
        "schema": "sweep/v1",
        "name": "toy-sweep",
        "recipe": "toy",
        "seed": 5,
        "space": SPACE,
        "objectives": [{"metric": "score"}],
        "searcher": {"startup_trials": 4},
        "budget": {"trials": 12},
        "references": {"low": {"quality": 0.0}},
        "confirm": {"top": 2, "seeds": [1, 2]},
        **changes,
    }
    return SweepSpec.model_validate(content)


def open_sweep(folder: Path, spec: SweepSpec | None = None) -> Sweep:
    spec = spec or make_spec()
    journal = Journal(folder / FILE)
    if not records(journal.path):
        journal.append("sweep", version="sweep/v1")
    return Sweep(spec, compile_space(spec.space, [], Place()), journal)


def curve(trial: TrialState, step: int) -> float:
    """The toy recipe's curve, noise from the seed left out."""
    return float(trial.config["quality"] * (1 - 0.5**step))


def one_step(sweep: Sweep, trial: TrialState, score: Callable[[TrialState, int], float] = curve) -> bool:
    step = max(trial.step, 0) + 1
    if step > 9:
        proof = [{"kind": "evaluated", "metrics": {}}] if trial.role != "search" else []
        return sweep.receive(trial.id, [*proof, {"kind": "finished", "outcome": "complete"}])
    started = [{"kind": "started", "process": 1, "node": "here", "step": 0}] if not trial.attempts else []
    reported = {"kind": "reported", "step": step, "metrics": {"score": score(trial, step)}, "seconds": 1.0}
    return sweep.receive(trial.id, [*started, reported])


def run(sweep: Sweep, parallel: int = 2) -> None:
    """Two trials at a time, in turn: the arrival order is fixed."""
    running: list[TrialState] = []
    while True:
        while len(running) < parallel and isinstance(trial := sweep.next(), TrialState):
            running.append(trial)
        if not running:
            return
        running = [trial for trial in running if one_step(sweep, trial)]


def essence(found: list[Record]) -> list[Record]:
    """What was asked, reported and decided; who evaluated how often is not part of it."""
    kept = [record for record in found if record["kind"] not in ("sweep", "resumed", "started", "evaluated")]
    return [{key: value for key, value in record.items() if key not in ("time", "attempt")} for record in kept]


def test_the_search_stops_the_weak_and_proves_the_strong(tmp_path: Path) -> None:
    sweep = open_sweep(tmp_path)
    run(sweep)
    outcomes = [trial.outcome for trial in sweep.trials.values() if trial.role == "search"]
    assert len(outcomes) == 12
    assert set(outcomes) == {"complete", "stopped"}
    best = sweep.winners[0]
    assert best.config["quality"] == max(t.config["quality"] for t in sweep.trials.values() if t.outcome == "complete")
    arms = {(t.arm, t.seed, t.of) for t in sweep.trials.values() if t.role != "search"}
    second = sweep.winners[1]
    assert arms == {
        (a, s, o.id) for a, o in [("finalist-1", best), ("finalist-2", second), ("low", best)] for s in (1, 2)
    }
    assert all(t.step == 9 for t in sweep.trials.values() if t.role != "search")  # the proof stops nobody
    assert next(t for t in sweep.trials.values() if t.arm == "low").config["quality"] == 0.0
    assert sweep.next() == "over"


KINDS = {"quality": {"uniform": [0.0, 1.0]}, "kind": {"grid": ["a", "b", "c"]}, "epochs": 9}
BY_KIND = {"space": KINDS, "scheduler": {"type": "fifo"}, "confirm": {"top": 2, "per": "kind", "seeds": [1, 2]}}


def test_the_finalists_are_the_best_of_each_value(tmp_path: Path) -> None:
    sweep = open_sweep(tmp_path, make_spec(**BY_KIND))
    run(sweep)
    searched = [trial for trial in sweep.trials.values() if trial.role == "search"]
    best = {
        kind: sorted((t.config["quality"] for t in searched if t.config["kind"] == kind), reverse=True)[:2]
        for kind in ("a", "b", "c")
    }
    finalists = {t.arm: t for t in sweep.trials.values() if t.role == "finalist" and t.seed == 1}
    assert list(finalists) == [f"finalist-{place}" for place in range(1, 7)]
    found = [(t.config["kind"], t.config["quality"]) for t in finalists.values()]
    assert sorted(found) == sorted((kind, quality) for kind, qualities in best.items() for quality in qualities)
    assert [quality for _, quality in found] == sorted((quality for _, quality in found), reverse=True)
    low = next(trial for trial in sweep.trials.values() if trial.arm == "low")
    assert (low.of, low.config["kind"]) == (finalists["finalist-1"].of, finalists["finalist-1"].config["kind"])


def test_without_groups_the_finalists_are_the_best_of_all(tmp_path: Path) -> None:
    sweep = open_sweep(tmp_path, make_spec(**{**BY_KIND, "confirm": {"top": 3}}))
    run(sweep)
    assert sweep.finalists == sweep.winners[:3]


def test_where_a_setting_is_inactive_is_a_group_of_its_own(tmp_path: Path) -> None:
    space = {**SPACE, "extra": {"choice": [1, None], "when": "quality > 0.5"}}
    confirm = {"top": 1, "per": "extra", "seeds": [1]}
    sweep = open_sweep(tmp_path, make_spec(space=space, scheduler={"type": "fifo"}, confirm=confirm))
    run(sweep)
    groups = [trial.config.get("extra", "inactive") for trial in sweep.finalists]
    assert sorted(map(str, groups)) == ["1", "None", "inactive"]


def test_two_settings_make_a_group_of_each_combination(tmp_path: Path) -> None:
    space = {**KINDS, "share": {"grid": [0.3, 0.5]}}
    confirm = {"top": 1, "per": ["kind", "share"], "seeds": [1]}
    sweep = open_sweep(tmp_path, make_spec(**{**BY_KIND, "space": space, "confirm": confirm}))
    run(sweep)
    found = sorted((trial.config["kind"], trial.config["share"]) for trial in sweep.finalists)
    assert found == [(kind, share) for kind in ("a", "b", "c") for share in (0.3, 0.5)]


def follow(sweep: Sweep, script: list[Record]) -> None:
    """Let the trials arrive in the order of another journal."""
    for _ in [trial for trial in sweep.trials.values() if trial.outcome is None]:
        assert isinstance(sweep.next(), TrialState)  # those that an earlier process began come first
    for record in script:
        if record["kind"] == "asked":
            trial = sweep.next()
            assert isinstance(trial, TrialState)
            assert trial.id == record["trial"]
        elif record["kind"] == "reported" or record.get("outcome") == "complete":
            one_step(sweep, sweep.trials[record["trial"]])


@pytest.mark.parametrize(("parallel", "changes"), [(1, {}), (3, {}), (3, BY_KIND)])
def test_cut_at_any_record_the_sweep_takes_the_same_decisions(
    tmp_path: Path, parallel: int, changes: dict[str, Any]
) -> None:
    spec = make_spec(**changes)
    whole = open_sweep(tmp_path / "whole", spec)
    run(whole, parallel)
    path = tmp_path / "whole" / FILE
    lines, theirs = path.read_bytes().splitlines(keepends=True), records(path)
    for cut in range(1, len(lines), 5):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        torn = lines[cut][: len(lines[cut]) // 2]
        (folder / FILE).write_bytes(b"".join(lines[:cut]) + torn)
        sweep = open_sweep(folder, spec)
        sweep.resume()
        follow(sweep, theirs[cut:])
        assert essence(records(folder / FILE)) == essence(theirs), f"cut at record {cut}"
        assert sweep.next() == "over"


def test_a_report_told_again_counts_once(tmp_path: Path) -> None:
    sweep = open_sweep(tmp_path)
    trial = sweep.next()
    assert isinstance(trial, TrialState)
    report = {"kind": "reported", "step": 1, "metrics": {"score": 0.3}, "seconds": 1.0}
    assert sweep.receive(trial.id, [report, report, {**report, "metrics": {"score": 9.0}}])
    assert [record["kind"] for record in records(tmp_path / FILE)].count("reported") == 1


def test_a_decision_that_was_not_yet_written_is_settled(tmp_path: Path) -> None:
    whole = open_sweep(tmp_path)
    run(whole)
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    stop = next(i for i, line in enumerate(lines) if b'"action":"stop"' in line)
    stopped = json.loads(lines[stop])
    (tmp_path / FILE).write_bytes(b"".join(lines[:stop]))  # the report is there, the decision is not
    sweep = open_sweep(tmp_path)
    assert sweep.trials[stopped["trial"]].outcome is None
    sweep.resume()
    assert sweep.trials[stopped["trial"]].outcome == "stopped"
    assert stopped["trial"] not in {trial.id for trial in [sweep.next()] if isinstance(trial, TrialState)}


def fail(sweep: Sweep, error: str, cause: str = "exception") -> None:
    trial = sweep.next()
    assert isinstance(trial, TrialState)
    failed = {"kind": "failed", "cause": cause, "error": error, "again": False}
    sweep.receive(trial.id, [failed, {"kind": "finished", "outcome": "failed"}])


def test_three_identical_failures_in_a_row_stop_the_sweep_with_the_reason(tmp_path: Path) -> None:
    sweep = open_sweep(tmp_path)
    for number in range(3):
        assert sweep.halted is None
        fail(sweep, f"ValueError: row {number} at 0x{number:x}f in /data/{number}.csv")
    assert sweep.next() == "over"
    assert sweep.halted == "3 trials in a row failed alike: ValueError: row 2 at 0x2f in /data/2.csv"
    again = open_sweep(tmp_path)
    assert again.halted == sweep.halted
    again.resume()  # the user has mended it
    assert isinstance(again.next(), TrialState)


def test_different_failures_or_a_success_between_them_do_not(tmp_path: Path) -> None:
    sweep = open_sweep(tmp_path)
    for error in ("ValueError: a", "ValueError: b", "ValueError: a"):
        fail(sweep, error)
    assert sweep.halted is None
    run(sweep)
    assert sweep.next() == "over"
    assert sweep.halted is None


def test_a_lost_process_is_taken_up_again_or_fails(tmp_path: Path) -> None:
    sweep = open_sweep(tmp_path)
    trial = sweep.next()
    assert isinstance(trial, TrialState)
    sweep.lost(trial.id, "ActorDiedError", again=True)
    assert trial.outcome is None
    sweep.lost(trial.id, "ActorDiedError", again=False)
    assert trial.outcome == "failed"


def test_a_recipe_that_does_not_report_the_objective_fails_in_words(tmp_path: Path) -> None:
    sweep = open_sweep(tmp_path)
    trial = sweep.next()
    assert isinstance(trial, TrialState)
    assert not sweep.receive(trial.id, [{"kind": "reported", "step": 1, "metrics": {"loss": 1.0}, "seconds": 1.0}])
    failed = records(tmp_path / FILE)[-2]
    assert failed["error"] == "the recipe reported no 'score' (known: loss)"
    assert trial.outcome == "failed"


def test_without_finalists_there_is_no_proof(tmp_path: Path) -> None:
    sweep = open_sweep(tmp_path, make_spec(confirm={"top": 0}))
    run(sweep)
    assert {trial.role for trial in sweep.trials.values()} == {"search"}


def test_a_spent_wall_budget_asks_no_more(tmp_path: Path) -> None:
    sweep = open_sweep(tmp_path, make_spec(budget={"trials": 12, "wall_minutes": 1e-9}, confirm={"top": 0}))
    run(sweep)
    assert len(sweep.trials) <= 1


def test_signatures_leave_out_what_differs_by_chance() -> None:
    assert signature("Error at 0x7f in /a/b.py line 3") == signature("Error at 0x80 in /c/d.py line 44")
    assert signature("KeyError: 'a'") != signature("KeyError: 'b'")
