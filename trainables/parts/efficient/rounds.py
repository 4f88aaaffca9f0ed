"""The rounds of a trial: each trains from the start, on so many rows, or on all but a part that it is scored on.

N training rows; `strata` (N,) numbers what a sample or part has its share of, as `carving` takes it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import Field, Strict, model_validator
from typing_extensions import Self

from raysweep.problems import Problem, UserError
from raysweep.recipe import Settings
from trainables.parts.carving import SEED, Rows, sample

Sizes = Annotated[tuple[int, ...], Strict(False)]  # a list in YAML; a tuple, as settings are keys of caches
EVERY = -1  # as a size: all rows
ALL = "all"  # the round that trains on every row


class CurveSettings(Settings):
    """A learning curve: scores by the number of training rows."""

    sizes: Sizes = Field(
        (),
        description="train on so many rows, one size after another and each from the start; -1 for all"
        " (train.epochs steps for each size: scheduler.max is for all of them)",
    )

    @model_validator(mode="after")
    def _sizes_rise(self) -> Self:
        counts = self.sizes[:-1] if self.sizes[-1:] == (EVERY,) else self.sizes
        if list(counts) != sorted(set(counts)) or min(counts, default=1) < 1:
            found = ", ".join(map(str, self.sizes))
            raise ValueError(f"sizes are 1 or more and rise, and -1 for all rows is the last: found {found}")
        return self


class CrossValidationSettings(Settings):
    """Scores on training rows that were not trained on."""

    folds: int = Field(
        0,
        ge=0,
        le=20,
        description="train without each of so many parts of the training rows, score on it, then train on all; 0 never"
        " (train.epochs steps for each part and for all rows: scheduler.max is for all of them)",
    )

    @model_validator(mode="after")
    def _one_part_leaves_nothing(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds is 1, which leaves no rows to train on: take 2 or more, or 0 for none")
        return self


@dataclass(frozen=True, slots=True)
class Round:
    """Rows to train on and, in cross-validation, those held out to score on. The last round's model is kept."""

    name: str
    train: Rows
    held_out: Rows | None


def conflicts(
    curve: CurveSettings, cross_validation: CrossValidationSettings, train_rows: int | None, patience: int
) -> list[str]:
    """What of these settings cannot be had together, in words."""
    found, folds = [], cross_validation.folds
    if curve.sizes and train_rows is not None:
        found.append("curve.sizes says how many rows are trained on: leave out data.train_rows")
    if curve.sizes and folds:
        found.append("curve.sizes and cross_validation.folds both say what the rounds train on: give one of them")
    if patience and (curve.sizes or folds):
        asked = "curve.sizes" if curve.sizes else "cross_validation.folds"
        found.append(f"train.patience ends rounds early, but those of {asked} are compared at the same epochs: set 0")
    return found


def rounds(
    curve: CurveSettings, cross_validation: CrossValidationSettings, strata: Rows, keys: Sequence[Hashable]
) -> tuple[Round, ...]:
    """The rounds in order, the same for every trial; one with every row where nothing is asked for.

    A larger size begins with the smaller one's rows, and is what data.train_rows would give. Rows with the same key are
    held out together. Raises UserError where there are fewer rows than sizes or folds need.
    """
    if curve.sizes:
        return _by_size(curve.sizes, strata)
    whole = Round(ALL, np.arange(len(strata)), None)
    return (*_without_parts(cross_validation.folds, strata, keys), whole) if cross_validation.folds else (whole,)


def _by_size(sizes: Sequence[int], strata: Rows) -> tuple[Round, ...]:
    rows = len(strata)
    if max(sizes) > rows:
        raise UserError(f"curve.sizes holds {max(sizes)}, but there are {rows} training rows (-1 takes all)")
    if EVERY in sizes and rows in sizes:
        raise UserError(f"curve.sizes holds {rows} and -1, which are both all {rows} training rows: leave one out")
    drawn = {size: np.arange(rows) if size == EVERY else sample(strata, size) for size in sizes}
    return tuple(Round(str(len(chosen)), chosen, None) for chosen in drawn.values())


def _without_parts(folds: int, strata: Rows, keys: Sequence[Hashable]) -> tuple[Round, ...]:
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    groups = np.array([numbers[key] for key in keys])
    _check_enough(folds, strata, groups)
    parts = _part_of_each(folds, strata.astype(np.int64).tobytes(), groups.astype(np.int64).tobytes())
    return tuple(
        Round(f"fold {part + 1}", np.flatnonzero(parts != part), np.flatnonzero(parts == part)) for part in range(folds)
    )


def _check_enough(folds: int, strata: Rows, groups: Rows) -> None:
    """Each part can have a row of each class, and rows that stand twice are in one part alone."""
    different = np.unique(np.stack([strata, groups]), axis=1)
    fewest = int(np.unique(different[0], return_counts=True)[1].min())
    if folds > fewest:
        message = f"cross_validation.folds is {folds}, but the rarest label has {fewest} different training rows"
        hint = f"take {fewest} at most" if fewest > 1 else "leave it out"
        raise UserError([Problem(message, hint=hint)])


@lru_cache(maxsize=4)
def _part_of_each(folds: int, strata: bytes, groups: bytes) -> Rows:
    """The part (N,) that each row is held out with, for int64 `strata` and `groups`.

    Kept for the trials of one process, as it takes long where there are many rows.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    classes, together = np.frombuffer(strata, np.int64), np.frombuffer(groups, np.int64)
    parts = np.empty(len(classes), np.int64)
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=SEED).split(classes, classes, together)
    for part, (_, held_out) in enumerate(splits):
        parts[held_out] = part
    return parts
