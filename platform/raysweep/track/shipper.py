"""Carries the journal to the trackers: each sink reads it from its own offset, at its own pace, at least once.

A sink is one tracker's end. When it raises, it is thrown away and built anew after a pause; when it hangs, only its own
thread waits. Neither touches the sweep or the other sink, for the journal is all that a shipment needs.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from raysweep import journal
from raysweep.track.backlog import State, load_state, save_state
from raysweep.track.tail import first_record, tail
from raysweep.track.updates import REPORT, SWEEP, Story, Update

POLL = 0.5  # seconds between looks at the journal
LONGEST_PAUSE = 30.0  # seconds; pauses after failures double up to this
BATCH = 500  # records handed over at once, so that a long backlog is not one huge request
ERROR_LENGTH = 300  # characters of an error that the state file keeps
log = logging.getLogger("raysweep.track")


class Sink(Protocol):
    """One tracker's end. Each method may raise whatever the tracker raises; the sink is then built anew."""

    def recall(self, past: Sequence[Update]) -> bool:
        """Go on behind `past`, shipped by an earlier sink. False: the tracker has lost it, so all is sent again."""

    def ship(self, updates: Sequence[Update]) -> None:
        """Returns when the tracker has them for good. Harmless with updates that it has already."""

    def close(self) -> None:
        """Nothing more comes from this sink."""


MakeSink = Callable[[Path, Story], Sink]


class Shipment:
    """One sink's way through the journal of one sweep. `state` is how far it has come."""

    def __init__(self, directory: Path, name: str, make: MakeSink) -> None:
        self.directory, self.name, self.state, self.over = directory, name, State(), False
        self._make = make
        self._path = directory / journal.FILE
        self._open: tuple[Sink, Story] | None = None
        self._broken = 0  # lines that were no records, of those behind the offset
        self._concluded = False

    def step(self) -> bool:
        """Ship the next records; False when there are none. Raises what the sink raises."""
        sink, story = self._open = self._open or self._begin()
        records, offset, broken = tail(self._path, self.state.offset, BATCH)
        if offset == self.state.offset:
            self.over = story.over
            return False
        sink.ship([update for record in records for update in story.tell(record)])
        self._broken += broken
        self._save(State(story.id, offset, self._broken + story.skipped))
        return True

    def conclude(self) -> None:
        """Ship what is written only after the sweep has ended: the report."""
        if self.over and self._open and not self._concluded:
            self._open[0].ship([Update(SWEEP, 0.0, files=REPORT)])
            self._concluded = True

    def failed(self, error: Exception) -> None:
        """Note the error and drop the sink: the next step starts from what is known to have arrived."""
        log.info("%s: tried again later", self.name, exc_info=error)
        self.note(" ".join(f"{type(error).__name__}: {error}".split()))
        self.close()

    def note(self, error: str) -> None:
        """Keep an error beside the offset, until the next step that goes well."""
        self.state = replace(self.state, error=error[:ERROR_LENGTH])
        with suppress(OSError):  # a full disk may be the very error
            save_state(self.directory, self.name, self.state)

    def close(self) -> None:
        """Let the sink finish what it has open."""
        opened, self._open = self._open, None
        if opened is not None:
            try:
                opened[0].close()
            except Exception as error:  # whatever a tracker raises; the journal still has everything
                log.info("%s: on closing", self.name, exc_info=error)

    def _begin(self) -> tuple[Sink, Story]:
        known = load_state(self.directory, self.name)
        story, past, reached = self._retell(known.offset)
        if story.id != known.sweep or reached != known.offset:  # the state is of another journal
            story, past, reached = self._retell(0)
        sink = self._make(self.directory, story)
        if not sink.recall(past):
            story, past, reached = self._retell(0)
        self._save(State(story.id, reached, self._broken + story.skipped))
        return sink, story

    def _retell(self, end: int) -> tuple[Story, list[Update], int]:
        """What the journal says up to this offset, with the updates that were shipped for it."""
        story, past, offset, self._broken = Story(), list[Update](), 0, 0
        while (part := tail(self._path, offset, BATCH, end)).offset > offset:
            past += [update for record in part.records for update in story.tell(record)]
            offset, self._broken = part.offset, self._broken + part.broken
        if not story.id:  # a sink must know its sweep, though nothing was shipped yet
            story.tell(first_record(self._path))
        return story, past, offset

    def _save(self, state: State) -> None:
        save_state(self.directory, self.name, state)
        self.state = state


class Worker(threading.Thread):
    """Repeats a shipment's step until told to finish. A daemon: a hung tracker does not hold up the exit."""

    def __init__(self, shipment: Shipment, poll: float = POLL) -> None:
        super().__init__(name=f"ship-{shipment.name}", daemon=True)
        self.shipment, self.progressed = shipment, time.monotonic()
        self._poll, self._finishing, self._patience = poll, threading.Event(), 0.0

    def finish(self, patience: float) -> None:
        """Ship what is there, then end; give up after so many seconds without progress."""
        if not self._finishing.is_set():
            self.progressed, self._patience = time.monotonic(), patience
            self._finishing.set()

    def run(self) -> None:
        pause = self._poll
        while True:
            last = self._finishing.is_set()
            try:
                moved = self._step(last)
                pause, done = self._poll, last and not moved
            except Exception as error:  # whatever a tracker raises: kept in the state, and tried again
                self.shipment.failed(error)
                moved, pause, done = False, min(2 * pause, LONGEST_PAUSE), last and self.idle > self._patience
            if done:
                return self.shipment.close()
            if not moved:
                self._rest(pause)

    def _step(self, last: bool) -> bool:
        moved = self.shipment.step()
        if moved:
            self.progressed = time.monotonic()
        elif last:
            self.shipment.conclude()
        return moved

    @property
    def idle(self) -> float:
        """Seconds since something was shipped, or since it was told to finish."""
        return time.monotonic() - self.progressed

    def _rest(self, pause: float) -> None:
        if self._finishing.is_set():
            time.sleep(max(0.0, min(pause, self._patience - self.idle)))
        else:
            self._finishing.wait(pause)
