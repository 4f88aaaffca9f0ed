"""Garbage is searched for as before outside of what keeps Python from it."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from raysweep.garbage import keeping_all

LEAVING = """
from raysweep.garbage import collect_rarely
class Ring:
    def __del__(self): print("collected")
ring = Ring(); ring.self = ring; del ring
{more}
"""


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_nothing_is_searched_within_and_all_as_before_behind() -> None:
    with keeping_all():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000


def test_what_was_switched_off_stays_so_and_errors_pass() -> None:
    gc.disable()
    try:
        with pytest.raises(ImportError), keeping_all():
            raise ImportError
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(("more", "said"), [("", ["collected"]), ("collect_rarely()", [])])
def test_a_process_leaves_without_a_last_search(more: str, said: list[str]) -> None:
    program = LEAVING.format(more=more)
    lines = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert [line for line in lines if line == "collected"] == said
