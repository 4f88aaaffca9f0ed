"""What a column of labels or of answers says, row by row, and the rows in which it says nothing that can be used."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.problems import Problem, did_you_mean
from trainables.parts.columns import bad_rows

Floats = npt.NDArray[np.float64]
Answers = list[tuple[str, int]]  # every gold answer of a question: its text, and its first character in the context
UNLABELLED, UNKNOWN = -1, -2
WAY_OUT = "data.unlabelled: true leaves such rows out"


def has_no_label(value: Any) -> bool:
    """Whether a row is without a label: -1 is how the hub's sets say so."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or _written(value) in ("", "-1")


def class_numbers(raw: list[Any], names: Sequence[str], labels: Sequence[str]) -> Floats:
    """Each row's place in `labels`, shape (rows,); UNLABELLED and UNKNOWN where there is none.

    `names` are the labels in the order in which the source numbers them. A row holds such a number, or a name in
    capitals or not. Where names are numbers themselves, such as one to five stars, only names count.
    """
    canonical = {_written(label): number for number, label in enumerate(labels)}
    places = {_written(name): canonical[_written(name)] for name in names}
    if not any(name.isdecimal() for name in places):
        places |= {str(number): canonical[_written(name)] for number, name in enumerate(names)}
    numbers = (UNLABELLED if has_no_label(value) else places.get(_written(value), UNKNOWN) for value in raw)
    return np.fromiter(numbers, np.float64, len(raw))


def _written(value: Any) -> str:
    """A label as it is compared: 1.0 as 1, text without regard to capitals."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()


def bad_classes(
    column: str, raw: list[Any], numbers: Floats, names: Sequence[str], place: str, unlabelled: bool
) -> list[Problem]:
    """The rows whose class is not known; with `unlabelled` those without a label are no mistake."""
    missing = [] if unlabelled else np.flatnonzero(numbers == UNLABELLED).tolist()
    unknown = np.flatnonzero(numbers == UNKNOWN).tolist()
    texts = [row for row in unknown if isinstance(raw[row], str)]
    others = [row for row in unknown if not isinstance(raw[row], str)]
    hint = did_you_mean(raw[texts[0]], list(names)) if texts else None
    counted = f"data.labels names the classes from 0 on: {', '.join(names)}"
    return [
        *bad_rows(f"column '{column}' has no label", missing, raw, place, WAY_OUT),
        *bad_rows(f"column '{column}' is no label", texts, raw, place, hint),
        *bad_rows(f"column '{column}' is outside 0..{len(names) - 1}", others, raw, place, counted),
    ]


def gold_answers(raw: list[Any], contexts: list[Any], column: str, place: str) -> tuple[list[Answers], list[Problem]]:
    """The answers of each question, and the rows without any, or with one that does not stand where it says."""
    answers = [_answers(value) for value in raw]
    malformed = [row for row, found in enumerate(answers) if found is None]
    none = [row for row, found in enumerate(answers) if found == []]
    misplaced = [
        row
        for row, found in enumerate(answers)
        if isinstance(contexts[row], str)
        and any(start < 0 or not contexts[row].startswith(text, start) for text, start in found or [])
    ]
    form = "{text: [..], answer_start: [..]}, texts and their first characters in the context, counted from 0"
    problems = [
        *bad_rows(f"column '{column}' is not of the form {form},", malformed, raw, place),
        *bad_rows(
            f"column '{column}' has no answer", none, raw, place, "each question needs an answer to be scored by"
        ),
        *bad_rows(
            f"column '{column}' has an answer that does not stand at its place in the context", misplaced, raw, place
        ),
    ]
    return [found or [] for found in answers], problems


def _answers(value: Any) -> Answers | None:
    """The answers that a row holds; None when it is of another form."""
    if not isinstance(value, dict) or not {"text", "answer_start"} <= value.keys():
        return None
    texts, starts = value["text"], value["answer_start"]
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        return None
    if not all(isinstance(text, str) and text for text in texts) or not all(type(start) is int for start in starts):
        return None
    return list(zip(texts, starts, strict=True))
