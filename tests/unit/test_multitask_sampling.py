"""How often each task has its turn: shares that add up, orders that a seed decides, and every row in its time."""

from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.parts.multitask.sampling import batch_counts, epoch_batches, epoch_steps, task_order
from trainables.parts.multitask.settings import SamplingSettings

SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=8)
IN_TURNS = SamplingSettings(kind="round_robin")
KINDS = st.one_of(
    st.sampled_from([SamplingSettings(), SamplingSettings(kind="sqrt")]),
    st.floats(1, 100).map(lambda heat: SamplingSettings(kind="temperature", temperature=heat)),
)


@given(sizes=SIZES, settings=KINDS)
def test_every_kind_takes_as_many_batches_and_leaves_no_task_out(sizes: list[int], settings: SamplingSettings) -> None:
    counts = batch_counts(sizes, settings)
    assert sum(counts) == sum(sizes)
    assert min(counts) >= 1


@given(sizes=SIZES, settings=KINDS)
def test_a_larger_task_never_has_fewer_batches(sizes: list[int], settings: SamplingSettings) -> None:
    found = sorted(zip(sizes, batch_counts(sizes, settings), strict=True))
    assert all(smaller[1] <= larger[1] for smaller, larger in pairwise(found) if smaller[0] < larger[0])


@given(sizes=SIZES)
def test_proportional_is_one_pass_over_each_task(sizes: list[int]) -> None:
    assert batch_counts(sizes, SamplingSettings()) == tuple(sizes)
    one = SamplingSettings(kind="temperature", temperature=1.0)
    assert batch_counts(sizes, one) == tuple(sizes)


@given(sizes=SIZES)
def test_temperature_2_is_sqrt(sizes: list[int]) -> None:
    assert batch_counts(sizes, SamplingSettings(kind="temperature")) == batch_counts(
        sizes, SamplingSettings(kind="sqrt")
    )


@given(sizes=SIZES)
def test_in_turns_every_task_has_as_many_and_no_more_in_all_than_otherwise(sizes: list[int]) -> None:
    counts = batch_counts(sizes, IN_TURNS)
    assert len(set(counts)) == 1
    assert sum(sizes) - len(sizes) < sum(counts) <= sum(sizes)


@pytest.mark.parametrize(
    ("sizes", "given", "expected"),
    [
        ([400, 100], {"kind": "sqrt"}, (333, 167)),  # 2 : 1 of 500: 333.3 and 166.7
        ([8, 1, 1], {"kind": "temperature", "temperature": 3.0}, (5, 3, 2)),  # 2 : 1 : 1 of 10: 5, 2.5 and 2.5
        ([10_000, 4, 4], {"kind": "temperature", "temperature": 1e6}, (3336, 3336, 3336)),
        ([5000, 1], {"kind": "sqrt"}, (4931, 70)),  # 70.7 : 1 of 5001
        ([5, 5, 1], {"kind": "round_robin"}, (3, 3, 3)),
    ],
)
def test_shares_by_hand(sizes: list[int], given: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert batch_counts(sizes, SamplingSettings(**given)) == expected


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 100))
def test_an_order_has_every_batch_and_the_seed_decides_it(counts: list[int], seed: int) -> None:
    order = task_order(counts, SamplingSettings(), np.random.default_rng(seed))
    assert np.bincount(order, minlength=len(counts)).tolist() == counts
    assert (order == task_order(counts, SamplingSettings(), np.random.default_rng(seed))).all()


def test_an_order_is_shuffled_or_in_turns() -> None:
    rng = np.random.default_rng(0)
    assert task_order((3, 3), IN_TURNS, rng).tolist() == [0, 1, 0, 1, 0, 1]
    drawn = {tuple(task_order((3, 3), SamplingSettings(), rng).tolist()) for _ in range(200)}
    assert len(drawn) == 20  # all orders of three and three


def rows_of(batches: list[tuple[int, Any]], task: int) -> list[list[int]]:
    return [rows.tolist() for number, rows in batches if number == task]


