"""Ctrl-C and SIGTERM: the process leaves at once, for the journal is whole at every moment.

Nothing is raised: an exception out of a signal handler breaks Ray's compiled wait, and a sweep has nothing to unwind.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible(leave: Callable[[int], NoReturn]) -> Iterator[None]:
    """At the first SIGINT or SIGTERM call `leave` with its number; later ones are ignored."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        leave(number)

    before = {each: signal.signal(each, interrupt) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def keeping_handlers() -> Iterator[None]:
    """Put the handlers back that a library replaces while this block runs (`ray.init` takes SIGTERM for itself)."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
