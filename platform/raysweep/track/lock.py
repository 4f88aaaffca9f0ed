"""Locks between processes, held by the kernel: they end with their holder, however it ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Taken(Exception):  # noqa: N818
    """Another process holds the lock; its id is the message."""


@contextmanager
def hold(path: Path, patience: float) -> Iterator[None]:
    """Hold the lock file `path`. Raises Taken after `patience` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        _take(file.fileno(), path, time.monotonic() + patience)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _take(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Taken(path.read_text() or "unknown") from None
        time.sleep(0.05)
