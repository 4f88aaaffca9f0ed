"""Penalties are means: their values by hand, their gradients, and what does not change them."""

import math

import pytest
import torch
from torch import nn

from trainables.parts.pruning.penalties import group, l1
from trainables.parts.pruning.units import Group, Part


def test_l1_is_the_mean_size_of_a_weight_and_draws_to_zero() -> None:
    first, second = nn.Parameter(torch.tensor([[1.0, -3.0]])), nn.Parameter(torch.tensor([[0.0], [4.0]]))
    penalty = l1([first, second])
    assert penalty.item() == 2.0
    penalty.backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None
    assert second.grad is not None
    assert first.grad.tolist() == [[0.25, -0.25]]
    assert second.grad.tolist() == [[0.0], [0.25]]


def test_a_model_of_twice_the_size_has_the_same_penalties() -> None:
    weights = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(l1([weights, weights, weights]), l1([weights]))
    places = torch.arange(6).view(3, 2)
    one = Group("neurons", 0, 3, (Part("first", 0, places, consumes=False),))
    other = Group("neurons", 1, 3, (Part("second", 0, places, consumes=False),))
    parameters = {"first": weights, "second": weights}
    assert torch.allclose(group([one, other], parameters), group([one], parameters))


# A fused matrix [4, 2] of two units, values behind gates, its bias, and the matrix [1, 2] that consumes them
FUSED = torch.tensor([[1.0, 2.0], [0.0, 0.0], [2.0, 4.0], [0.0, 0.0]])
UNITS = Group(
    "neurons",
    0,
    2,
    (
        Part("into.weight", 0, torch.tensor([[0, 2], [1, 3]]), consumes=False),
        Part("into.bias", 0, torch.tensor([[0, 2], [1, 3]]), consumes=False),
        Part("out.weight", 1, torch.tensor([[0], [1]]), consumes=True),
    ),
)


def test_group_is_the_mean_norm_of_a_units_weights_wherever_they_lie() -> None:
    bias = torch.full((4,), 100.0)
    parameters = {"into.weight": FUSED, "into.bias": bias, "out.weight": torch.tensor([[-10.0, 5.0]])}
    # unit 0: 1, 2, 2, 4 and -10; unit 1: four zeros and 5
    first, second = math.sqrt(1 + 4 + 4 + 16 + 100), 5.0
    assert float(group([UNITS], parameters)) == pytest.approx((first + second) / math.sqrt(5) / 2)


def test_a_unit_of_zeros_has_gradient_zero_and_others_shrink_as_a_whole() -> None:
    into, out = nn.Parameter(FUSED.clone()), nn.Parameter(torch.tensor([[-10.0, 0.0]]))
    group([UNITS], {"into.weight": into, "into.bias": torch.zeros(4), "out.weight": out}).backward()  # type: ignore[no-untyped-call]
    times = 1 / (2 * math.sqrt(5) * math.sqrt(125))
    assert into.grad is not None
    assert out.grad is not None
    torch.testing.assert_close(into.grad, FUSED * times)
    torch.testing.assert_close(out.grad, torch.tensor([[-10.0 * times, 0.0]]))
