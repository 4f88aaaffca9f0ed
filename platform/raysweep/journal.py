"""The journal: an append-only JSONL file of all that happens in a sweep. The one truth; all else is rebuilt from it.

Each record is one line, written by one `write(2)`, so a killed process leaves at most one torn line, at the end.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

Kind = Literal[
    "sweep",  # the first record: spec, version, seed, machine
    "resumed",  # another process took the sweep up again
    "asked",  # a trial was suggested: config, params, seed, role
    "started",  # its process began: attempt, restored step
    "reported",  # step, metrics
    "decided",  # go on or stop, and why
    "saved",  # a checkpoint is on disk: step
    "adapted",  # memory ran out: accumulate
    "failed",  # an attempt failed: error, cause, retried
    "finished",  # the trial is over: outcome, value
    "opened",  # the report split was opened for this trial
    "evaluated",  # report metrics, file of predictions, exported folder
    "confirmed",  # the evidence about finalists and references
    "registered",  # model, version, alias
    "ended",  # the sweep is over: reason
]
DURABLE = {"sweep", "asked", "decided", "finished", "evaluated", "confirmed", "registered", "ended"}
Record = dict[str, Any]
FILE = "journal.jsonl"


class Journal:
    """Appends records; one process at a time. A torn last line, left by a kill, is cut off on opening."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._cut_torn_line()

    def append(self, kind: Kind, **fields: Any) -> Record:
        """Write one record and return it. Raises OSError when the disk does not take it; no half record is left."""
        assert kind in get_args(Kind), kind
        record: Record = {"kind": kind, "time": round(time.time(), 3), **fields}
        line = (json.dumps(record, separators=(",", ":"), allow_nan=True) + "\n").encode()
        size = os.fstat(self._file).st_size
        if (written := self._write(line)) != len(line):
            os.ftruncate(self._file, size)
            raise OSError(f"{self.path}: the disk took {written} of {len(line)} bytes; free some space and resume")
        if kind in DURABLE:
            os.fdatasync(self._file)
        return record

    def close(self) -> None:
        os.close(self._file)

    def _write(self, line: bytes) -> int:
        try:
            return os.write(self._file, line)
        except OSError as error:
            raise OSError(f"{self.path}: {error.strerror}; free some space and resume") from error

    def _cut_torn_line(self) -> None:
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.ftruncate(self._file, content.rfind(b"\n") + 1)


def read(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """Whole records from a byte offset on, each with the offset behind it; a line still being written is left out."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset


def records(path: Path) -> list[Record]:
    """All whole records of a journal."""
    return [record for record, _ in read(path)]
