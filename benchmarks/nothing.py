"""The trial of nothing, the same for every side: sleep, report, leave a mark of the time. Standard library only."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

STEPS = 9  # reports of a trial, and the last rung's step: ASHA with eta 3 compares at steps 1 and 3
_IMPORTING = threading.Lock()  # four threads at once break the imports that transformers puts off


def train(
    marks: str, quality: float, seconds: float = 0.0, imports: bool = False, flat: bool = True, done: int = 0
) -> Iterator[float]:
    """A score after each of `STEPS` steps of `seconds`, the first `done` left out.

    A flat score is the same for all, so no scheduler stops a trial and every side has the same work; else it rises to
    `quality`.
    """
    _mark(marks)
    if imports:
        with _IMPORTING:
            import torch  # noqa: F401
            from transformers import AutoTokenizer, BertModel  # noqa: F401 - `import transformers` alone loads no model
    for step in range(done + 1, STEPS + 1):
        time.sleep(seconds)
        _mark(marks)
        yield 0.5 if flat else quality * (1 - 0.5**step)


def span(marks: Path) -> float:
    """Seconds from the first trial's first moment to the last trial's last report."""
    times = [float(line) for line in marks.read_text().split()]
    return max(times) - min(times)


def _mark(marks: str) -> None:
    file = os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, b"%.6f\n" % time.time())
    os.close(file)
