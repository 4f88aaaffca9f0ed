"""Losses against sums written out by hand, torch and sentence-transformers; correlations against scipy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sentence_transformers.util import pairwise_cos_sim

from trainables.parts.losses import cosent, cosine_mse, pair_loss, text_loss
from trainables.parts.packed import Packed
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


LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5)
NO_TEXTS = Packed(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
LABELS = torch.tensor([2, 0, 0, 1, 2])


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def texts_of(lengths: list[int]) -> Packed:
    return Packed(torch.zeros(sum(lengths), dtype=torch.int64), torch.tensor(lengths))


def test_the_loss_of_labels_is_the_mean_cross_entropy() -> None:
    logits = drawn(5, 3)
    by_text = [-math.log(logits[i].softmax(0)[LABELS[i]]) for i in range(5)]
    assert text_loss("classification", logits, LABELS, NO_TEXTS).item() == pytest.approx(np.mean(by_text))


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_spreads_its_share_over_all_labels(smoothing: float) -> None:
    logits, by_text = drawn(5, 3), []
    for text, label in zip(logits, LABELS, strict=True):
        wanted = torch.full((3,), smoothing / 3, dtype=torch.float64)
        wanted[label] += 1 - smoothing
        by_text.append(-(wanted * text.log_softmax(0)).sum().item())
    found = text_loss("classification", logits, LABELS, NO_TEXTS, smoothing)
    assert found.item() == pytest.approx(np.mean(by_text))


def test_the_loss_of_numbers_is_the_mean_squared_difference() -> None:
    logits, targets = drawn(5, 1), torch.rand(5)
    by_text = [(logits[i, 0].item() - targets[i].item()) ** 2 for i in range(5)]
    assert text_loss("regression", logits, targets, NO_TEXTS).item() == pytest.approx(np.mean(by_text))


@given(LENGTHS, st.data())
def test_the_loss_of_answers_is_that_of_each_text_alone(lengths: list[int], data: st.DataObject) -> None:
    places = [[data.draw(st.integers(0, length - 1)) for _ in range(2)] for length in lengths]
    logits = drawn(sum(lengths), 2)
    by_text = [
        F.cross_entropy(text.T, torch.tensor(ends)).item()  # of both ends, each among the tokens of this text
        for text, ends in zip(logits.split(lengths), places, strict=True)
    ]
    found = text_loss("span", logits, torch.tensor(places), texts_of(lengths))
    assert found.item() == pytest.approx(np.mean(by_text))


@pytest.mark.parametrize(
    ("kind", "logits", "targets"),
    [
        ("classification", drawn(5, 3), LABELS),
        ("regression", drawn(5, 1), drawn(5) + 1),
        ("span", drawn(9, 2), torch.tensor([[0, 2], [0, 0], [4, 4]])),
    ],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradients_flow_to_every_logit(
    kind: str, logits: torch.Tensor, targets: torch.Tensor, smoothing: float
) -> None:
    given = logits.clone().requires_grad_()

    def loss(x: torch.Tensor) -> torch.Tensor:
        return text_loss(kind, x, targets, texts_of([3, 1, 5]), smoothing)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(loss, given)
    loss(given).backward()
    assert given.grad is not None
    moved = given.grad != 0
    assert moved.all() if kind != "span" else moved.sum() == 16  # one token alone is right whatever its logits


def test_answers_leave_no_gradient_that_is_no_number() -> None:
    logits = drawn(9, 2).float().requires_grad_()
    text_loss("span", logits, torch.tensor([[0, 2], [0, 0], [4, 4]]), texts_of([3, 1, 5])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
