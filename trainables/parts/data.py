"""Sentence pairs with scores, by split: read by `tables`, or the synthetic set. Checked whole, hashed, cached.

The report split is only ever opened through `read_pairs(settings, "report")`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field

from raysweep.problems import UserError
from raysweep.recipe import DataFacts, Settings
from trainables.parts import synthetic
from trainables.parts.columns import (
    bad_scores,
    bad_texts,
    check_columns,
    every_split,
    overlaps,
    rows_hash,
    scaled,
)
from trainables.parts.tables import Columns, read_table, stamp

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
    splits = every_split(lambda split: read_pairs(settings, split), SPLITS)
    invented = settings.source == "synthetic"
    return DataFacts(
        name="synthetic sentence pairs" if invented else settings.source.rstrip("/").rpartition("/")[2],
        source=settings.source,
        synthetic=invented,
        rows={split: len(pairs) for split, pairs in splits.items()},
        hashes={split: content_hash(pairs) for split, pairs in splits.items()},
        overlaps=overlaps({split: _unordered(pairs) for split, pairs in splits.items()}),
    )


def content_hash(pairs: Pairs) -> str:
    """sha256 of the rows as JSON lines `[first, second, score]`, scores rounded to 6 digits, in order."""
    return rows_hash(zip(pairs.first, pairs.second, pairs.scores.round(6).tolist(), strict=True))


def _unordered(pairs: Pairs) -> list[frozenset[str]]:
    """A key for each pair: its two exact texts in either order."""
    return [frozenset(texts) for texts in zip(pairs.first, pairs.second, strict=True)]


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
    check_columns(columns, {"first": settings.first, "second": settings.second, "score": settings.score}, place)
    first, second, raw = columns[settings.first], columns[settings.second], columns[settings.score]
    scores = scaled(raw, settings.score_max)
    problems = [*bad_texts(settings.first, first, place), *bad_texts(settings.second, second, place)]
    problems += bad_scores(settings.score, raw, scores, settings.score_max, place)
    if problems:
        raise UserError(problems)
    return _frozen(first, second, scores)
