"""Statistics against scipy and scikit-learn, intervals and tests against what they promise, the rest by hand."""

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef

from raysweep.evidence import (
    Arm,
    Confirmation,
    bootstrap_interval,
    confirm,
    holm,
    hypervolume,
    optimism,
    paired_difference,
    pareto_front,
    score,
)
from raysweep.evidence.bootstrap import resampled
from raysweep.problems import UserError
from raysweep.trial import Scored, Statistic

Floats = npt.NDArray[np.float64]
REFERENCES: dict[Statistic, Any] = {
    "spearman": lambda predictions, targets: stats.spearmanr(predictions, targets).statistic,
    "pearson": lambda predictions, targets: stats.pearsonr(predictions, targets).statistic,
    "accuracy": lambda predictions, targets: np.mean(predictions == targets),
    "macro_f1": lambda predictions, targets: f1_score(targets, predictions, average="macro"),
    "f1": lambda predictions, targets: f1_score(targets == 1, predictions == 1, zero_division=0),
    "matthews": lambda predictions, targets: matthews_corrcoef(targets, predictions),
    "mean": lambda predictions, targets: np.mean(predictions),
}
LABELLED: tuple[Statistic, ...] = ("accuracy", "macro_f1", "f1", "matthews")


def labels_or_scores(statistic: Statistic, rng: np.random.Generator, size: int) -> Floats:
    if statistic in LABELLED:
        return rng.integers(3, size=size).astype(np.float64)
    return rng.normal(size=size).round(1) + 7  # rounded, so that values are tied


@pytest.mark.parametrize("statistic", REFERENCES)
def test_a_weighted_score_is_the_reference_score_of_the_repeated_examples(statistic: Statistic) -> None:
    rng = np.random.default_rng(0)
    predictions = np.stack([labels_or_scores(statistic, rng, 40) for _ in range(3)])
    targets = labels_or_scores(statistic, rng, 40)
    times = rng.integers(4, size=(5, 40))
    found = score(statistic, predictions, targets, times.astype(np.float64))
    expected = [
        [REFERENCES[statistic](np.repeat(row, count), np.repeat(targets, count)) for count in times]
        for row in predictions
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    plain = [[REFERENCES[statistic](row, targets)] for row in predictions]
    np.testing.assert_allclose(score(statistic, predictions, targets), plain, atol=1e-12)


@pytest.mark.parametrize("statistic", ["spearman", "pearson"])
def test_a_correlation_with_a_constant_is_zero(statistic: Statistic) -> None:
    constant, targets = np.full((1, 30), 0.1), np.linspace(0, 1, 30)
    assert score(statistic, constant, targets)[0, 0] == 0
    two = np.array([[0.1] * 29 + [0.7]])  # constant in the resamples that miss the last example
    draws = resampled(two, targets, statistic, np.random.default_rng(0), 200)[0]
    assert (draws == 0).mean() == pytest.approx((1 - 1 / 30) ** 30, abs=0.1)
    assert np.isfinite(draws).all()


@given(
    st.sampled_from(list(REFERENCES)),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12),
)
def test_a_whole_weight_is_as_many_equal_examples(statistic: Statistic, rows: list[tuple[int, int, int]]) -> None:
    predictions, targets, times = np.array(
        [*rows, (0, 1, 1), (2, 0, 1)], dtype=np.float64
    ).T  # none may be left of some
    repeated = [np.repeat(values, times.astype(int)) for values in (predictions, targets)]
    weighted = score(statistic, predictions[None], targets, times[None])
    np.testing.assert_allclose(weighted, score(statistic, repeated[0][None], repeated[1]), atol=1e-12)


@pytest.mark.parametrize(
    ("predictions", "targets"), [([1, 1, 1], [0, 1, 1]), ([0, 1, 2], [2, 2, 2]), ([0, 0, 0], [0, 0, 0])]
)
def test_one_class_alone_correlates_with_nothing(predictions: list[float], targets: list[float]) -> None:
    assert score("matthews", np.array([predictions], dtype=float), np.array(targets, dtype=float))[0, 0] == 0


def test_the_f1_of_a_class_that_is_nowhere_is_zero() -> None:
    assert score("f1", np.zeros((1, 4)), np.array([0.0, 2.0, 0.0, 2.0]))[0, 0] == 0
    by_hand = score("f1", np.array([[1.0, 1.0, 0.0, 2.0]]), np.array([1.0, 0.0, 1.0, 2.0]))
    assert by_hand[0, 0] == pytest.approx(2 * 1 / (2 + 2))


