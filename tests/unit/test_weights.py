"""The weights of a model apart from it."""

import torch
from torch import nn

from trainables.parts.weights import overlay, weights_of


def model() -> nn.Sequential:
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    whole[0].weight.requires_grad_(False)
    return whole


def test_they_are_copies_of_what_is_trained_and_come_back() -> None:
    whole = model()
    weights = weights_of(whole)
    assert list(weights) == ["0.bias", "1.weight", "1.bias"]
    before = {name: value.clone() for name, value in weights.items()}
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.add_(1)
    frozen = whole[0].weight.clone()
    assert all(torch.equal(weights[name], before[name]) for name in before)
    parameters = list(whole.parameters())
    overlay(whole, weights)
    assert all(torch.equal(whole.get_parameter(name), before[name]) for name in before)
    assert torch.equal(whole[0].weight, frozen)
    assert all(one is other for one, other in zip(parameters, whole.parameters(), strict=True))  # the optimizer's


def test_frozen_ones_that_were_changed_can_be_told_too() -> None:
    whole = model()
    weights = weights_of(whole, {"0.weight"})
    assert list(weights) == [name for name, _ in whole.named_parameters()]
    with torch.no_grad():
        whole[0].weight.zero_()
    overlay(whole, weights)
    assert torch.equal(whole[0].weight, weights["0.weight"])
    assert whole[0].weight.any()
    assert not whole[0].weight.requires_grad
