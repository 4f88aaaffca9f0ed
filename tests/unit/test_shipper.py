"""The shipper against sinks of a few lines: at least once, in order, whatever the sink or the journal does."""

import errno
import json
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.journal import FILE, records
from raysweep.problems import UserError
from raysweep.track.backlog import State, backlog, load_state
from raysweep.track.lock import Taken, hold
from raysweep.track.shipper import Shipment, Worker
from raysweep.track.tail import tail, whole_bytes
from raysweep.track.updates import SWEEP, Story, Update, sweep_id
from tests import journals

LAST = Update(SWEEP, 0.0, files=("report.html",))  # shipped when the sweep is over


class Memory:
    """A tracker that keeps what it is sent, and forgets nothing when a sink is built anew."""

    def __init__(self) -> None:
        self.got: list[Update] = []
        self.recalled: list[int] = []
        self.closed = 0

    def __call__(self, directory: Path, story: Story) -> "Memory":
        assert story.id  # a sink is made only for a known sweep
        return self

    def recall(self, past: Sequence[Update]) -> bool:
        self.recalled.append(len(past))
        return True

    def ship(self, updates: Sequence[Update]) -> None:
        self.got += updates

    def close(self) -> None:
        self.closed += 1


class Full(Memory):
    """Raises at each of its first calls, as on a full disk; what it took before raising, it keeps."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.left = failures

    def ship(self, updates: Sequence[Update]) -> None:
        if self.left:
            self.left -= 1
            self.got += updates[: len(updates) // 2]
            raise OSError(errno.ENOSPC, "No space left on device")
        self.got += updates


class Hung(Memory):
    """Never comes back from its first call, until the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.released = threading.Event(), threading.Event()

    def ship(self, updates: Sequence[Update]) -> None:
        self.entered.set()
        self.released.wait()


def told(directory: Path) -> list[Update]:
    """What the whole journal says."""
    story = Story()
    return [update for record in records(directory / FILE) for update in story.tell(record)]


def distinct(updates: list[Update]) -> list[Update]:
    return [update for index, update in enumerate(updates) if update not in updates[:index]]


def ship_all(shipment: Shipment) -> None:
    while shipment.step():
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return journals.write(tmp_path / "tiny", journals.sweep())


def test_everything_arrives_once_and_in_order(folder: Path) -> None:
    sink = Memory()
    shipment = Shipment(folder, "memory", sink)
    ship_all(shipment)
    assert sink.got == told(folder)
    assert shipment.over
    assert backlog(folder, ["memory"]).empty


def test_a_growing_journal_is_followed_and_torn_lines_wait(folder: Path, tmp_path: Path) -> None:
    lines, live, sink = (folder / FILE).read_bytes(), tmp_path / "live", Memory()
    live.mkdir()
    (live / FILE).write_bytes(b"")
    cuts = [*sorted(random.Random(1).sample(range(len(lines)), 20)), len(lines)]
    first = lines.index(b"\n") + 1
    shipment = Shipment(live, "memory", sink)
    for cut in cuts:
        (live / FILE).write_bytes(lines[: max(cut, first)])
        ship_all(shipment)
        assert shipment.state.offset == whole_bytes(live / FILE)
    assert sink.got == told(folder)


def test_a_restarted_sink_goes_on_from_the_stored_offset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysweep.track.shipper.BATCH", 7)
    sink = Memory()
    for _ in range(5):  # five processes, each killed after one step
        assert Shipment(folder, "memory", sink).step()
    ship_all(Shipment(folder, "memory", sink))
    assert sink.got == told(folder)
    assert sink.recalled == sorted(sink.recalled)


def test_what_a_failing_sink_did_not_confirm_is_sent_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysweep.track.shipper.BATCH", 10)
    sink = Full(failures=3)
    worker = Worker(Shipment(folder, "full", sink), poll=0.001)
    worker.finish(patience=60)
    worker.run()
    assert distinct(sink.got) == distinct([*told(folder), LAST])
    assert len(sink.got) > len(told(folder)) + 1
    assert load_state(folder, "full") == State(sweep_id(records(folder / FILE)[0]), whole_bytes(folder / FILE))


def test_a_sink_that_stays_broken_says_why_and_ends_with_its_patience(folder: Path) -> None:
    worker = Worker(Shipment(folder, "full", Full(failures=10**6)), poll=0.001)
    worker.finish(patience=0.05)
    worker.run()
    [owed] = backlog(folder, ["full"]).sinks
    assert owed.unshipped == whole_bytes(folder / FILE)
    assert owed.error == "OSError: [Errno 28] No space left on device"
    assert "bytes of the journal not shipped" in str(owed)


def test_a_hung_sink_holds_up_nothing_else(folder: Path) -> None:
    hung, sink = Hung(), Memory()
    stuck, free = (Worker(Shipment(folder, name, make), poll=0.001) for name, make in (("hung", hung), ("ok", sink)))
    stuck.start()
    assert hung.entered.wait(10)
    free.finish(patience=60)
    free.run()
    assert sink.got == [*told(folder), LAST]
    assert [bool(owed.unshipped) for owed in backlog(folder, ["hung", "ok"]).sinks] == [True, False]
    stuck.finish(patience=0)
    hung.released.set()
    stuck.join(10)


