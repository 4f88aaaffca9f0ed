"""How far each sink has come (`State`, one small file a sink), and what it still owes its tracker (`Backlog`)."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from raysweep import journal
from raysweep.track.tail import whole_bytes

FOLDER = "track"


@dataclass(frozen=True, slots=True)
class State:
    """`offset` bytes of the journal have arrived; `skipped` records said nothing; `error` is the last trouble."""

    sweep: str = ""
    offset: int = 0
    skipped: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SinkBacklog:
    """What one sink still owes its tracker, in bytes of the journal, and the error that holds it up."""

    sink: str
    unshipped: int
    skipped: int
    error: str | None

    def __str__(self) -> str:
        said = f"{self.unshipped} bytes of the journal not shipped" if self.unshipped else "complete"
        skipped = f"; {self.skipped} records skipped as unreadable" if self.skipped else ""
        return f"{self.sink}: {said}{skipped}" + (f"; last error: {self.error}" if self.error else "")


@dataclass(frozen=True, slots=True)
class Backlog:
    """What all sinks still owe."""

    sinks: tuple[SinkBacklog, ...]

    @property
    def empty(self) -> bool:
        return not any(sink.unshipped or sink.error for sink in self.sinks)

    def __str__(self) -> str:
        return "\n".join(map(str, self.sinks))


def state_path(directory: Path, sink: str) -> Path:
    return directory / FOLDER / f"{sink}.json"


def load_state(directory: Path, sink: str) -> State:
    """How far the sink has come; the start, when nothing readable says so."""
    try:
        return State(**json.loads(state_path(directory, sink).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return State()


def save_state(directory: Path, sink: str, state: State) -> None:
    """Replace the state file in one step."""
    path = state_path(directory, sink)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(asdict(state)))
    os.replace(beside, path)


def backlog(directory: Path, sinks: Sequence[str]) -> Backlog:
    """What these sinks still owe, from their state files."""
    size = whole_bytes(directory / journal.FILE)
    states = [(sink, load_state(directory, sink)) for sink in sinks]
    return Backlog(tuple(SinkBacklog(sink, max(0, size - s.offset), s.skipped, s.error) for sink, s in states))