def test_resamples_are_the_same_for_all_models_and_drawn_with_replacement() -> None:
    rng = np.random.default_rng(3)
    targets = rng.integers(2, size=50).astype(np.float64)
    right = rng.random(50) < 0.8
    predictions = np.where(right, targets, 1 - targets)
    draws = resampled(np.stack([predictions, predictions]), targets, "accuracy", rng, 4000)
    np.testing.assert_array_equal(draws[0], draws[1])
    share = right.mean()
    assert draws[0].mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 50 / 4000))
    assert draws[0].std() == pytest.approx(math.sqrt(share * (1 - share) / 50), rel=0.05)


def test_an_interval_holds_the_true_correlation_as_often_as_it_promises() -> None:
    rng, true, hits = np.random.default_rng(1), 0.6, 0
    for _ in range(300):
        targets = rng.normal(size=150)
        predictions = true * targets + math.sqrt(1 - true**2) * rng.normal(size=150)
        found = bootstrap_interval(predictions[None], targets, "pearson", 0.1, rng, resamples=300)
        hits += found.low <= true <= found.high
    assert hits / 300 == pytest.approx(0.9, abs=0.052)  # three deviations


def noisy_models(
    rng: np.random.Generator, seeds: int, targets: Floats, seed_noise: float, share: float = 0.8
) -> Floats:
    """Predictions [S, N] of labels, right with a probability that differs between training seeds."""
    right = rng.random((seeds, len(targets))) < np.clip(share + seed_noise * rng.normal(size=(seeds, 1)), 0, 1)
    return np.where(right, targets, 1 - targets)


@pytest.mark.parametrize(("seeds", "seed_noise"), [(1, 0.0), (3, 0.0), (3, 0.05), (5, 0.05)])
def test_equal_arms_seldom_differ_and_an_interval_says_the_same(seeds: int, seed_noise: float) -> None:
    rng, claims = np.random.default_rng(seeds), 0
    targets = (rng.random(400) < 0.5).astype(np.float64)
    for _ in range(300):
        first, second = (noisy_models(rng, seeds, targets, seed_noise) for _ in range(2))
        found = paired_difference(first, second, targets, "accuracy", 0.05, rng, resamples=400)
        claims += found.p <= 0.05
        assert found.p > 0.04 or not found.low < 0 < found.high
    assert claims / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_three_seeds_that_agree_are_no_proof() -> None:
    targets = np.zeros(1000)
    first, second = np.zeros((3, 1000)), np.zeros((3, 1000))
    for seed, wrong in enumerate((5, 30, 100)):  # always worse, but by very different amounts
        second[seed, :wrong] = 1
    found = paired_difference(first, second, targets, "accuracy", 0.05, np.random.default_rng(0))
    gaps = np.array([0.005, 0.03, 0.1])
    assert found.difference == pytest.approx(gaps.mean())
    assert found.p == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue, abs=0.05)  # examples add almost nothing here
    assert found.low < 0


def test_a_large_difference_is_found_with_the_least_p_value() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=500)
    good, bad = (targets + noise * rng.normal(size=(4, 500)) for noise in (0.1, 2.0))
    found = paired_difference(good, bad, targets, "spearman", 0.05, rng, resamples=999)
    assert found.p <= 4 / 1000
    assert 0 < found.low < found.difference < found.high
    back = paired_difference(bad, good, targets, "spearman", 0.05, np.random.default_rng(0), resamples=999)
    assert back.difference == pytest.approx(-found.difference)


def test_models_with_the_same_predictions_do_not_differ_at_all() -> None:
    rng = np.random.default_rng(0)
    targets, predictions = rng.normal(size=50), rng.normal(size=(2, 50))
    found = paired_difference(predictions, predictions, targets, "spearman", 0.05, rng, resamples=200)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_pairing_by_examples_is_sharper_than_two_intervals() -> None:
    rng = np.random.default_rng(5)
    targets = np.zeros(300)
    first = (rng.random((1, 300)) < 0.20).astype(np.float64)
    second = first.copy()
    second[0, np.flatnonzero(first[0] == 0)[:10]] = 1  # the same mistakes and ten more
    found = paired_difference(first, second, targets, "accuracy", 0.05, rng)
    intervals = [bootstrap_interval(one, targets, "accuracy", 0.05, rng) for one in (first, second)]
    assert intervals[0].low < intervals[1].high
    assert found.p < 0.01
    assert found.difference == pytest.approx(10 / 300)


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04; none may be less than the one before it
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.integers(0, 200), min_size=1, max_size=8), st.integers(1, 40))
def test_holm_rejects_what_stepping_down_rejects(thousandths: list[int], level: int) -> None:
    ps, alpha = [Fraction(count, 1000) for count in thousandths], Fraction(level, 200)
    by_size = sorted(range(len(ps)), key=lambda index: ps[index])
    fails = (place for place, index in enumerate(by_size) if ps[index] > alpha / (len(ps) - place))
    rejected = by_size[: next(fails, len(ps))]
    assert {index for index, p in enumerate(holm(ps)) if p <= alpha} == set(rejected)  # type: ignore[arg-type]


