"""Which task has its turn: how many of an epoch's batches are of each task, in which order, and what is in them.

K tasks; N rows of one of them.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trainables.parts.batches import Rows, length_batches
from trainables.parts.multitask.settings import SamplingSettings

Step = Mapping[str, Rows]  # a batch of each task that takes part
ROUNDING = 1e-9  # what a share of batches may differ from a whole number


def batch_counts(sizes: Sequence[int], settings: SamplingSettings) -> tuple[int, ...]:
    """An epoch's batches of each task, (K,), where `sizes` (K,) would be one pass over its rows.

    All together are as many as all passes, so that kinds of sampling train for equally long; every task has at least
    one. Shares are by size^(1/T), https://arxiv.org/abs/1907.05019. In round_robin all have the same, so that up to
    K - 1 batches fewer are left.
    """
    assert min(sizes) > 0
    if settings.kind == "round_robin":
        return (sum(sizes) // len(sizes),) * len(sizes)
    wanted = _shared_out(sum(sizes), np.asarray(sizes, np.float64) ** (1 / _temperature(settings)))
    counts = np.floor(wanted + ROUNDING).astype(np.int64)
    largest = np.argsort(counts - wanted, kind="stable")
    counts[largest[: sum(sizes) - int(counts.sum())]] += 1
    return tuple(counts.tolist())


def _temperature(settings: SamplingSettings) -> float:
    return {"proportional": 1.0, "sqrt": 2.0}.get(settings.kind, settings.temperature)


def _shared_out(total: int, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`total` by shares, (K,): those that would have less than 1 have 1, and the others share what is left."""
    least = np.zeros(len(shares), bool)
    while True:
        left = total - int(least.sum())
        wanted = np.where(least, 1.0, shares / shares[~least].sum() * left)
        if wanted.min() >= 1 - ROUNDING:
            return wanted
        least |= wanted < 1


def task_order(counts: Sequence[int], settings: SamplingSettings, rng: np.random.Generator) -> Rows:
    """The number of the task of each batch, (sum(counts),): shuffled, or in turns with round_robin."""
    every = np.arange(len(counts))
    if settings.kind == "round_robin":
        assert len(set(counts)) == 1
        return np.tile(every, counts[0])
    return rng.permutation(np.repeat(every, counts))


def epoch_batches(
    lengths: Sequence[Rows], batch_size: int, settings: SamplingSettings, rng: np.random.Generator
) -> list[tuple[int, Rows]]:
    """An epoch's batches in their order: the number of a task, and rows of it, at most `batch_size`.

    `lengths` (K times (N,)) are what rows cost; those of a batch cost about the same. A task that has more batches than
    one pass over its rows begins another one; one that has fewer leaves rows out, others in each epoch.
    """
    counts = batch_counts([-(-len(rows) // batch_size) for rows in lengths], settings)
    passes = [_endless(rows, batch_size, rng) for rows in lengths]
    return [(task, next(passes[task])) for task in task_order(counts, settings, rng).tolist()]


def epoch_steps(
    lengths: Mapping[str, Rows], batch_size: int, settings: SamplingSettings, rng: np.random.Generator
) -> list[Step]:
    """The steps of an epoch, from what the rows of each task cost: a batch of one task, or with round_robin of each."""
    names = list(lengths)
    batches = epoch_batches(list(lengths.values()), batch_size, settings, rng)
    size = len(names) if settings.kind == "round_robin" else 1
    starts = range(0, len(batches), size)
    return [{names[task]: rows for task, rows in batches[start : start + size]} for start in starts]


def _endless(lengths: Rows, batch_size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Pass after pass over the rows, each in an order of its own."""
    while True:
        yield from length_batches(lengths, batch_size, rng)
