"""The view of a sweep, rebuilt from its journal: exact on a known story, and whole for a journal cut anywhere."""

import io
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from raysweep.problems import UserError
from raysweep.report import SweepView, explain, print_summary, status
from raysweep.report.trial_view import plain
from raysweep.report.wording import (
    arm_name,
    by_part,
    duration,
    headline,
    interval,
    number,
    score_name,
    short_names,
    size,
)
from tests import journals

Record = dict[str, Any]


def stamped(events: list[journals.Event], start: float = 1000.0) -> list[Record]:
    """Events as the journal's records, one a second."""
    return [{"kind": kind, "time": start + place, **fields} for place, (kind, fields) in enumerate(events)]


def shown(renderable: Any, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


COMPLETE = stamped(journals.sweep())


def asked(number: int, **config: Any) -> journals.Event:
    place = {"number": number, "role": "search", "arm": None, "of": None, "seed": 1, "params": {}}
    return "asked", {"trial": f"t{number:04d}", "config": config, **place}


def started(trial: str, attempt: int = 1, step: int = 0) -> journals.Event:
    return "started", {"trial": trial, "attempt": attempt, "process": 1, "node": "here", "step": step}


def reported(trial: str, step: int, value: float) -> journals.Event:
    return "reported", {"trial": trial, "step": step, "metrics": {"spearman": value}, "seconds": 2.0}


def finished(trial: str, outcome: str, value: float | None) -> journals.Event:
    return "finished", {
        "trial": trial,
        "outcome": outcome,
        "step": 1,
        "value": value,
        "values": {},
        "seconds": 2.0,
    }


def story(*events: journals.Event) -> SweepView:
    return SweepView.from_records(stamped([journals.head(), *events]), running=True)


def test_a_whole_sweep() -> None:
    view = SweepView.from_records(COMPLETE)
    assert (view.state, view.phase, view.synthetic, view.resumed) == ("ended", "over", True, 0)
    assert view.counts() == {"complete": 4, "stopped": 2, "failed": 1, "infeasible": 1}
    assert view.best is view.trials["t0007"]
    assert view.best.value == pytest.approx(0.5 + 0.07 + 0.2)
    assert list(view.varying) == ["lr", "layers"]
    assert view.winner is not None
    assert view.winner.arm == "finalist-1"
    assert view.champion is view.trials["t0008"]
    assert len(view.opened) == len(view.confirming) == view.proof_trials == 4
    assert view.elapsed == len(COMPLETE) - 1
    assert headline(view) == (
        "On 2 fresh seeds and the report split the winner 'finalist-1' scores spearman 0.760 [0.740, 0.780]; "
        "against 'plain' the difference is +0.06 [+0.01, +0.11]: better."
    )


@given(st.integers(0, len(COMPLETE)), st.booleans())
def test_a_journal_cut_anywhere_gives_a_view_that_renders(cut: int, running: bool) -> None:
    view = SweepView.from_records(COMPLETE[:cut], running)
    assert sum(view.counts().values()) == len(view.search)
    assert view.begun == (cut > 0)
    assert not view.running or view.state == "running"
    assert shown(status(view, unshipped=cut))
    for trial in view.trials:
        assert trial in shown(explain(view, trial))


@given(st.lists(st.integers(0, len(COMPLETE)), min_size=1, max_size=4, unique=True))
def test_pauses_do_not_count_as_time(cuts: list[int]) -> None:
    records, pause = [], 0.0
    for place, record in enumerate(COMPLETE):
        if place in cuts and place > 0:
            pause += 500.0
            records.append({"kind": "resumed", "time": record["time"] + pause - 1.0})
        records.append({**record, "time": record["time"] + pause})
    view = SweepView.from_records(records)
    assert view.resumed == len(records) - len(COMPLETE)
    assert view.elapsed == len(COMPLETE) - 1


def test_a_stopped_trial_with_a_better_value_is_not_the_best() -> None:
    ask = [asked(0, lr=1), asked(1, lr=2)]
    view = story(*ask, finished("t0000", "complete", 0.5), finished("t0001", "stopped", 0.9))
    assert (view.best, view.leading) == (view.trials["t0000"], view.trials["t0001"])


def test_a_value_that_is_not_finite_is_never_the_best() -> None:
    ask = [asked(0, lr=1), asked(1, lr=2)]
    view = story(*ask, finished("t0000", "complete", math.nan), finished("t0001", "complete", 0.1))
    assert view.best is view.trials["t0001"]


def test_the_smallest_is_best_when_the_goal_is_to_minimize() -> None:
    head = journals.head()[1]
    spec = {**head["spec"], "objectives": [{"metric": "spearman", "goal": "minimize"}]}
    ask = [asked(0, lr=1), asked(1, lr=2), finished("t0000", "complete", 0.5), finished("t0001", "complete", 0.9)]
    view = SweepView.from_records(stamped([("sweep", {**head, "spec": spec}), *ask]))
    assert view.best is view.trials["t0000"]


def test_rungs_count_who_arrived_and_went_on() -> None:
    events = [asked(place, lr=place) for place in range(3)]
    for place, (step, action) in enumerate([(1, "go on"), (1, "stop"), (2, "go on")]):
        decision = {"trial": f"t{place:04d}", "step": step, "action": action, "rung": 1, "cutoff": 0.5 + place}
        events.append(("decided", {**decision, "reason": "rank 1 of 3", "rank": 1, "of": 3}))
    (rung,) = story(*events).rungs
    assert (rung.step, rung.arrived, rung.went_on, rung.stopped, rung.cutoff) == (1, 3, 2, 1, 2.5)


def test_a_second_attempt_goes_on_from_its_checkpoint() -> None:
    lost = ("failed", {"trial": "t0000", "attempt": 1, "cause": "lost process", "error": "gone", "again": True})
    first = [asked(0, lr=1), started("t0000"), reported("t0000", 1, 0.1), reported("t0000", 2, 0.2), lost]
    trial = story(*first, started("t0000", 2, step=1), reported("t0000", 3, 0.3)).trials["t0000"]
    assert trial.series("spearman") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert (trial.attempt, trial.restored, trial.step, trial.state, trial.seconds) == (2, 1, 3, "running", 6.0)


def test_an_interrupted_sweep_says_so_until_it_is_resumed() -> None:
    records = stamped([journals.head(), asked(0, lr=1), started("t0000")])
    cut = SweepView.from_records(records)
    assert (cut.state, cut.trials["t0000"].state) == ("interrupted", "interrupted")
    again = stamped([("resumed", {}), started("t0000", 2)], start=2000.0)
    view = SweepView.from_records([*records, *again], running=True)
    assert (view.state, view.trials["t0000"].state, view.resumed) == ("running", "running", 1)


def test_a_missing_setting_differs_from_every_value() -> None:
    view = story(asked(0, lr=1, depth=2), asked(1, lr=1))
    assert list(view.varying) == ["depth"]


def test_measurements_of_an_arm_are_means_over_the_trials_that_have_them() -> None:
    view = SweepView.from_records(COMPLETE)
    finalist, reference = view.arms
    assert view.measured(finalist, "bytes") == 4800
    assert view.measured(finalist, "spearman") == pytest.approx((0.78 + 0.79) / 2)
    assert view.measured(reference, "latency_ms") is None


def test_explain_says_what_a_stopped_trial_needed() -> None:
    text = shown(explain(SweepView.from_records(COMPLETE), "t0001"), width=200)
    assert "stopped at step 2: rank 3 of 3 at rung 0." in text
    assert "It had 0.61 spearman and needed at least 0.6" in text


def test_explain_says_which_line_failed_and_whether_it_was_tried_again() -> None:
    failure = {"trial": "t0000", "cause": "memory", "error": "\x1b[31mOut of\nmemory\x1b[0m"}
    tried = [("failed", {**failure, "attempt": n, "again": n == 1}) for n in (1, 2)]
    view = story(asked(0, lr=1), started("t0000"), *tried, finished("t0000", "failed", None))
    text = shown(explain(view, "t0000"))
    assert "attempt 1 failed (memory): Out of memory; tried again" in text
    assert "attempt 2 failed (memory): Out of memory; given up" in text
    assert "\x1b" not in text


def test_an_unknown_trial_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown trial 't0O03' \(did you mean 't0003'\?\)"):
        explain(SweepView.from_records(COMPLETE), "t0O03")


def test_names_are_not_read_as_markup_of_the_terminal() -> None:
    view = story(asked(0, **{"a[/b]": "[red]x[/]"}), started("t0000"), reported("t0000", 1, 0.5))
    assert "[red]x[/]" in shown(explain(view, "t0000"))
    assert "a[/b]" in shown(status(view))


@pytest.mark.parametrize("width", [20, 60, 200])
def test_the_last_line_of_the_summary_is_the_whole_path(width: int, tmp_path: Any) -> None:
    report = tmp_path / ("long " * 30) / "report.html"
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_summary(console, SweepView.from_records(COMPLETE), report)
    assert console.file.getvalue().splitlines()[-1] == str(report)


def test_status_tells_the_trackers_backlog() -> None:
    view = SweepView.from_records(COMPLETE)
    assert "12.3 kB behind" in shown(status(view, 12_345))
    assert "have everything" in shown(status(view, 0))
    assert "trackers" not in shown(status(view))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (number(0.83217), "0.8322"),
        (number(22_713_216), "22,713,216"),
        (number(0.00001234), "1.234e-05"),
        (number(None), "not measured"),
        (number(math.nan), "nan"),
        (interval(0.8312, 0.811, 0.851), "0.831 [0.811, 0.851]"),
        (interval(0.0021, -0.004, 0.008, sign="+"), "+0.002 [-0.004, +0.008]"),
        (interval(55.2, 31.0, 80.0), "55 [31, 80]"),
        (interval(0.5, 0.5, 0.5), "0.5000 [0.5000, 0.5000]"),
        (size(2_400_000), "2.4 MB"),
        (size(1536), "1,536 bytes"),
        (duration(4.24), "4.2 s"),
        (duration(75), "75 s"),
        (duration(3570), "1 h 00 min"),
        (duration(11_100), "3 h 05 min"),
        (duration(200_000), "2 d 7 h"),
        (plain("\x1b[1;31mred\x1b[0m\r\n next\x07"), "red next"),
    ],
)
def test_numbers_have_sensible_digits(said: str, meant: str) -> None:
    assert said == meant


