"""Sentence pairs with scores, by split: read by `tables`, or the synthetic set. Checked whole, hashed, cached.

The report split is only ever opened through `read_pairs(settings, "report")`.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field

from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.recipe import DataFacts, Settings
from trainables.parts import synthetic
from trainables.parts.tables import Columns, NoSourceError, read_table, stamp

Split = Literal["train", "select", "report"]
SPLITS: tuple[Split, ...] = get_args(Split)


class DataSettings(Settings):
    """Where sentence pairs come from, and what their columns are called."""

    source: str = Field("synthetic", description="'synthetic', a folder with a file for each split, or a hub name")
    train: str = Field("train", description="split or file to train on")
    select: str = Field("validation", description="split or file that the search goes by")
    report: str = Field("test", description="split or file that is opened only for the proof")
    first: str = Field("sentence1", description="column of the first sentence")
    second: str = Field("sentence2", description="column of the second sentence")
    score: str = Field("score", description="column of the similarity")
    score_max: float = Field(1.0, gt=0, description="what scores are divided by to lie in 0..1 (5.0 for raw STS-B)")
    train_rows: int | None = Field(None, ge=1, description="train on so many rows, a seeded sample; all, if not given")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sentence pairs and their scores, 0 to 1, shape (pairs,). Shared between trials: do not change them."""

    first: list[str]
    second: list[str]
    scores: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: npt.NDArray[np.int64]) -> "Pairs":
        """These rows, in this order."""
        return Pairs([self.first[row] for row in rows], [self.second[row] for row in rows], self.scores[rows])


def read_pairs(settings: DataSettings, split: Split) -> Pairs:
    """The pairs of a split. Raises UserError with everything that is wrong with it."""
    whole = settings.model_copy(update={"train_rows": None})
    pairs = _whole_split(whole, split, None if settings.source == "synthetic" else stamp(settings.source))
    if split != "train" or settings.train_rows is None:
        return pairs
    if settings.train_rows > len(pairs):
        raise UserError(
            f"data.train_rows is {settings.train_rows}, but {settings.source} has {len(pairs)} training rows"
        )
    # One order for every size, so that a larger sample holds the smaller one.
    return pairs.take(np.random.default_rng(0).permutation(len(pairs))[: settings.train_rows])


def data_facts(settings: DataSettings) -> DataFacts:
    """Rows and content hash of each split, and what repeats. Raises UserError with the problems of all splits."""
    splits = _every_split(settings)
    invented = settings.source == "synthetic"
    return DataFacts(
        name="synthetic sentence pairs" if invented else settings.source.rstrip("/").rpartition("/")[2],
        source=settings.source,
        synthetic=invented,
        rows={split: len(pairs) for split, pairs in splits.items()},
        hashes={split: content_hash(pairs) for split, pairs in splits.items()},
        overlaps=_overlaps(splits),
    )


def content_hash(pairs: Pairs) -> str:
    """sha256 of the rows as JSON lines `[first, second, score]`, scores rounded to 6 digits, in order."""
    rows = zip(pairs.first, pairs.second, pairs.scores.round(6).tolist(), strict=True)
    return hashlib.sha256("\n".join(json.dumps(row) for row in rows).encode()).hexdigest()


def _overlaps(splits: dict[Split, Pairs]) -> dict[str, int]:
    """Repeated pairs within each split, and pairs that two splits share; a pair is two exact texts in either order."""
    keys = {split: _unordered(pairs) for split, pairs in splits.items()}
    counts = {f"{split} repeated": len(pairs) - len(set(pairs)) for split, pairs in keys.items()}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        shared = set(keys[SPLITS[one]]) & set(keys[SPLITS[other]])
        counts[f"{SPLITS[one]} in {SPLITS[other]}"] = len(shared)
    return counts


def _unordered(pairs: Pairs) -> list[frozenset[str]]:
    return [frozenset(texts) for texts in zip(pairs.first, pairs.second, strict=True)]


def _every_split(settings: DataSettings) -> dict[Split, Pairs]:
    splits: dict[Split, Pairs] = {}
    problems: list[Problem] = []
    for split in SPLITS:
        try:
            splits[split] = read_pairs(settings, split)
        except NoSourceError:
            raise
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return splits


@lru_cache(maxsize=6)
def _whole_split(settings: DataSettings, split: Split, stamp: object) -> Pairs:
    """All pairs of a split; `stamp` changes when its file does."""
    if settings.source == "synthetic":
        first, second, scores = zip(*synthetic.pairs(split), strict=True)
        return _frozen(list(first), list(second), np.array(scores))
    texts = (settings.first, settings.second, settings.score)
    columns, place = read_table(settings.source, getattr(settings, split), texts)
    return _checked(settings, columns, place)


def _frozen(first: list[str], second: list[str], scores: npt.NDArray[np.float64]) -> Pairs:
    scores.flags.writeable = False
    return Pairs(first, second, scores)


def _checked(settings: DataSettings, columns: Columns, place: str) -> Pairs:
    names = {"first": settings.first, "second": settings.second, "score": settings.score}
    if missing := [_no_column(key, name, columns, place) for key, name in names.items() if name not in columns]:
        raise UserError(missing)
    first, second, raw = columns[settings.first], columns[settings.second], columns[settings.score]
    if not raw:
        raise UserError([Problem("has no rows", place)])
    scores = np.array([_number(value) for value in raw]) / settings.score_max
    problems = [*_bad_texts(settings.first, first, place), *_bad_texts(settings.second, second, place)]
    problems += _bad_scores(settings, raw, scores, place)
    if problems:
        raise UserError(problems)
    return _frozen(first, second, scores)


def _no_column(key: str, name: str, columns: Columns, place: str) -> Problem:
    near = f"{did_you_mean(name, list(columns)) or ''} found: {', '.join(columns)}"
    return Problem(f"no column '{name}' (data.{key})", place, hint=near.strip())


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _bad_texts(name: str, texts: list[Any], place: str) -> list[Problem]:
    bad = [row for row, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
    return _rows(f"column '{name}' has no text", bad, texts, place)


def _bad_scores(settings: DataSettings, raw: list[Any], scores: npt.NDArray[np.float64], place: str) -> list[Problem]:
    name, top = settings.score, f"{settings.score_max:g}"
    outside = np.flatnonzero((scores < 0) | (scores > 1)).tolist()
    hint = f"data.score_max, now {top}, is what the scores are divided by"
    return [
        *_rows(f"column '{name}' has no number", np.flatnonzero(np.isnan(scores)).tolist(), raw, place),
        *_rows(f"column '{name}' is outside 0..{top}", outside, raw, place, hint),
    ]


def _rows(message: str, bad: Sequence[int], values: list[Any], place: str, hint: str | None = None) -> list[Problem]:
    """One problem for all bad rows: it names the first three, counted from 1."""
    if not bad:
        return []
    shown = ", ".join(f"row {row + 1}: {values[row]!r}" for row in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return [Problem(f"{message} at {shown}{more}", place, hint=hint)]
