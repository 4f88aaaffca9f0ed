"""Rounds of a trial: sizes nested and stratified, folds that hold out every row once, and what cannot be had."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raysweep.problems import UserError
from raysweep.space.fields import Fields
from trainables.parts.carving import Rows
from trainables.parts.efficient import rounds as under_test
from trainables.parts.efficient.rounds import CrossValidationSettings, CurveSettings, Round, conflicts, rounds
from trainables.parts.examples import strata
from trainables.parts.task_data import TaskDataSettings, read_examples

CLASSES = st.lists(st.integers(0, 2), min_size=1, max_size=200).map(np.array)


def by_size(classes: Rows, *sizes: int) -> tuple[Round, ...]:
    return rounds(CurveSettings(sizes=sizes), CrossValidationSettings(), classes, range(len(classes)))


def in_folds(classes: Rows, keys: Any, folds: int) -> tuple[Round, ...]:
    return rounds(CurveSettings(), CrossValidationSettings(folds=folds), classes, keys)


def test_where_nothing_is_asked_for_one_round_trains_on_every_row_in_order() -> None:
    (only,) = by_size(np.array([0, 1, 1]))
    assert (only.name, only.train.tolist(), only.held_out) == ("all", [0, 1, 2], None)


@given(CLASSES, st.data())
def test_sizes_are_nested_stratified_and_end_with_all(classes: Rows, data: st.DataObject) -> None:
    most = len(classes)
    sizes = sorted(data.draw(st.sets(st.integers(1, most - 1), max_size=4))) if most > 1 else []
    found = by_size(classes, *sizes, -1)
    assert [one.name for one in found] == [*map(str, sizes), str(most)]
    assert found[-1].train.tolist() == list(range(most))
    for smaller, larger in itertools.pairwise(found):
        assert set(smaller.train.tolist()) < set(larger.train.tolist())
    for size, one in zip(sizes, found, strict=False):
        assert one.held_out is None
        assert len(set(one.train.tolist())) == len(one.train) == size
        for label in range(3):
            # Three classes are rounded at once, each by a row at most.
            assert abs((classes[one.train] == label).sum() - size * (classes == label).mean()) <= 1.5


def test_a_size_trains_on_what_as_many_rows_of_the_data_would_be() -> None:
    examples, fewer = (
        read_examples(TaskDataSettings(), "train"),
        read_examples(TaskDataSettings(train_rows=50), "train"),
    )
    small, _ = by_size(strata("classification", examples), 50, -1)
    assert examples.take(small.train).first == fewer.first


@settings(deadline=None)  # the first one imports scikit-learn
@given(CLASSES, st.integers(2, 6))
def test_every_row_is_held_out_once_and_each_part_has_its_share_of_each_class(classes: Rows, folds: int) -> None:
    classes = np.concatenate([classes, np.repeat(np.unique(classes), folds)])
    *parts, last = in_folds(classes, range(len(classes)), folds)
    assert [one.name for one in parts] == [f"fold {number}" for number in range(1, folds + 1)]
    held_out = [one.held_out for one in parts if one.held_out is not None]
    assert sorted(np.concatenate(held_out).tolist()) == list(range(len(classes)))
    for one, rows in zip(parts, held_out, strict=True):
        assert sorted([*one.train, *rows]) == list(range(len(classes)))
        assert all((np.diff(each) > 0).all() for each in (one.train, rows))
        for label in np.unique(classes):
            assert abs((classes[rows] == label).sum() - (classes == label).sum() / folds) < 1
    assert (last.name, last.train.tolist(), last.held_out) == ("all", list(range(len(classes))), None)


@settings(deadline=None)  # the first one imports scikit-learn
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 1)), max_size=80), st.integers(2, 5))
def test_rows_with_the_same_key_are_held_out_together(more: list[tuple[int, int]], folds: int) -> None:
    rows = [(f"{label} {number}", label) for number in range(folds) for label in (0, 1)] + [
        (f"{label} {number}", label) for number, label in more
    ]
    keys, classes = [key for key, _ in rows], np.array([label for _, label in rows])
    for one in in_folds(classes, keys, folds)[:-1]:
        assert one.held_out is not None
        assert len(one.held_out) > 0
        assert {keys[row] for row in one.train} & {keys[row] for row in one.held_out} == set()


def test_folds_are_the_same_for_every_trial_and_drawn_from_the_whole_length() -> None:
    classes = np.arange(300) % 3
    one = [found.train.tolist() for found in in_folds(classes, range(300), 3)]
    under_test._part_of_each.cache_clear()
    assert [found.train.tolist() for found in in_folds(classes, range(300), 3)] == one
    rows = in_folds(classes, range(300), 3)[0].held_out
    assert rows is not None
    assert np.histogram(rows, 3, (0, 300))[0].min() > 20


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([20, 101], "curve.sizes holds 101, but there are 100 training rows (-1 takes all)"),
        ([100, -1], "curve.sizes holds 100 and -1, which are both all 100 training rows: leave one out"),
    ],
)
def test_sizes_that_the_rows_do_not_give_are_refused(sizes: list[int], message: str) -> None:
    with pytest.raises(UserError) as caught:
        by_size(np.zeros(100, np.int64), *sizes)
    assert str(caught.value) == message


def test_the_largest_size_may_be_that_of_the_rows() -> None:
    assert sorted(by_size(np.zeros(4, np.int64), 2, 4)[1].train.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        ("abcdefgh", "the rarest label has 3 different training rows (take 3 at most)"),
        ("abcdeffg", "the rarest label has 2 different training rows (take 2 at most)"),
        ("abcdefff", "the rarest label has 1 different training rows (leave it out)"),
    ],
)
def test_folds_need_as_many_different_rows_of_each_class(keys: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        in_folds(np.array([0] * 5 + [7] * 3), keys, 4)
    assert str(caught.value) == f"cross_validation.folds is 4, but {hint}"


@pytest.mark.parametrize("sizes", [[3, 2], [2, 2], [0, 1], [-1, 5], [-2], [-1, -1], [5, 10, 7, -1]])
def test_sizes_that_do_not_rise_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValidationError, match=rf"found {', '.join(map(str, sizes))} "):
        CurveSettings(sizes=sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [[], [1], [-1], [1, 2, -1], [1000, 5000]])
def test_a_sweep_file_may_hold_sizes_that_rise(sizes: list[int]) -> None:
    assert Fields(CurveSettings).complaint("sizes", sizes) is None
    assert CurveSettings(sizes=sizes).sizes == tuple(sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("sizes", "expected"), [("all", "a list"), ([True], "a whole number"), (["1"], "a whole")])
def test_sizes_are_whole_numbers_in_a_list(sizes: Any, expected: str) -> None:
    assert f"expected {expected}" in str(Fields(CurveSettings).complaint("sizes", sizes))


@pytest.mark.parametrize(("folds", "message"), [(1, "leaves no rows to train on"), (21, "20"), (-1, "0")])
def test_a_number_of_folds_that_makes_no_sense_is_refused(folds: int, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CrossValidationSettings(folds=folds)


def test_every_conflict_is_named() -> None:
    none, sizes = CurveSettings(), CurveSettings(sizes=(5,))
    whole, folds = CrossValidationSettings(), CrossValidationSettings(folds=3)
    assert conflicts(none, whole, 100, 3) == []
    assert conflicts(sizes, whole, None, 0) == []
    assert conflicts(none, folds, 100, 0) == []
    (message,) = conflicts(none, folds, 100, 2)
    assert "those of cross_validation.folds are compared" in message
    found = conflicts(sizes, folds, 100, 2)
    assert len(found) == 3
    assert all(
        name in told for name, told in zip(("data.train_rows", "both say", "those of curve.sizes"), found, strict=True)
    )
