"""Ctrl-C and SIGTERM: the main thread is interrupted once, wherever it stands; the journal is whole at every moment."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class InterruptedSweep(BaseException):  # noqa: N818 - not an error: like KeyboardInterrupt, nothing may swallow it
    """The user or the machine asked the sweep to end now."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into InterruptedSweep; later ones are ignored, for the end is under way."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise InterruptedSweep(number)

    before = {each: signal.signal(each, interrupt) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
