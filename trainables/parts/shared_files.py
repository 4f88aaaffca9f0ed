"""Files that the processes of a sweep share: one process makes a file while the others wait for it.

A file is written beside and moved into place under a lock, so readers see a whole file or none, and a killed writer
holds nobody up.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def made_once(file: Path, write: Callable[[Path], None]) -> Path:
    """`file`, for which the first process to come calls `write` with the path to write to."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with _lock(file.with_suffix(".lock")):
            if not file.exists():  # another process may have made it while this one waited
                _write_beside(file, write)
    return file


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Hold the lock file; the kernel lets go of it when its holder dies."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _write_beside(file: Path, write: Callable[[Path], None]) -> None:
    beside = file.with_suffix(".part")  # one name is enough under the lock; what a killed writer left is written over
    write(beside)
    with beside.open("rb+") as handle:
        os.fsync(handle.fileno())
    os.replace(beside, file)
