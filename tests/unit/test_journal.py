"""The journal loses at most the line that was being written, and never keeps half of one."""

import errno
import os
from pathlib import Path

import pytest

from raysweep import journal
from raysweep.journal import Journal, read, records


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    book = Journal(tmp_path / "deep" / "journal.jsonl")
    written = [book.append("sweep", name="a"), book.append("ended", reason="b", complete=True)]
    book.close()
    assert records(book.path) == written


def test_a_torn_last_line_is_not_read_and_is_cut_off_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).append("sweep", name="a")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind":"asked","tri')
    assert [record["kind"] for record in records(path)] == ["sweep"]
    Journal(path).append("resumed")
    assert [record["kind"] for record in records(path)] == ["sweep", "resumed"]
    assert path.read_bytes().startswith(whole)


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    book = Journal(tmp_path / "journal.jsonl")
    book.append("sweep", name="a")
    [(_, offset)] = read(book.path)
    book.append("resumed")
    assert [record["kind"] for record, _ in read(book.path, offset)] == ["resumed"]


def test_a_disk_that_takes_half_a_line_leaves_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Journal(tmp_path / "journal.jsonl")
    book.append("sweep", name="a")
    before, write = book.path.read_bytes(), os.write
    monkeypatch.setattr(journal.os, "write", lambda file, line: write(file, line[:7]))
    with pytest.raises(OSError, match="the disk took 7 of"):
        book.append("resumed")
    assert book.path.read_bytes() == before


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Journal(tmp_path / "journal.jsonl")

    def full(file: int, line: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal.os, "write", full)
    with pytest.raises(OSError, match=r"journal\.jsonl: No space left on device; free some space and resume"):
        book.append("resumed")
