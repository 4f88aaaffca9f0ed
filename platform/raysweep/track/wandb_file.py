"""What stands in W&B's offline files. W&B has no reader of its own for them.

The format: a header of 7 bytes, then LevelDB's log: blocks of 32 KiB; in them chunks of crc (4 bytes), length (2),
kind (1: whole, 2: first, 3: middle, 4: last), and the bytes of a protobuf `Record`. A killed writer leaves a torn tail.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

HEADER, CHUNK, BLOCK = 7, struct.Struct("<IHB"), 32768


@dataclass(slots=True)
class Written:
    """What W&B has of one run: history rows by step, and the summary."""

    rows: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exits: int = 0


def fragments(folder: Path, run: str) -> list[Path]:
    """The files of one run, oldest first: each process that wrote for it left one."""
    return sorted(folder.glob(f"wandb/offline-run-*-{run}/run-{run}.wandb"))


def read(files: list[Path]) -> Written:
    """All that these files hold; a step that stands there twice has two rows."""
    written = Written()
    for record in (record for file in files for record in _records(file.read_bytes())):
        if record.HasField("history"):
            row = {_key(item): json.loads(item.value_json) for item in record.history.item}
            written.rows.setdefault(int(row["_step"]), []).append(row)
        elif record.HasField("summary"):
            written.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
        written.exits += record.HasField("exit")
    return written


def is_stub(file: Path) -> bool:
    """Whether the writer was killed before its first block: such a file makes `wandb sync` fail for the whole run."""
    return file.stat().st_size <= HEADER


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _records(raw: bytes) -> Iterator[Any]:
    parts, position = b"", HEADER
    while position + CHUNK.size <= len(raw):
        if BLOCK - position % BLOCK < CHUNK.size:  # too little room for a chunk: the block's end is padding
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = CHUNK.unpack_from(raw, position)
        position += CHUNK.size + length
        if kind not in (1, 2, 3, 4) or position > len(raw):
            return
        parts = (b"" if kind in (1, 2) else parts) + raw[position - length : position]
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
