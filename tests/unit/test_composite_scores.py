"""Scores of several tasks in one: by hand, equal to the plain ones where they are the same, and drawn task by task."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raysweep.evidence import Arm, bootstrap_interval, confirm, paired_difference, score
from raysweep.evidence.bootstrap import resampled
from raysweep.evidence.scores import SCORES, best_score
from raysweep.evidence.stretches import exact_words, words
from raysweep.problems import UserError
from raysweep.trial import Evaluation, Scored, Scoring, Statistic, Stretch

Floats = npt.NDArray[np.float64]
TASKS = (Stretch("accuracy", 4, 0.5), Stretch("spearman", 3))
TARGETS = np.array([1, 0, 1, 0, 1, 2, 3], dtype=np.float64)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([1, 0, 1, 0, 5, 6, 7], 1),  # all is right
        ([1, 0, 1, 1, 5, 6, 7], ((0.75 - 0.5) / 0.5 + 1) / 2),
        ([1, 1, 1, 1, 2, 2, 2], 0),  # one label and one number for everything: guessing
        ([0, 1, 0, 1, 3, 2, 1], -1),  # all is wrong
    ],
)
def test_a_composite_score_by_hand(predictions: list[float], expected: float) -> None:
    assert score(TASKS, np.array([predictions], dtype=np.float64), TARGETS)[0, 0] == expected


def test_each_model_and_each_weighting_has_its_score() -> None:
    predictions = np.array([[1, 0, 1, 0, 1, 2, 3], [1, 1, 1, 0, 1, 3, 2]], dtype=np.float64)
    weights = np.array([[1, 1, 1, 1, 1, 1, 1], [0, 3, 1, 0, 2, 1, 0]], dtype=np.float64)
    # of the second model: right are 3 of 4 and 1 of 4 by weight; the ranks correlate by 1/2, and by 1 without the last
    assert score(TASKS, predictions, TARGETS, weights) == pytest.approx(np.array([[1, 1], [0.5, 0.25]]))


sides = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=12)


def arrays(rows: list[tuple[int, int, int]]) -> tuple[Floats, Floats]:
    """Predictions [2, N] and targets [N]."""
    first, second, targets = np.array(rows, dtype=np.float64).T
    return np.stack([first, second]), targets


@given(st.sampled_from(list(SCORES)), sides, st.integers(0, 99))
def test_one_stretch_above_nothing_is_the_plain_statistic(
    statistic: Statistic, rows: list[tuple[int, int, int]], seed: int
) -> None:
    predictions, targets = arrays(rows)
    alone = (Stretch(statistic, len(rows)),)
    np.testing.assert_array_equal(score(alone, predictions, targets), score(statistic, predictions, targets))
    weights = np.random.default_rng(seed).integers(1, 4, size=(5, len(rows))).astype(np.float64)
    np.testing.assert_array_equal(
        score(alone, predictions, targets, weights), score(statistic, predictions, targets, weights)
    )
    best = best_score(alone, targets), best_score(statistic, targets)
    assert best[0] == best[1]
    first, second = (
        [
            resampled(predictions, targets, one, np.random.default_rng(seed), 300).tolist(),
            bootstrap_interval(predictions, targets, one, 0.05, np.random.default_rng(seed), 300),
            paired_difference(predictions[:1], predictions[1:], targets, one, 0.05, np.random.default_rng(seed), 300),
        ]
        for one in (alone, statistic)
    )
    assert first == second


@given(st.lists(st.tuples(st.sampled_from(list(SCORES)), sides, st.sampled_from([0, 0.25, 0.5])), min_size=1))
def test_a_composite_score_is_the_mean_of_its_tasks_own(
    tasks: list[tuple[Statistic, list[tuple[int, int, int]], float]],
) -> None:
    stretches = tuple(Stretch(statistic, len(rows), chance) for statistic, rows, chance in tasks)
    predictions, targets = arrays([row for _, rows, _ in tasks for row in rows])
    own = [(score(statistic, *arrays(rows))[:, 0] - chance) / (1 - chance) for statistic, rows, chance in tasks]
    np.testing.assert_allclose(score(stretches, predictions, targets)[:, 0], np.mean(own, axis=0), atol=1e-12)


def test_a_resample_has_as_many_examples_of_each_task_as_there_are() -> None:
    # alike within a task, so that only a draw from the other task could change a score; the rows differ by 1/2
    predictions = np.stack([np.repeat([1.0, 0.0], [7, 60]), np.repeat([1.0, 1.0], [7, 60])])
    tasks = (Stretch("mean", 7), Stretch("mean", 60))
    draws = resampled(predictions, np.ones(67), tasks, np.random.default_rng(0), 700)
    np.testing.assert_array_equal(draws, np.repeat([[0.5], [1.0]], 700, axis=1))
    as_one = resampled(predictions[:1], np.ones(67), "mean", np.random.default_rng(0), 700)
    assert as_one.std() > 0.01


def test_the_tasks_are_drawn_apart_and_alike_for_all_models() -> None:
    rng = np.random.default_rng(1)
    targets = np.zeros(200)
    row = (rng.random(200) < 0.4).astype(np.float64)
    row[100:] = row[:100]  # both tasks have the same examples
    both = (Stretch("accuracy", 100), Stretch("accuracy", 100))
    draws = resampled(np.stack([row, row]), targets, both, np.random.default_rng(2), 4000)
    np.testing.assert_array_equal(draws[0], draws[1])
    share = row.mean()
    # two samples of 100, and not one that is counted twice
    assert draws[0].std() == pytest.approx(math.sqrt(share * (1 - share) / 200), rel=0.05)


def test_a_stratified_interval_is_narrower_than_one_of_all_examples_in_one_heap() -> None:
    rng = np.random.default_rng(0)
    sizes, tasks = (6, 594), (Stretch("accuracy", 6, 0.5), Stretch("accuracy", 594, 0.25))
    predictions, targets = np.zeros((1, 600)), np.zeros(600)
    predictions[0, :3] = 1  # half of the small task is wrong
    predictions[0, 500:] = 1
    shares = np.array([0.5, 494 / 594])
    draws = resampled(predictions, targets, tasks, rng, 4000)[0]
    deviation = np.sqrt(shares * (1 - shares) / sizes) / (1 - np.array([0.5, 0.25]))
    assert draws.std() == pytest.approx(np.linalg.norm(deviation) / 2, rel=0.05)
    weights = rng.multinomial(600, np.full(600, 1 / 600), size=4000).astype(np.float64)
    heap = score(tasks, predictions, targets, weights[weights[:, :6].any(axis=1)])[0]
    assert draws.std() < 0.96 * heap.std()
    stratified = bootstrap_interval(predictions, targets, tasks, 0.05, rng, 4000)
    assert stratified.high - stratified.low < np.subtract(*np.quantile(heap, [0.975, 0.025]))
    assert stratified.mean == pytest.approx(((0.5 - 0.5) / 0.5 + (shares[1] - 0.25) / 0.75) / 2)


def test_an_interval_holds_the_true_composite_score_as_often_as_it_promises() -> None:
    rng, hits = np.random.default_rng(3), 0
    tasks = (Stretch("accuracy", 100, 0.5), Stretch("pearson", 150))
    true = ((0.8 - 0.5) / 0.5 + 0.6) / 2
    for _ in range(300):
        numbers = rng.normal(size=150)
        found = 0.6 * numbers + 0.8 * rng.normal(size=150)
        predictions = np.append(rng.random(100) < 0.8, found)
        interval = bootstrap_interval(predictions[None], np.append(np.ones(100), numbers), tasks, 0.1, rng, 300)
        hits += interval.low <= true <= interval.high
    assert hits / 300 == pytest.approx(0.9, abs=0.052)  # three deviations


def test_a_paired_difference_by_hand() -> None:
    tasks = (Stretch("accuracy", 200, 0.5), Stretch("accuracy", 100, 0.25))
    first, second, targets = np.zeros((2, 300)), np.zeros((2, 300)), np.zeros(300)
    first[:, :10] = second[:, :30] = 1  # of the first task 20 more mistakes, a tenth
    first[:, 200:260] = 1
    second[:, 200:245] = 1  # of the second 15 fewer
    found = paired_difference(first, second, targets, tasks, 0.05, np.random.default_rng(0))
    assert found.difference == pytest.approx((0.1 / 0.5 - 0.15 / 0.75) / 2, abs=1e-12)
    assert found.low < 0 < found.high
    only = second.copy()
    only[:, 200:] = first[:, 200:]  # as the first arm in the second task
    found = paired_difference(first, only, targets, tasks, 0.05, np.random.default_rng(0))
    assert found.difference == pytest.approx(0.1 / 0.5 / 2)
    deviation = math.sqrt(0.1 * 0.9 / 200) / 0.5 / 2  # what both arms do alike adds nothing
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert found.p < 0.01


@pytest.mark.parametrize(
    ("statistic", "best"),
    [
        (TASKS, 1),
        ((Stretch("mean", 4), Stretch("accuracy", 3, 1 / 3)), 1),
        ((Stretch("mean", 4, 0.5), Stretch("accuracy", 3, 1 / 3)), 1),
        ((Stretch("accuracy", 4), Stretch("mean", 3)), None),
    ],
)
def test_the_best_composite_score(statistic: Scoring, best: float | None) -> None:
    targets = np.array([1, 1, 1, 1, 0.5, 1, 1])
    assert best_score(statistic, targets) == best


def test_the_best_of_a_mean_that_is_not_one_counts() -> None:
    tasks = (Stretch("mean", 2, 0.5), Stretch("f1", 2))
    assert best_score(tasks, np.array([5.0, 5.0, 0.0, 1.0])) == ((5 - 0.5) / 0.5 + 1) / 2


@pytest.mark.parametrize(
    ("statistic", "said"),
    [
        ("macro_f1", "macro_f1"),
        ((Stretch("accuracy", 3),), "accuracy"),
        ((Stretch("accuracy", 3, 0.5),), "accuracy (0 is guessing)"),
        ((Stretch("spearman", 3), Stretch("matthews", 9)), "mean of spearman and matthews"),
        (TASKS, "mean of accuracy and spearman (0 is guessing)"),
        ((Stretch("accuracy", 3, 0.5),) * 3, "mean of 3 x accuracy (0 is guessing)"),
        ((*TASKS, *TASKS, Stretch("f1", 1)), "mean of 2 x accuracy, 2 x spearman and f1 (0 is guessing)"),
    ],
)
def test_a_score_is_called_in_few_words(statistic: Scoring, said: str) -> None:
    assert words(statistic) == said


@given(st.lists(st.tuples(st.sampled_from(list(SCORES)), st.integers(1, 999), st.floats(0, 0.99)), min_size=1))
def test_words_stay_short_and_exact_words_tell_all_apart(tasks: list[tuple[Statistic, int, float]]) -> None:
    stretches = tuple(Stretch(*task) for task in tasks)
    assert len(words(stretches)) < 120
    first, *rest = stretches
    for other in (
        (*stretches, first),
        (first._replace(size=first.size + 1), *rest),
        (first._replace(chance=first.chance / 2 + 0.01), *rest),
    ):
        assert (exact_words(other) == exact_words(stretches)) == (other == stretches)


@pytest.mark.parametrize(
    "tasks",
    [
        (Stretch("accuracy", 4), Stretch("spearman", 4)),
        (Stretch("accuracy", 7), Stretch("spearman", 0)),
        (Stretch("accuracy", 8), Stretch("spearman", -1)),
        (Stretch("accuracy", 7, 1.0),),
        (Stretch("accuracy", 7, -0.1),),
        (),
    ],
)
def test_stretches_that_are_not_the_examples_are_told_before_the_proof(tasks: tuple[Stretch, ...]) -> None:
    with pytest.raises(AssertionError):
        Scored(TARGETS, TARGETS, tasks)
    with pytest.raises(AssertionError):
        Evaluation({}, TARGETS, TARGETS, tasks)
    Evaluation({}, TARGETS, TARGETS, TASKS, {"numbers": Scored(TARGETS[4:], TARGETS[4:], TASKS[1:])})


LABELS, NUMBERS = np.tile([0.0, 1.0], 100), np.arange(150.0)
BOTH = (Stretch("accuracy", 200, 0.5), Stretch("spearman", 150))


def arm(name: str, role: Any, wrong: tuple[int, int, int], statistic: Scoring = BOTH) -> Arm:
    """An arm whose seeds have so many wrong labels, and the numbers of one arm alike."""
    labels = np.stack([np.where(np.arange(200) < count, 1 - LABELS, LABELS) for count in wrong])
    numbers = np.random.default_rng(0).normal(NUMBERS, 30)
    predictions = np.concatenate([labels, np.tile(numbers, (3, 1))], axis=1)
    trials, targets = [f"{name}-{seed}" for seed in range(3)], np.append(LABELS, NUMBERS)
    others = {"numbers": Scored(predictions[:, 200:], targets[200:], statistic[1:])}  # type: ignore[arg-type]
    return Arm(name, role, "t0000", {}, trials, [0, 1, 2], [0.9] * 3, predictions, targets, statistic, 0.9, others)


def test_arms_with_composite_scores_are_compared() -> None:
    plain, better = arm("plain", "reference", (58, 60, 62)), arm("finalist-1", "finalist", (19, 20, 21))
    found = confirm([better, plain], alpha=0.05, seed=0)
    rank = stats.spearmanr(better.predictions[0, 200:], NUMBERS).statistic
    first, second = found.arms
    assert first.per_seed == pytest.approx([((1 - wrong / 200 - 0.5) / 0.5 + rank) / 2 for wrong in (19, 20, 21)])
    assert first.low < first.mean < first.high
    assert (first.metric, second.metric) == ("mean of accuracy and spearman (0 is guessing)",) * 2
    assert (first.others["numbers"].statistic, first.others["numbers"].mean) == ("spearman", pytest.approx(rank))
    (against,) = found.comparisons
    assert (against.verdict, against.difference) == ("better", pytest.approx((0.3 - 0.1) / 0.5 / 2))
    assert against.error_reduction is not None
    errors = [(share / 0.5 + 1 - rank) / 2 for share in (0.1, 0.3)]
    assert against.error_reduction.value == pytest.approx(1 - errors[0] / errors[1])


def test_arms_whose_stretches_differ_are_refused_in_words_that_tell_them_apart() -> None:
    other = (Stretch("accuracy", 200, 0.25), Stretch("spearman", 150, 0.1))
    arms = [arm("finalist-1", "finalist", (1, 2, 3)), arm("plain", "reference", (1, 2, 3), other)]
    with pytest.raises(UserError) as error:
        confirm(arms, alpha=0.05, seed=0)
    assert [problem.message for problem in error.value.problems] == [
        "arm 'plain' is scored by the mean of accuracy on 200 examples above 0.25 and spearman on 150 examples "
        "above 0.1, 'finalist-1' by the mean of accuracy on 200 examples above 0.5 and spearman on 150 examples "
        "above 0.0",
        "arm 'plain' is scored on 'numbers' by the mean of spearman on 150 examples above 0.1, 'finalist-1' by "
        "the mean of spearman on 150 examples above 0.0",
    ]