def test_a_pareto_front_by_hand() -> None:
    points = [[0.9, 10], [0.8, 5], [0.8, 6], [0.95, 20], [0.5, 5], [math.nan, 1], [0.9, 10]]
    assert pareto_front(points, ["maximize", "minimize"]) == [0, 1, 3, 6]
    assert pareto_front([[0.9, 10], [0.8, 5]], ["maximize", "maximize"]) == [0]
    assert pareto_front([], ["maximize", "minimize"]) == []


def test_a_hypervolume_by_hand() -> None:
    # squares 1 x 3 and 2 x 2 overlap in 1 x 2; the point beyond the reference adds nothing
    assert hypervolume([[1, 3], [2, 2], [-1, 9]], [0, 0], ["maximize", "maximize"]) == 5
    assert hypervolume([[1, 0], [0, 1]], [2, 2], ["minimize", "minimize"]) == 3
    assert hypervolume([[0.9, 10]], [0.5, 30], ["maximize", "minimize"]) == pytest.approx(8)
    # boxes 1x2x3 and 3x2x1 overlap in 1x2x1
    assert hypervolume([[1, 2, 3], [3, 2, 1]], [0, 0, 0], ["maximize"] * 3) == 10
    assert hypervolume([], [0, 0], ["maximize", "maximize"]) == 0
    assert hypervolume([[math.nan, 1], [math.inf, 1]], [0, 0], ["maximize", "maximize"]) == 0


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=6))
def test_a_hypervolume_is_the_number_of_unit_cubes_below_the_points(points: list[tuple[int, int, int]]) -> None:
    cubes = {(x, y, z) for a, b, c in points for x in range(a) for y in range(b) for z in range(c)}
    assert hypervolume(points, [0, 0, 0], ["maximize"] * 3) == len(cubes)
    front = [points[index] for index in pareto_front(points, ["maximize"] * 3)]
    assert hypervolume(front, [0, 0, 0], ["maximize"] * 3) == len(cubes)


def test_optimism_is_positive_when_the_search_overrated() -> None:
    assert optimism(0.9, [0.8, 0.9]) == pytest.approx(0.05)
    assert optimism(0.1, [0.2, 0.1], maximize=False) == pytest.approx(0.05)


def arm(name: str, role: Any, noise: float, select: list[float], targets: Floats, rng: np.random.Generator) -> Arm:
    seeds = list(range(101, 101 + len(select)))
    predictions = targets + noise * rng.normal(size=(len(seeds), len(targets)))
    trials = [f"{name}-{seed}" for seed in seeds]
    return Arm(name, role, "t0003", {"lr": 0.1}, trials, seeds, select, predictions, targets, "spearman", 0.95)


@pytest.fixture
def arms() -> list[Arm]:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=300)
    return [
        arm("finalist-1", "finalist", 0.5, [0.8, 0.7, 0.75], targets, rng),
        arm("finalist-2", "finalist", 0.5, [0.8, 0.9, 0.85], targets, rng),
        arm("untrained", "reference", 3.0, [0.2, 0.2, 0.2], targets, rng),
        arm("oracle", "reference", 0.01, [0.99, 0.99, 0.99], targets, rng),
    ]


def test_the_winner_is_chosen_on_the_select_split_and_judged_on_the_report_split(arms: list[Arm]) -> None:
    found = confirm(arms, alpha=0.05, seed=0)
    assert found.winner == "finalist-2"
    assert found.champion == "finalist-2-102"
    assert found.optimism == pytest.approx(0.95 - 0.85)
    verdicts = {one.against: one.verdict for one in found.comparisons}
    assert verdicts == {"finalist-1": "not distinguishable", "untrained": "better", "oracle": "worse"}
    assert {one.arm for one in found.comparisons} == {"finalist-2"}
    for one in found.comparisons:
        assert one.p <= one.p_holm
        assert one.low <= one.difference <= one.high
    first = found.arms[0]
    expected = [stats.spearmanr(row, arms[0].targets).statistic for row in arms[0].predictions]
    assert first.per_seed == pytest.approx(expected)
    assert first.mean == pytest.approx(np.mean(expected))
    assert first.low < first.mean < first.high
    assert (first.metric, first.select_per_seed, first.of) == ("spearman", [0.8, 0.7, 0.75], "t0003")


