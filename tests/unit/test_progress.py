"""The display of a running sweep: plain lines for logs, a live screen that fits, and never a reason to end a sweep."""

import io
import os
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from raysweep.report import Progress, SweepView
from raysweep.report.screen import left, screen
from raysweep.spec import BudgetSpec
from tests import journals

Record = dict[str, Any]


def stamped(events: list[journals.Event]) -> list[Record]:
    return [{"kind": kind, "time": 1000.0 + place, **fields} for place, (kind, fields) in enumerate(events)]


COMPLETE = stamped(journals.sweep())


def plain_lines(records: list[Record], file: Any = None) -> list[str]:
    console = Console(file=file or io.StringIO(), force_terminal=False, width=30)
    with Progress(console) as progress:
        for record in records:
            progress.on_record(record)
    assert progress.broken is None
    return console.file.getvalue().splitlines() if file is None else []


def test_a_log_has_one_plain_line_for_each_event_that_matters() -> None:
    trial = COMPLETE[: COMPLETE.index(next(r for r in COMPLETE if r.get("number") == 2))]
    assert plain_lines(trial) == [
        "0:00:00 sweep tiny: recipe toy, 16 trials on SYNTHETIC DATA",
        "0:00:02 t0000 started: lr=0.001 layers=1 note=plain",
        "0:00:11 t0000 complete at step 4, spearman 0.7 (1 of 16 over, best 0.7 t0000)",
        "0:00:13 t0001 started: lr=0.0005 layers=2",
        "0:00:18 t0001 at rung 0: rank 3 of 3, stop",
        "0:00:19 t0001 stopped at step 2, spearman 0.61 (2 of 16 over, best 0.7 t0000)",
    ]


def test_a_log_tells_failures_the_proof_and_the_end() -> None:
    told = " ".join(plain_lines(COMPLETE))
    for words in (
        "t0003 attempt 1 failed (exception), given up: ValueError: no",
        "t0008 started: finalist-1 seed 15",
        "(1 of 4 over)",
        "t0008 on the report split: spearman 0.78",
        "the winner 'finalist-1' scores spearman 0.760 [0.740, 0.780].",
        "registered tiny version 1 as @champion",
        "ended: all trials are done",
    ):
        assert words in told, words
    assert "\x1b" not in told


def test_a_second_attempt_says_where_it_goes_on() -> None:
    begun = COMPLETE[:4]
    again = {"kind": "started", "time": 1010.0, "trial": "t0000", "attempt": 2, "process": 1, "node": "b", "step": 1}
    *_, resumed, started = plain_lines([*begun, {"kind": "resumed", "time": 1009.0}, again])
    assert resumed == "0:00:03 resumed: 0 trials over, 1 to take up again"
    assert started == "0:00:04 t0000 started, attempt 2 from step 1: lr=0.001 layers=1 note=plain"


def test_what_an_earlier_process_wrote_is_not_said_again() -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    with Progress(console) as progress:
        progress.replay(COMPLETE[:-1])
        progress.on_record(COMPLETE[-1])
    assert console.file.getvalue() == "0:02:03 ended: all trials are done\n"


def test_a_log_that_only_takes_ascii_gets_ascii() -> None:
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    asked = {**COMPLETE[1], "config": {"größe": "später → jetzt"}}
    plain_lines([COMPLETE[0], asked, COMPLETE[2]], file=text)
    assert rb"gr\xf6\xdfe=sp\xe4ter \u2192 jetzt" in raw.getvalue()


