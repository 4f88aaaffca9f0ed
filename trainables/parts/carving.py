"""Rows drawn from a split: a selection set carved out of train, and a smaller sample to train on. Both are stratified.

N rows; `strata` (N,) numbers the group whose share is kept: classes, tenths of a target, or one for all.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
SEED = 0  # one for every trial: all of them search by the same rows, and a larger sample holds the smaller one
BINS = 10  # of a regression's targets


def tenths(targets: npt.NDArray[np.float64]) -> Rows:
    """Numbers the tenth of all rows, from the smallest targets on, that each row lies in, (N,)."""
    ranks = np.argsort(np.argsort(targets, kind="stable"), kind="stable")
    return ranks * BINS // max(len(targets), 1)


def carve(keys: Sequence[Hashable], strata: Rows, share: float) -> tuple[Rows, Rows]:
    """The rows that stay, and `share` of all rows and of each stratum's that are carved out; both in order.

    Rows with the same key stay together. Where such a group would be too much of a stratum, it stays, so that a stratum
    of large groups may give a few rows less.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        groups[key].append(row)
    members = list(groups.values())
    rng = np.random.default_rng(SEED)
    wanted = _shares(strata, share, rng)
    left, carved = wanted.total(), np.zeros(len(strata), bool)
    for number in rng.permutation(len(members)):
        if not left:
            break
        rows = members[number]
        needed = Counter(strata[rows].tolist())
        if needed <= wanted:
            wanted -= needed
            left -= len(rows)
            carved[rows] = True
    return np.flatnonzero(~carved), np.flatnonzero(carved)


def sample(strata: Rows, size: int) -> Rows:
    """`size` rows, shuffled, in which every stratum has its share; a larger sample begins with the smaller one."""
    shuffled = np.random.default_rng(SEED).permutation(len(strata))
    places = np.empty(len(strata))
    for name, count in zip(*_counts(strata), strict=True):
        # The rows of a stratum are spread evenly over the whole order, the same for a rare one and a frequent one.
        places[shuffled[strata[shuffled] == name]] = (np.arange(count) + 0.5) / count
    return shuffled[np.argsort(places[shuffled], kind="stable")][:size]


def _shares(strata: Rows, share: float, rng: np.random.Generator) -> Counter[int]:
    """How many rows each stratum gives: a part of one is rounded up where it is largest, until the whole is right."""
    names, counts = _counts(strata)
    sizes = np.floor(share * counts).astype(np.int64)
    short = int(share * len(strata) + 0.5) - int(sizes.sum())
    order = rng.permutation(len(names))
    parts = (share * counts - sizes)[order]
    sizes[order[np.argsort(-parts, kind="stable")[: max(short, 0)]]] += 1
    return Counter(dict(zip(names.tolist(), sizes.tolist(), strict=True)))


def _counts(strata: Rows) -> tuple[Rows, Rows]:
    names, counts = np.unique(strata, return_counts=True)
    return names, counts
