"""Rows carved out of train, and samples of what is left: apart, stratified, the same every time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainables.parts.carving import carve, sample, tenths

CLASSES = st.lists(st.integers(0, 3), min_size=1, max_size=300).map(np.array)
SHARES = st.floats(0.01, 0.5)


@given(CLASSES, SHARES)
def test_every_row_is_on_one_side_and_each_class_gives_its_share_within_a_row(
    classes: np.ndarray, share: float
) -> None:
    kept, held_out = carve(range(len(classes)), classes, share)
    assert sorted([*kept, *held_out]) == list(range(len(classes)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held_out) > 0).all()
    assert abs(len(held_out) - share * len(classes)) <= 0.5 + 1e-9
    for name in range(4):
        assert abs((classes[held_out] == name).sum() - share * (classes == name).sum()) < 1


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1)), min_size=1, max_size=200), SHARES)
def test_rows_with_the_same_key_stay_together_and_no_class_gives_more_than_its_share(
    rows: list[tuple[int, int]], share: float
) -> None:
    keys, classes = [key for key, _ in rows], np.array([name for _, name in rows])
    kept, held_out = carve(keys, classes, share)
    assert {keys[row] for row in kept} & {keys[row] for row in held_out} == set()
    for name in (0, 1):
        assert (classes[held_out] == name).sum() < share * (classes == name).sum() + 1


def test_many_small_classes_give_a_share_of_the_whole() -> None:
    _, held_out = carve(range(770), np.arange(770) % 77, 0.05)
    assert len(held_out) == 39
    assert len(set((held_out % 77).tolist())) == 39


def test_carved_rows_are_drawn_from_the_whole_length() -> None:
    _, held_out = carve(range(10_000), np.zeros(10_000, int), 0.05)
    assert len(held_out) == 500
    assert np.histogram(held_out, 5, (0, 10_000))[0].min() > 70


@given(CLASSES, st.data())
def test_a_sample_is_stratified_and_begins_with_any_smaller_one(classes: np.ndarray, data: st.DataObject) -> None:
    sizes = sorted(data.draw(st.tuples(*[st.integers(1, len(classes))] * 2)))
    small, large = (sample(classes, size) for size in sizes)
    assert large[: len(small)].tolist() == small.tolist()
    assert len(set(large.tolist())) == len(large) == sizes[1]
    for name in range(4):
        fair = len(large) * (classes == name).mean()
        # Each class is at its share to the nearest row, up to where four of them are rounded at once.
        assert abs((classes[large] == name).sum() - fair) <= 2.5


def test_a_sample_of_two_classes_is_fair_to_the_row() -> None:
    classes = np.array([0] * 900 + [1] * 100)
    for size in range(10, 1000, 7):
        assert abs((classes[sample(classes, size)] == 1).sum() - size / 10) <= 1


def test_a_sample_is_shuffled() -> None:
    assert (np.diff(sample(np.zeros(100, int), 100)) < 0).any()


@given(st.lists(st.floats(0, 1), min_size=10, max_size=200))
def test_tenths_are_of_equal_size_and_in_the_order_of_the_targets(targets: list[float]) -> None:
    numbers = tenths(np.array(targets))
    counts = np.bincount(numbers, minlength=10)
    assert counts.max() - counts.min() <= 1
    for low in range(9):
        highest = np.array(targets)[numbers == low].max()
        assert highest <= np.array(targets)[numbers == low + 1].min()
