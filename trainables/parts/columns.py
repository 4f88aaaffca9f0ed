"""What every reader of columns does: name the rows that are wrong, hash what was read, count what repeats.

Rows are counted from 1 where a user reads of them.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from raysweep.problems import Problem, UserError, did_you_mean
from trainables.parts.tables import Columns, NoSourceError

Floats = npt.NDArray[np.float64]
Name = TypeVar("Name", bound=str)
Content = TypeVar("Content")


def every_split(read: Callable[[Name], Content], names: Sequence[Name]) -> dict[Name, Content]:
    """What `read` gives for each name. Raises UserError with the problems of all of them, each once."""
    splits: dict[Name, Content] = {}
    problems: dict[Problem, None] = {}
    for name in names:
        try:
            splits[name] = read(name)
        except NoSourceError:
            raise
        except UserError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise UserError(list(problems))
    return splits


def check_columns(columns: Columns, wanted: Mapping[str, str], place: str) -> None:
    """Raises UserError unless all columns are there, and hold rows. `wanted`: setting -> name of its column."""
    if missing := [_no_column(key, name, columns, place) for key, name in wanted.items() if name not in columns]:
        raise UserError(missing)
    if not all(columns[name] for name in wanted.values()):
        raise UserError([Problem("has no rows", place)])


def _no_column(key: str, name: str, columns: Columns, place: str) -> Problem:
    near = did_you_mean(name, list(columns)) or ""
    found = f"found: {', '.join(columns)}"
    hint = f"{near} {found}" if near.endswith("?") else found  # without a near one it lists the columns too
    return Problem(f"no column '{name}' (data.{key})", place, hint=hint)


def bad_rows(
    message: str, bad: Sequence[int], values: Sequence[Any], place: str, hint: str | None = None
) -> list[Problem]:
    """One problem for all bad rows: it names the first three, and what stands there."""
    if not bad:
        return []
    shown = ", ".join(f"row {row + 1}: {values[row]!r}" for row in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return [Problem(f"{message} at {shown}{more}", place, hint=hint)]


def bad_texts(name: str, texts: list[Any], place: str, beside: list[Any] | None = None) -> list[Problem]:
    """The rows of a column that hold no text.

    With `beside`, the other column of a pair, a text may be empty where the other is not: two questions of QQP are. But
    a column that is empty throughout is a mistake.
    """
    others = texts if beside is None or all(map(_is_blank, texts)) else beside
    rows = enumerate(zip(texts, others, strict=True))
    bad = [row for row, (text, other) in rows if not isinstance(text, str) or (_is_blank(text) and _is_blank(other))]
    return bad_rows(f"column '{name}' has no text", bad, texts, place)


def _is_blank(text: Any) -> bool:
    return not isinstance(text, str) or not text.strip()


def scaled(raw: list[Any], top: float) -> Floats:
    """The numbers of a column divided by `top`, shape (rows,); NaN where there is none."""
    return np.array([_number(value) for value in raw]) / top


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def bad_scores(
    name: str, raw: list[Any], scores: Floats, top: float, place: str, way_out: str | None = None
) -> list[Problem]:
    """The rows of a column that hold no number, or one outside 0 to `top`; `scores` is the column divided by `top`.

    `way_out` is what else can be done about rows without a number.
    """
    outside = np.flatnonzero((scores < 0) | (scores > 1)).tolist()
    hint = f"data.score_max, now {top:g}, is what the scores are divided by"
    return [
        *bad_rows(f"column '{name}' has no number", np.flatnonzero(np.isnan(scores)).tolist(), raw, place, way_out),
        *bad_rows(f"column '{name}' is outside 0..{top:g}", outside, raw, place, hint),
    ]


def rows_hash(rows: Iterable[Sequence[Any]]) -> str:
    """sha256 of the rows as JSON lines, in order."""
    return hashlib.sha256("\n".join(json.dumps(row) for row in rows).encode()).hexdigest()


def overlaps(keys: Mapping[str, Sequence[Hashable]]) -> dict[str, int]:
    """How often the key of a row stands again within its split, and how many keys two splits share."""
    distinct = {split: set(found) for split, found in keys.items()}
    counts = {f"{split} repeated": len(found) - len(distinct[split]) for split, found in keys.items()}
    for one, other in itertools.combinations(keys, 2):
        counts[f"{one} in {other}"] = len(distinct[one] & distinct[other])
    return counts