def test_short_names_stay_clear() -> None:
    paths = ["train.lr", "a.dim", "b.dim", "dendrites.enabled"]
    assert list(short_names(paths).values()) == ["lr", "a.dim", "b.dim", "dendrites.enabled"]


def test_rows_of_parts_stand_under_their_names() -> None:
    rows = {
        "train": 3,
        "report": 5,
        "train left out": 1,
        "topic train": 2,
        "topic report": 4,
        "topic train left out": 1,
    }
    assert by_part(rows) == {
        "": {"train": 3, "report": 5, "train left out": 1},
        "topic": {"train": 2, "report": 4, "train left out": 1},
    }
    assert by_part({}) == {"": {}}


def test_a_further_score_says_once_what_scores_it() -> None:
    assert score_name("topic accuracy", "accuracy") == "topic accuracy"
    assert score_name("validation_mismatched", "accuracy") == "validation_mismatched: accuracy"


def test_a_terminal_shows_remaining_errors_further_scores_and_the_value_of_each_arm() -> None:
    records = [dict(record) for record in COMPLETE]
    spec = records[0]["spec"]
    records[0]["spec"] = {**spec, "confirm": {**spec["confirm"], "per": "layers"}}
    found = next(record for record in records if record["kind"] == "confirmed")
    hard = {"statistic": "f1", "mean": 0.5, "low": 0.4, "high": 0.6, "per_seed": [0.45, 0.55]}
    found["arms"] = [{**arm, "others": {"hard": hard}} for arm in found["arms"]]
    error = {"value": -0.05, "low": -0.1, "high": 0.03}
    found["comparisons"] = [{**row, "error_reduction": error} for row in found["comparisons"]]
    said = " ".join(shown(status(SweepView.from_records(records)), width=160).split())
    assert "against 'plain (layers=1)' the difference is +0.06 [+0.01, +0.11]" in said
    assert "remaining error +5 % [-3 %, +10 %]: better" in said
    assert "hard: f1 finalist-1 (layers=1) 0.50 [0.40, 0.60]" in said
    assert "further score" not in shown(status(SweepView.from_records(COMPLETE)))


