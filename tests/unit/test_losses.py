"""Losses against sums written out by hand and against sentence-transformers; scores against scipy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sentence_transformers.util import pairwise_cos_sim

from trainables.parts.losses import cosent, cosine_mse, pair_loss
from trainables.parts.scores import pearson, spearman

COSINES = torch.tensor([0.9, -0.2, 0.4, 0.4])
SCORES = torch.tensor([0.3, 0.8, 0.0, 0.8])
cosine_lists = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=8)


def test_cosine_loss_is_the_mean_squared_difference() -> None:
    expected = (0.6**2 + 1.0**2 + 0.4**2 + 0.4**2) / 4
    assert cosine_mse(COSINES, SCORES).item() == pytest.approx(expected)


def test_cosent_sums_over_all_pairs_in_the_wrong_order() -> None:
    total = 1.0
    for i in range(4):
        for j in range(4):
            if SCORES[i] > SCORES[j]:
                total += math.exp(20 * (COSINES[j] - COSINES[i]))
    assert cosent(COSINES, SCORES).item() == pytest.approx(math.log(total), rel=1e-6)


def test_cosent_agrees_with_sentence_transformers() -> None:
    from sentence_transformers.losses import CoSENTLoss

    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 9, 6, generator=generator)
    scores = torch.rand(9, generator=generator)
    theirs = CoSENTLoss(None).compute_loss_from_embeddings([first, second], scores)
    assert cosent(pairwise_cos_sim(first, second), scores).item() == pytest.approx(theirs.item(), rel=1e-4)


def test_cosent_of_equal_scores_is_zero_and_has_a_gradient() -> None:
    cosines = COSINES.clone().requires_grad_()
    loss = cosent(cosines, torch.full((4,), 0.5))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(cosines.grad, torch.zeros(4))


@given(cosine_lists)
def test_cosent_is_smallest_in_the_right_order(values: list[float]) -> None:
    cosines, scores = torch.tensor(sorted(values)), torch.arange(len(values)) / len(values)
    assert cosent(cosines, scores) <= cosent(cosines.flip(0), scores) + 1e-5


def test_loss_by_name() -> None:
    assert pair_loss("cosine", COSINES, SCORES, 3.0) == cosine_mse(COSINES, SCORES)
    assert pair_loss("cosent", COSINES, SCORES, 3.0) == cosent(COSINES, SCORES, 3.0)


def test_correlations_agree_with_scipy_on_ties() -> None:
    predictions, targets = COSINES.double().numpy(), SCORES.double().numpy()
    assert spearman(predictions, targets) == pytest.approx(stats.spearmanr(predictions, targets).statistic)
    assert pearson(predictions, targets) == pytest.approx(stats.pearsonr(predictions, targets).statistic)


@given(cosine_lists)
def test_spearman_sees_order_only(values: list[float]) -> None:
    predictions, targets = np.array(values), np.arange(len(values), dtype=float)
    assert spearman(predictions, targets) == pytest.approx(spearman(stats.rankdata(predictions), targets))


def test_constant_predictions_have_no_correlation_and_broken_ones_are_seen() -> None:
    targets = np.array([0.1, 0.5, 0.9])
    assert spearman(np.full(3, 0.7), targets) == pearson(np.full(3, 0.7), targets) == 0
    assert math.isnan(spearman(np.array([0.1, np.nan, 0.2]), targets))
