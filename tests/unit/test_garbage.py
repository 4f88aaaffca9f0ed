"""Garbage is searched for as before outside of what keeps Python from it."""

import gc
import subprocess
import sys
import weakref

import pytest

from raysweep.garbage import without_searches
from raysweep.recipe import find

LEAVING = """
from raysweep.garbage import collect_rarely
class Ring:
    def __del__(self): print("collected")
ring = Ring(); ring.self = ring; del ring
{more}
"""


class Ring:
    """Garbage as soon as nobody else holds it, which only a search finds."""

    def __init__(self) -> None:
        self.ring = self


def test_nothing_is_searched_within_and_all_as_before_behind() -> None:
    with without_searches():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_there_was_by_then_is_still_found_when_it_is_garbage() -> None:
    ring = Ring()
    found = weakref.ref(ring)
    find("resource_efficient")  # as each trial does: the model of the one before is not to stay for ever
    del ring
    gc.collect()
    assert found() is None


def test_what_was_switched_off_stays_so_and_errors_pass() -> None:
    gc.disable()
    try:
        with pytest.raises(ImportError), without_searches():
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