def test_a_tracker_that_lost_everything_gets_everything_again(folder: Path) -> None:
    ship_all(Shipment(folder, "memory", Memory()))

    class Lost(Memory):
        def recall(self, past: Sequence[Update]) -> bool:
            return not past

    sink = Lost()
    ship_all(Shipment(folder, "memory", sink))
    assert sink.got == told(folder)


def test_the_state_of_another_sweep_does_not_count(folder: Path) -> None:
    ship_all(Shipment(folder, "memory", Memory()))
    (folder / FILE).unlink()
    journals.write(folder, journals.sweep(trials=9))
    sink = Memory()
    ship_all(Shipment(folder, "memory", sink))
    assert sink.got == told(folder)


def test_unreadable_and_unknown_records_are_skipped_and_counted(folder: Path) -> None:
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    odd = [
        b"not json\n",
        b"\xff\xfe\n",
        b"[1, 2]\n",
        b'{"kind":"dreamt","time":1.0}\n',  # of a newer version
        b'{"kind":"reported","time":1.0,"trial":"t0000"}\n',
        b'{"kind":"reported","time":1.0,"trial":"t0000","step":"x","metrics":{"a":"b"}}\n',
        b'{"kind":"finished","trial":"t9999","time":1.0}\n',
        b'{"kind":["list"],"time":1.0}\n',
    ]
    expected = told(folder)
    (folder / FILE).write_bytes(b"".join([*lines[:9], *odd, *lines[9:]]))
    sink = Memory()
    ship_all(Shipment(folder, "memory", sink))
    assert sink.got == expected
    assert load_state(folder, "memory").skipped == len(odd)
    ship_all(Shipment(folder, "memory", sink))  # a restart counts them once
    assert load_state(folder, "memory").skipped == len(odd)


def test_a_folder_without_a_sweep_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"kind":"asked","time":1}\n')
    with pytest.raises(UserError, match="not the journal of a sweep"):
        Shipment(tmp_path, "memory", Memory()).step()


def test_the_report_is_shipped_after_the_end(folder: Path) -> None:
    sink = Memory()
    worker = Worker(Shipment(folder, "memory", sink), poll=0.001)
    worker.finish(patience=60)
    worker.run()
    assert sink.got == [*told(folder), LAST]
    assert sink.closed == 1


@given(st.binary(max_size=300), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_a_tail_never_stops_at_what_it_cannot_read(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, limit: int
) -> None:
    path = tmp_path_factory.mktemp("tail") / "journal"
    path.write_bytes(raw)
    offset = lines = 0
    while (part := tail(path, offset, limit)).offset > offset:
        offset, lines = part.offset, lines + len(part.records) + part.broken
    assert offset == whole_bytes(path) == raw.rfind(b"\n") + 1
    assert lines == raw.count(b"\n")


def test_a_repeated_step_says_nothing_new_unless_its_values_are(tmp_path: Path) -> None:
    trial = list(journals.trial(0))[:5]
    again = [
        ("reported", {"trial": "t0000", "step": 1, "metrics": metrics, "seconds": 9.0}) for metrics in ({}, {"a": 2})
    ]
    again[0][1]["metrics"] = journals.curve(0, 1)  # holds a NaN
    folder = journals.write(tmp_path, [journals.head(), *trial, *again])
    points = [point for update in told(folder) for point in update.points]
    assert [point.name for point in points if point.step == 1] == [
        *journals.curve(0, 1),
        "step_seconds",
        "a",
        "step_seconds",
    ]


def test_the_sweeps_own_run_tells_counts_and_the_best_value_of_complete_trials(folder: Path) -> None:
    progress: dict[str, list[tuple[int, float]]] = {}
    for update in told(folder):
        for point in update.points if update.run == SWEEP else ():
            progress.setdefault(point.name, []).append((point.step, round(point.value, 6)))
    assert progress["trials/done"] == [(step, step) for step in range(1, 9)]
    assert progress["best/spearman"] == [
        (1, 0.7),
        (2, 0.7),
        (3, 0.72),
        (4, 0.72),
        (5, 0.72),
        (6, 0.75),
        (7, 0.75),
        (8, 0.77),
    ]
    assert progress["trials/failed"] == [(step, 1.0) for step in range(4, 9)]


def test_a_smaller_objective_is_better_where_the_sweep_says_so(tmp_path: Path) -> None:
    kind, fields = journals.head()
    fields["spec"]["objectives"] = [{"metric": "loss", "goal": "minimize", "primary": True}]
    events: list[Any] = [(kind, fields)]
    for number, value in enumerate([3.0, 5.0, 1.0]):
        asked, *_, (_, finished) = journals.trial(number)
        events += [asked, ("finished", {**finished, "value": value})]
    points = [point for update in told(journals.write(tmp_path, events)) for point in update.points]
    assert [point.value for point in points if point.name == "best/loss"] == [3.0, 3.0, 1.0]


def test_one_process_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    with hold(tmp_path / "lock", 0), pytest.raises(Taken), hold(tmp_path / "lock", 0.1):
        pass
    with hold(tmp_path / "lock", 0):
        assert int((tmp_path / "lock").read_text()) > 0


def test_a_state_file_cut_off_by_a_full_disk_means_the_start(folder: Path) -> None:
    ship_all(Shipment(folder, "memory", Memory()))
    path = folder / "track" / "memory.json"
    for content in ("", path.read_text()[:-5], json.dumps({"newer": 1})):
        path.write_text(content)
        assert load_state(folder, "memory") == State()