def lengths(*counts: int) -> list[Any]:
    return [np.arange(count) % 7 + 1 for count in counts]


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=4), size=st.integers(1, 9), seed=st.integers(0, 50))
def test_one_pass_takes_every_row_once(counts: list[int], size: int, seed: int) -> None:
    batches = epoch_batches(lengths(*counts), size, SamplingSettings(), np.random.default_rng(seed))
    for task, count in enumerate(counts):
        found = rows_of(batches, task)
        assert sorted(chain(*found)) == list(range(count))
        assert max(map(len, found)) <= size


def test_a_small_task_begins_again_only_after_a_whole_pass() -> None:
    batches = epoch_batches(lengths(40, 4), 2, IN_TURNS, np.random.default_rng(0))
    passes = rows_of(batches, 1)
    assert len(passes) == 11  # of 22 batches
    for start in range(0, 10, 2):
        assert sorted(chain(*passes[start : start + 2])) == [0, 1, 2, 3]
    assert len({tuple(map(tuple, passes[start : start + 2])) for start in range(0, 10, 2)}) > 1


def test_what_a_large_task_leaves_out_is_drawn_anew_in_each_epoch() -> None:
    rng = np.random.default_rng(0)
    epochs = [set(chain(*rows_of(epoch_batches(lengths(40, 4), 2, IN_TURNS, rng), 0))) for _ in range(20)]
    assert all(len(rows) == 22 for rows in epochs)
    assert set.union(*epochs) == set(range(40))


def test_rows_of_a_batch_are_about_as_long() -> None:
    lengths_of = [np.random.default_rng(1).integers(1, 100, 64)]
    batches = epoch_batches(lengths_of, 8, SamplingSettings(), np.random.default_rng(0))
    spans = sorted((int(lengths_of[0][rows].min()), int(lengths_of[0][rows].max())) for _, rows in batches)
    assert all(longest <= shortest for (_, longest), (shortest, _) in pairwise(spans))


def test_the_seed_alone_decides_an_epoch() -> None:
    def drawn(seed: int) -> list[tuple[int, list[int]]]:
        batches = epoch_batches(lengths(30, 9), 4, SamplingSettings(kind="sqrt"), np.random.default_rng(seed))
        return [(task, rows.tolist()) for task, rows in batches]

    assert drawn(3) == drawn(3) != drawn(4)


def test_in_turns_every_round_is_whole() -> None:
    batches = epoch_batches(lengths(30, 9, 5), 4, IN_TURNS, np.random.default_rng(0))
    assert [task for task, _ in batches] == [0, 1, 2] * 4  # of 8 + 3 + 2 batches


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=4), size=st.integers(1, 9), settings=KINDS)
def test_a_step_is_a_batch_of_one_task(counts: list[int], size: int, settings: SamplingSettings) -> None:
    named = dict(zip("dacb", lengths(*counts), strict=False))
    steps = epoch_steps(named, size, settings, np.random.default_rng(0))
    batches = epoch_batches(list(named.values()), size, settings, np.random.default_rng(0))
    found = [(task, rows.tolist()) for step in steps for task, rows in step.items()]
    assert found == [(list(named)[task], rows.tolist()) for task, rows in batches]
    assert all(len(step) == 1 for step in steps)


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=4), size=st.integers(1, 9), seed=st.integers(0, 50))
def test_in_turns_a_step_has_a_batch_of_every_task(counts: list[int], size: int, seed: int) -> None:
    named = dict(zip("dacb", lengths(*counts), strict=False))
    steps = epoch_steps(named, size, IN_TURNS, np.random.default_rng(seed))
    assert len(steps) == batch_counts([-(-count // size) for count in counts], IN_TURNS)[0]
    assert all(list(step) == list(named) for step in steps)
    for name, rows in named.items():
        taken = [step[name].tolist() for step in steps]
        assert all(0 < len(batch) <= size for batch in taken)
        one_pass = list(chain(*taken[: -(-len(rows) // size)]))
        assert len(set(one_pass)) == len(one_pass)
        assert set(one_pass) <= set(range(len(rows)))
