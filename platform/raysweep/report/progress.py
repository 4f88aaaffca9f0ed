"""The sweep as it runs: a live table on a terminal, a line for each event that matters anywhere else."""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import ParamSpec

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live import Live

from raysweep.journal import Record
from raysweep.report.lines import line
from raysweep.report.screen import screen
from raysweep.report.view import SweepView

P = ParamSpec("P")
REFRESHES = 4  # a second: faster is not read, and takes time from the trials


class Progress:
    """Shows records as they are written. A display that fails says so and switches itself off; the sweep goes on."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.view = SweepView()
        self.broken: str | None = None  # why the display is off
        # The screen is drawn in a thread of its own; a signal may lead from `_take` to `__exit__`, so it re-enters.
        self._lock = threading.RLock()
        self._drawn: RenderableType = ""
        self._live: Live | None = None
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(get_renderable=self._draw, console=self.console, auto_refresh=False)
        self._over = threading.Event()
        self._drawing = threading.Thread(target=self._refresh, daemon=True)

    def __enter__(self) -> "Progress":
        if self._live:
            self._guard(self._live.start)
            self._drawing.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._live:
            self._drawing.join(timeout=1)
            # the drawing may wait for a lock of rich's that a signal, which led here, found this thread holding
            self._guard(self._show_cursor if self._drawing.is_alive() else self._live.stop)

    def replay(self, records: Iterable[Record]) -> None:
        """Take in, without a word, what an earlier process wrote."""
        for record in records:
            self._guard(self._take, record)

    def on_record(self, record: Record) -> None:
        """Show the next record of the journal."""
        self._guard(self._take, record)
        if not self._live:
            self._guard(self._say, record)

    def _take(self, record: Record) -> None:
        with self._lock:
            self.view.add(record)

    def _say(self, record: Record) -> None:
        if (said := line(self.view, record)) is not None:
            encoding = getattr(self.console.file, "encoding", None) or "utf-8"
            text = f"{timedelta(seconds=int(self.view.elapsed))} {said}"
            readable = text.encode(encoding, "backslashreplace").decode(encoding)
            print(readable, file=self.console.file, flush=True)

    def _refresh(self) -> None:
        assert self._live
        while not self._over.wait(1 / REFRESHES):
            self._guard(self._live.refresh)

    def _draw(self) -> RenderableType:
        """The screen as it is now, or the last one while a record is being taken in."""
        if self._lock.acquire(timeout=1 / REFRESHES):
            try:
                self._drawn = screen(self.view, self.console.height, time.time())
            finally:
                self._lock.release()
        return self._drawn

    def _show_cursor(self) -> None:
        self.console.file.write(str(Control.show_cursor(True)))
        self.console.file.flush()

    def _guard(self, action: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Odd terminals, closed pipes and faults of the display are told once and are no reason to end a sweep."""
        if self.broken is not None:
            return
        try:
            action(*args, **kwargs)
        except (Exception, SystemExit) as error:  # rich leaves with SystemExit when its pipe is closed
            self.broken = f"{type(error).__name__}: {error}"
            self._turn_off()

    def _turn_off(self) -> None:
        """Give standard output back, which a live display takes over, and say why nothing more is shown."""
        self._over.set()
        with suppress(Exception, SystemExit):
            if self._live:
                self._live.stop()
        with suppress(OSError, ValueError):
            print(f"raysweep: the progress display is off ({self.broken}); the sweep goes on", file=sys.stderr)
