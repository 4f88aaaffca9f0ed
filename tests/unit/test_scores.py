"""Scores of labels against sklearn and against what the proof computes, and of predictions that are none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from raysweep.evidence.scores import score
from trainables.parts.scores import SCORES, accuracy, f1, macro_f1, matthews, mean, pearson, spearman
from trainables.parts.tasks import TASKS

BINARY = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)
CLASSES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def sides(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    predictions, targets = np.array(rows, float).T
    return predictions, targets


@given(CLASSES)
def test_accuracy_is_sklearns(rows: list[tuple[int, int]]) -> None:
    predictions, targets = sides(rows)
    assert accuracy(predictions, targets) == pytest.approx(metrics.accuracy_score(targets, predictions))


@given(BINARY)
def test_f1_is_sklearns_of_class_1(rows: list[tuple[int, int]]) -> None:
    predictions, targets = sides(rows)
    assert f1(predictions, targets) == pytest.approx(metrics.f1_score(targets, predictions, zero_division=0))


@given(CLASSES)
def test_f1_among_several_classes_is_that_of_class_1(rows: list[tuple[int, int]]) -> None:
    predictions, targets = sides(rows)
    theirs = metrics.f1_score(targets, predictions, labels=[1], average="macro", zero_division=0)
    assert f1(predictions, targets) == pytest.approx(theirs)


@given(CLASSES)
def test_macro_f1_is_sklearns_and_the_proofs(rows: list[tuple[int, int]]) -> None:
    predictions, targets = sides(rows)
    found = macro_f1(predictions, targets)
    assert found == pytest.approx(metrics.f1_score(targets, predictions, average="macro", zero_division=0))
    assert found == pytest.approx(score("macro_f1", predictions[None], targets).item(), abs=1e-9)


@pytest.mark.filterwarnings("ignore:A single label")
@given(BINARY)
def test_matthews_is_sklearns(rows: list[tuple[int, int]]) -> None:
    predictions, targets = sides(rows)
    assert matthews(predictions, targets) == pytest.approx(metrics.matthews_corrcoef(targets, predictions))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_mean_is_that_of_what_each_example_was_given(values: list[float]) -> None:
    assert mean(np.array(values), np.ones(len(values))) == pytest.approx(sum(values) / len(values))


def test_numbers_written_out() -> None:
    predictions, targets = np.array([1.0, 0, 1, 0, 0, 0]), np.array([1.0, 1, 0, 0, 0, 0])
    assert accuracy(predictions, targets) == 4 / 6
    assert f1(predictions, targets) == 2 * 1 / (2 + 2)
    assert macro_f1(predictions, targets) == (0.5 + 2 * 3 / (4 + 4)) / 2
    assert matthews(predictions, targets) == pytest.approx((1 * 3 - 1 * 1) / (2 * 2 * 4 * 4) ** 0.5)


@pytest.mark.parametrize("name", SCORES)
@given(rows=BINARY)
def test_the_search_goes_by_what_the_proof_computes(name: Any, rows: list[tuple[int, int]]) -> None:
    predictions, targets = sides(rows)
    assert SCORES[name](predictions, targets) == pytest.approx(score(name, predictions[None], targets).item(), abs=1e-9)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", SCORES)
def test_one_prediction_that_is_no_number_is_seen(name: str, broken: float) -> None:
    found = SCORES[name](np.array([1.0, 0.0, broken, 1.0]), np.array([1.0, 0.0, 1.0, 0.0]))
    assert not np.isfinite(found)
    assert np.isnan(found) or name == "mean"


@pytest.mark.parametrize("statistic", [matthews, spearman, pearson])
@pytest.mark.parametrize(
    "sides", [([1.0, 1.0, 1.0], [0.0, 1.0, 0.0]), ([0.0, 1.0, 0.0], [1.0, 1.0, 1.0]), ([1.0], [1.0])]
)
def test_what_is_always_the_same_correlates_with_nothing(
    statistic: Callable[..., float], sides: tuple[list[float], list[float]]
) -> None:
    assert statistic(np.array(sides[0]), np.array(sides[1])) == 0


def test_a_class_that_neither_occurs_nor_is_predicted_has_no_f1() -> None:
    assert f1(np.zeros(3), np.zeros(3)) == 0
    assert f1(np.zeros(3), np.ones(3)) == 0
    assert accuracy(np.zeros(3), np.zeros(3)) == 1


def test_every_task_has_a_score() -> None:
    assert {task.score for task in TASKS.values()} <= SCORES.keys()