class GoneTerminal(io.StringIO):
    """What nobody reads any more."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("terminal", "error"),
    [(False, BrokenPipeError("gone")), (True, OSError("gone")), (True, SystemExit("gone"))],  # as rich leaves
)
def test_a_display_that_fails_says_so_once_and_raises_nothing(
    terminal: bool, error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(file=GoneTerminal(error), force_terminal=terminal, _environ={"TERM": "xterm"})
    before = sys.stdout
    with Progress(console) as progress:
        for record in COMPLETE:
            progress.on_record(record)
        assert sys.stdout is before
    assert progress.broken == f"{type(error).__name__}: gone"
    assert capsys.readouterr().err.count(f"display is off ({progress.broken}); the sweep goes on") == 1


def test_a_record_that_cannot_be_shown_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Console(file=io.StringIO(), force_terminal=False)) as progress:
        progress.on_record({"kind": "sweep", "time": 1.0, "spec": {"name": 3}})
        progress.on_record(COMPLETE[0])
    assert progress.broken is not None
    assert "the sweep goes on" in capsys.readouterr().err


def drawn(view: SweepView, width: int, height: int, now: float) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(screen(view, height, now))
    return console.file.getvalue().splitlines()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(COMPLETE)), st.integers(1, 200), st.integers(14, 50), st.integers(0, 60))
def test_the_screen_fits_at_any_moment_and_size(cut: int, width: int, height: int, more: int) -> None:
    view = SweepView()
    for record in COMPLETE[:cut]:
        view.add(record)
    for number in range(100, 100 + more if cut else 100):
        for kind, fields in list(journals.trial(number))[:4]:
            view.add({"kind": kind, "time": 2000.0, **fields})
    lines = drawn(view, width, height, now=2060.0)
    assert len(lines) < height
    assert all(len(line) <= width for line in lines)


def test_the_screen_shows_what_runs_and_how_many_more_do() -> None:
    view = SweepView()
    view.add(COMPLETE[0])
    for number in range(40):
        for kind, fields in list(journals.trial(number))[:3]:
            view.add({"kind": kind, "time": 1001.0, **fields})
    lines = drawn(view, 100, 24, now=1061.0)
    assert any(line.split()[:5] == ["t0003", "1/9", "0.58", "running", "60"] for line in lines)
    shown = sum(line.startswith("t00") for line in lines)
    assert f"{40 - shown} more running" in lines
    assert "best   none complete; 0.94 spearman (t0039: lr=2.5e-05 layers=2) leads after step 1" in lines
    assert any("estimating the time left" in line for line in lines)


def test_a_live_screen_is_drawn_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=30, _environ={"TERM": "xterm"})
    with Progress(console) as progress:
        for record in COMPLETE:
            progress.on_record(record)
    assert progress.broken is None
    assert "t0007" in console.file.getvalue()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("lock", ["ours", "rich's"])
def test_a_signal_in_the_middle_of_a_record_can_end_the_display(lock: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})
    progress = Progress(console).__enter__()
    with progress._lock if lock == "ours" else console._lock:
        time.sleep(0.6)  # the next drawing has begun and waits for what this thread holds
        progress.__exit__()
    assert console.file.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_a_dumb_terminal_gets_plain_lines() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    with Progress(console) as progress:
        progress.on_record(COMPLETE[0])
    assert console.file.getvalue() == "0:00:00 sweep tiny: recipe toy, 16 trials on SYNTHETIC DATA\n"


def timed(number: int, seconds: float, outcome: str | None, at: float) -> list[Record]:
    """A trial that has taken so many seconds by the time `at`."""
    asked, started, reported, *_ = (fields for _, fields in journals.trial(number))
    records = [{"kind": "asked", "time": at, **asked}, {"kind": "started", "time": at, **started}]
    records.append({"kind": "reported", "time": at, **reported, "seconds": seconds})
    if outcome:
        finish = {"trial": asked["trial"], "outcome": outcome, "step": 1, "value": 0.5, "values": {}}
        records.append({"kind": "finished", "time": at, **finish, "seconds": seconds})
    return records


def test_the_time_left_comes_from_what_trials_took_and_how_many_run_at_once() -> None:
    view = SweepView()
    view.add(COMPLETE[0])  # 16 search trials; proof: finalist and reference on 2 seeds
    assert left(view) is None
    for record in timed(0, 10.0, "stopped", at=1010.0):
        view.add(record)
    assert left(view) is None  # nothing is complete, so what a training of the proof takes is not known
    for record in timed(1, 30.0, "complete", at=1010.0) + timed(2, 5.0, None, at=1015.0):
        view.add(record)
    # 45 s of training in 15 s: three at once. 14 search trials of 20 s less 5 s already trained, 4 of the proof of 30 s
    assert left(view) == pytest.approx((14 * 20 - 5 + 4 * 30) / 3)
    view.spec = view.spec.model_copy(update={"budget": BudgetSpec(wall_minutes=0.5)})  # 15 s of it are left
    assert left(view) == pytest.approx(15 + 20 + 4 * 30 / 3)


def test_the_display_writes_nothing_but_to_its_console(capfd: pytest.CaptureFixture[str]) -> None:
    with open(os.devnull, "w") as null:
        plain_lines(COMPLETE, file=null)
    assert capfd.readouterr() == ("", "")
