"""A sweep's folder: created whole, opened by one process at a time, and of this version."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.journal import FILE, records
from raysweep.problems import Problem, UserError
from raysweep.spec import VERSION

LEAST_FREE_BYTES = 500 * 2**20  # a handful of checkpoints of a small encoder


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """Where a sweep keeps its journal, its trials and what they share."""

    path: Path

    @property
    def journal(self) -> Path:
        return self.path / FILE

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder; the lock ends with the process, however it ends. Raises UserError when another holds it."""
        file = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 32).decode() or "unknown"
            os.close(file)
            raise UserError(f"{self.path} is in use by process {holder}; wait for it, or end it first") from None
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(file)

    @property
    def locked(self) -> bool:
        """Whether a process is running this sweep now."""
        try:
            with self.lock():
                return False
        except UserError:
            return True

    def head(self) -> dict[str, Any]:
        """The journal's first record."""
        return records(self.journal)[0]

    def enter(self) -> None:
        """Go where the sweep was begun, for folders that its file names without / are there, unless that is gone."""
        begun = Path(self.head().get("directory", "."))
        if begun.is_dir():
            os.chdir(begun)


def create(path: Path, text: str) -> SweepFolder:
    """A new sweep's folder with a copy of its file. Raises UserError when the place is taken or the disk is full."""
    folder = SweepFolder(path.resolve())
    if folder.journal.exists():
        raise UserError([Problem(f"{path} already holds a sweep", hint=f"go on with it: raysweep resume {path}")])
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} is not empty; choose another --dir, or empty it")
    nearest = next(parent for parent in (folder.path, *folder.path.parents) if parent.exists())
    if (free := shutil.disk_usage(nearest).free) < LEAST_FREE_BYTES:
        needed = LEAST_FREE_BYTES // 2**20
        raise UserError(f"{nearest} has {free // 2**20} MB free; a sweep needs {needed} MB: free some, or choose --dir")
    try:
        (folder.path / "shared").mkdir(parents=True)
        (folder.path / "sweep.yaml").write_text(text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return folder


def find(path: Path) -> SweepFolder:
    """The folder of an existing sweep. Raises UserError when there is none, or one of another version."""
    folder = SweepFolder(path.resolve())
    if not folder.journal.exists():
        beside = sorted(str(found.parent) for found in path.parent.glob(f"*/{FILE}"))
        hint = f"sweeps beside it: {', '.join(beside[-5:])}" if beside else "start one with: raysweep run FILE"
        raise UserError([Problem(f"{path} holds no sweep: {FILE} is missing", hint=hint)])
    found = records(folder.journal)
    if not found or found[0].get("kind") != "sweep":
        raise UserError(f"{folder.journal} does not begin with a sweep's record; it cannot be taken up again")
    if (version := found[0].get("version")) != VERSION:
        raise UserError(f"{path} was written as version '{version}'; this raysweep reads '{VERSION}'")
    return folder