def test_an_arm_is_told_by_all_values_that_the_proof_compares() -> None:
    records = [dict(record) for record in COMPLETE]
    spec = records[0]["spec"]
    records[0]["spec"] = {**spec, "confirm": {**spec["confirm"], "per": ["layers", "kind"]}}
    found = next(record for record in records if record["kind"] == "confirmed")
    found["arms"] = [{**arm, "config": {"layers": 2, "kind": "deep"}} for arm in found["arms"]]
    view = SweepView.from_records(records)
    assert arm_name("finalist-1", view) == "finalist-1 (layers=2, deep)"


def test_the_trainings_of_the_proof_are_counted_by_value() -> None:
    spec = journals.spec()
    spec["confirm"] |= {"per": "layers", "top": 3}
    head = ("sweep", {**journals.head()[1], "spec": spec})
    searched = [event for number in range(6) for event in journals.trial(number, "complete" if number else "stopped")]
    view = SweepView.from_records(stamped([head, *searched]))
    assert view.proof_trials == (2 * 3 + 1) * 2  # as many as there may be
    began = journals.trial(6, "complete", "finalist", "finalist-1")
    # layers=1 has two complete trials, layers=2 has three
    assert SweepView.from_records(stamped([head, *searched, *began])).proof_trials == (2 + 3 + 1) * 2