def test_a_smaller_select_score_wins_when_minimising(arms: list[Arm]) -> None:
    found = confirm(arms, alpha=0.05, seed=0, maximize=False)
    assert (found.winner, found.champion) == ("finalist-1", "finalist-1-102")


def test_p_values_are_corrected_for_every_finalist_that_could_have_won(arms: list[Arm]) -> None:
    comparisons = confirm(arms, alpha=0.05, seed=0).comparisons
    # one pair of finalists and two finalists against two references make five; four of them are clear
    least = min(one.p for one in comparisons)
    assert min(one.p_holm for one in comparisons) == pytest.approx(5 * least)
    alone = confirm([arms[1], arms[2]], alpha=0.05, seed=0).comparisons
    assert [(one.p, one.verdict) for one in alone] == [(one.p_holm, "better") for one in alone]


def test_the_same_seed_gives_the_same_record_and_it_survives_json(arms: list[Arm]) -> None:
    first, second = (confirm(arms, alpha=0.05, seed=4) for _ in range(2))
    assert first == second
    assert first.comparisons != confirm(arms, alpha=0.05, seed=5).comparisons
    record = json.loads(json.dumps({"kind": "confirmed", "time": 1.0, **first.to_dict()}))
    assert Confirmation.from_dict(record) == first
    arm_keys = {"arm", "role", "of", "config", "trials", "seeds", "metric", "mean", "low", "high", "per_seed"}
    assert set(record["arms"][0]) == arm_keys | {"select_per_seed", "others"}
    comparison_keys = {"arm", "against", "difference", "low", "high", "p", "p_holm", "verdict", "error_reduction"}
    assert set(record["comparisons"][0]) == comparison_keys
    assert set(record["comparisons"][0]["error_reduction"]) == {"value", "low", "high"}
    assert set(record) == {"kind", "time", "arms", "comparisons", "winner", "champion", "optimism"}


def test_a_record_from_before_further_scores_and_error_reductions_still_loads(arms: list[Arm]) -> None:
    found = confirm(arms, alpha=0.05, seed=4)
    record = json.loads(json.dumps(found.to_dict()))
    for one in record["arms"]:
        del one["others"]
    for one in record["comparisons"]:
        del one["error_reduction"]
    loaded = Confirmation.from_dict(record)
    assert loaded.arms == found.arms
    assert [(one.against, one.error_reduction) for one in loaded.comparisons] == [
        (one.against, None) for one in found.comparisons
    ]


def test_a_finalist_alone_is_compared_with_nothing(arms: list[Arm]) -> None:
    found = confirm(arms[:1], alpha=0.05, seed=0)
    assert (found.winner, found.comparisons) == ("finalist-1", [])


def test_arms_are_paired_on_the_seeds_they_share(arms: list[Arm]) -> None:
    first, other = arms[0], arms[2]
    fewer = Arm(
        **{**fields(other), "seeds": [103, 101], "trials": ["c", "a"], "select": [0.2, 0.2]}
        | {"predictions": other.predictions[[2, 0]]}
    )
    found = confirm([first, fewer], alpha=0.05, seed=0)
    gaps = [
        found.arms[0].per_seed[0] - found.arms[1].per_seed[1],
        found.arms[0].per_seed[2] - found.arms[1].per_seed[0],
    ]
    assert found.comparisons[0].difference == pytest.approx(np.mean(gaps))


