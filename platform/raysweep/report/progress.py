"""The sweep as it runs: a live table on a terminal, a line for each event that matters anywhere else."""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from raysweep.journal import Record
from raysweep.report.lines import line
from raysweep.report.screen import screen
from raysweep.report.view import SweepView

REFRESHES = 4  # a second: faster is not read, and takes time from the trials


class Progress:
    """Shows records as they are written. A display that fails says so and switches itself off; the sweep goes on."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.view = SweepView()
        self.broken: str | None = None
        self._lock = threading.Lock()  # the live display draws in a thread of its own
        self._live: Live | None = None
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(get_renderable=self._draw, console=self.console, refresh_per_second=REFRESHES)

    def __enter__(self) -> "Progress":
        if self._live:
            self._guard(self._live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._guard(self._live.stop)

    def replay(self, records: Iterable[Record]) -> None:
        """Take in, without a word, what an earlier process wrote."""
        for record in records:
            self._guard(lambda record=record: self._take(record))  # type: ignore[misc]

    def on_record(self, record: Record) -> None:
        """Show the next record of the journal."""
        self._guard(lambda: self._take(record))
        if not self._live:
            self._guard(lambda: self._say(record))

    def _take(self, record: Record) -> None:
        with self._lock:
            self.view.add(record)

    def _say(self, record: Record) -> None:
        if (said := line(self.view, record)) is not None:
            encoding = getattr(self.console.file, "encoding", None) or "utf-8"
            text = f"{timedelta(seconds=int(self.view.elapsed))} {said}".encode(encoding, "backslashreplace").decode(
                encoding
            )
            print(text, file=self.console.file, flush=True)

    def _draw(self) -> RenderableType:
        """Called in the display's thread, where nothing else would catch what goes wrong."""
        shown: list[RenderableType] = []
        self._guard(lambda: shown.append(self._screen()))
        return shown[0] if shown else Text("")

    def _screen(self) -> RenderableType:
        with self._lock:
            return screen(self.view, self.console.height, time.time())

    def _guard(self, action: Callable[[], None]) -> None:
        """Odd terminals, closed pipes and faults of the display are told once and are no reason to end a sweep."""
        if self.broken is not None:
            return
        try:
            action()
        except Exception as error:
            self.broken = f"{type(error).__name__}: {error}"
            with suppress(OSError, ValueError):
                print(f"raysweep: the progress display is off ({self.broken}); the sweep goes on", file=sys.stderr)
