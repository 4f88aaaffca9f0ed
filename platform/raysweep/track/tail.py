"""Reading a journal that grows, by byte offset, without ever stopping at a line that cannot be read."""

import json
from pathlib import Path
from typing import NamedTuple

from raysweep.journal import Record
from raysweep.problems import UserError

CHUNK = 65536  # bytes looked at once when searching for the last whole line


class Tail(NamedTuple):
    """Records, the offset behind them, and how many whole lines among them were no records."""

    records: list[Record]
    offset: int
    broken: int


def tail(path: Path, offset: int, limit: int, end: int | None = None) -> Tail:
    """Up to `limit` whole lines from a byte offset on, none of them beyond `end`."""
    records: list[Record] = []
    broken = 0
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            after = offset + len(line)
            if not line.endswith(b"\n") or len(records) + broken == limit or (end is not None and after > end):
                break
            offset, record = after, _record(line)
            if record is None:
                broken += 1
            else:
                records.append(record)
    return Tail(records, offset, broken)


def first_record(path: Path) -> Record:
    """The record that says what the sweep is. Raises UserError when the journal does not start with one."""
    records = tail(path, 0, 1).records if path.exists() else []
    if not records or records[0].get("kind") != "sweep":
        raise UserError(f"{path} is not the journal of a sweep: its first line is no `sweep` record")
    return records[0]


def whole_bytes(path: Path) -> int:
    """The journal's size up to the end of its last whole line."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        while size:
            start = max(0, size - CHUNK)
            file.seek(start)
            if (found := file.read(size - start).rfind(b"\n")) >= 0:
                return start + found + 1
            size = start
    return 0


def _record(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