def test_further_scores_get_an_interval_for_each_arm_and_decide_nothing(arms: list[Arm]) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=80).astype(np.float64)
    wide = [
        Arm(**{**fields(one), "others": {"hard": Scored(noisy_models(rng, 3, labels, 0.0), labels, "f1")}})
        for one in arms
    ]
    found, without = confirm(wide, alpha=0.05, seed=0), confirm(arms, alpha=0.05, seed=0)
    for one, arm in zip(found.arms, wide, strict=True):
        hard = one.others["hard"]
        assert hard.per_seed == pytest.approx([f1_score(labels, row) for row in arm.others["hard"].predictions])
        assert hard.low < hard.mean < hard.high
        assert (hard.mean, hard.statistic) == (pytest.approx(np.mean(hard.per_seed)), "f1")
    assert (found.winner, found.champion) == (without.winner, without.champion)
    assert found.comparisons == without.comparisons
    assert [(one.mean, one.low, one.high) for one in found.arms] == [(a.mean, a.low, a.high) for a in without.arms]
    assert Confirmation.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_arms_whose_further_scores_do_not_match_are_refused(arms: list[Arm]) -> None:
    predictions, targets = arms[0].predictions, arms[0].targets
    broken = predictions.copy()
    broken[0, 0] = math.nan
    others: list[dict[str, Scored]] = [
        {"hard": Scored(predictions, targets, "spearman")},
        {"hard": Scored(broken, targets, "pearson")},
        {},
        {"hard": Scored(predictions, -targets, "spearman"), "odd": Scored(predictions, targets, "mean")},
    ]
    with pytest.raises(UserError) as error:
        confirm([Arm(**{**fields(a), "others": o}) for a, o in zip(arms, others, strict=True)], alpha=0.05, seed=0)
    assert sorted(problem.message for problem in error.value.problems) == [
        "arm 'finalist-1' has no 'odd', which 'oracle' has",
        "arm 'finalist-2' has no 'odd', which 'oracle' has",
        "arm 'finalist-2' has predictions on 'hard' that are not finite",
        "arm 'finalist-2' is scored on 'hard' by pearson, 'finalist-1' by spearman",
        "arm 'untrained' has no 'hard', which 'finalist-1' has",
        "arm 'untrained' has no 'odd', which 'oracle' has",
        "arms 'oracle' and 'finalist-1' were evaluated on different examples of 'hard'",
    ]


def fields(one: Arm) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Arm.__dataclass_fields__}


def test_arms_that_cannot_be_compared_are_refused_with_every_reason(arms: list[Arm]) -> None:
    broken = arms[2].predictions.copy()
    broken[0, 0] = math.nan
    wrong = [
        Arm(**{**fields(arms[2]), "predictions": broken}),
        Arm(**{**fields(arms[3]), "targets": arms[3].targets[::-1]}),
        Arm(**{**fields(arms[3]), "name": "other", "statistic": "pearson", "seeds": [1, 2, 3]}),
    ]
    with pytest.raises(UserError) as error:
        confirm([arms[0], *wrong], alpha=0.05, seed=0)
    assert [problem.message for problem in error.value.problems] == [
        "arm 'untrained' has predictions or scores that are not finite",
        "arms 'oracle' and 'finalist-1' were evaluated on different examples",
        "arm 'other' is scored by pearson, 'finalist-1' by spearman",
        "arms 'finalist-1' and 'other' have no training seed in common",
    ]
    with pytest.raises(UserError, match="no finalist could be trained again"):
        confirm(arms[2:], alpha=0.05, seed=0)


def null_sweep(rng: np.random.Generator, targets: Floats) -> Confirmation:
    """Three finalists and two references that are equally good; a trained model is lucky on both splits alike."""

    def one(name: str, role: Any) -> Arm:
        luck, seeds = 0.08 * rng.normal(size=(5, 1)), list(range(5))
        select = (0.7 + luck[:, 0] + 0.01 * rng.normal(size=5)).tolist()
        predictions = np.where(rng.random((5, len(targets))) < 0.7 + luck, targets, 1 - targets)
        trials = [f"{name}-{seed}" for seed in seeds]
        return Arm(name, role, "t0000", {}, trials, seeds, select, predictions, targets, "accuracy", 0.8)

    names = [("a", "finalist"), ("b", "finalist"), ("c", "finalist"), ("d", "reference"), ("e", "reference")]
    return confirm([one(*name) for name in names], alpha=0.05, seed=int(rng.integers(2**31)), resamples=800)


def test_sweeps_over_equal_arms_claim_a_difference_in_at_most_alpha_of_cases() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random(400) < 0.5).astype(np.float64)
    sweeps = [null_sweep(rng, targets).comparisons for _ in range(200)]
    claims = sum(any(one.verdict != "not distinguishable" for one in sweep) for sweep in sweeps)
    naive = sum(any(one.low > 0 or one.high < 0 for one in sweep) for sweep in sweeps)
    assert claims <= 0.05 * len(sweeps)
    assert naive > 0.10 * len(sweeps)  # what four single comparisons of the winner would claim
