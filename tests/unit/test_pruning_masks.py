"""Masks: which places units have, that zeros hold, and how masks are stored."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.pruned_models import loss_of, text_model
from trainables.parts.pruning.masks import Held, both, packed, unit_masks, unpacked
from trainables.parts.pruning.units import groups_of

kinds = pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "gpt2"])


@kinds
def test_a_unit_that_is_masked_has_no_influence(kind: str) -> None:
    model = text_model(kind)
    groups, parameters = groups_of(model, model.encoder), dict(model.named_parameters())
    kept = {group.name: torch.arange(group.units) != 1 for group in groups}
    held = Held(parameters)
    held.use(unit_masks(groups, kept, parameters))
    held.weights()
    loss = loss_of(model).detach()
    for group in groups:  # whatever stands where a unit comes from, nothing takes it in
        for part in group.parts:
            if not part.consumes:
                with torch.no_grad():
                    parameters[part.parameter].index_fill_(part.axis, part.places[1], 5.0)
    assert float(loss_of(model).detach()) == pytest.approx(float(loss), rel=1e-6)
    assert len(held.broken()) == sum(not part.consumes for group in groups for part in group.parts)
    held.weights()
    assert held.broken() == []


@kinds
def test_a_mask_counts_the_weights_of_its_units_alone(kind: str) -> None:
    model = text_model(kind)
    groups, parameters = groups_of(model, model.encoder), dict(model.named_parameters())
    some = groups[1]
    masks = unit_masks(groups, {some.name: torch.arange(some.units) >= 3}, parameters)
    assert masks.keys() == {part.parameter for part in some.parts}
    for part in some.parts:
        mask = masks[part.parameter]
        lines = ~mask.movedim(part.axis, 0).reshape(mask.shape[part.axis], -1)
        assert set(lines.all(1).nonzero().flatten().tolist()) == set(part.places[:3].flatten().tolist())
        assert torch.equal(lines.all(1), lines.any(1))


def held_layer() -> tuple[nn.Linear, Held]:
    layer = nn.Linear(3, 2)
    held = Held(dict(layer.named_parameters()))
    held.use({"weight": torch.tensor([[True, False, True], [False, True, True]])})
    return layer, held


def test_weights_and_gradients_are_zero_where_the_mask_is_false() -> None:
    layer, held = held_layer()
    layer.weight.grad = torch.ones(2, 3)
    before, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    assert held.broken() == ["weight"]
    held.weights()
    held.gradients()
    assert layer.weight.grad.tolist() == [[1, 0, 1], [0, 1, 1]]
    assert torch.equal(layer.weight, before * layer.weight.grad)
    assert torch.equal(layer.bias, bias)
    assert held.broken() == []


def test_weights_without_gradients_are_left_alone() -> None:
    layer, held = held_layer()
    held.gradients()
    assert layer.weight.grad is None
    Held({}).weights()


def test_a_later_mask_replaces_the_first() -> None:
    layer, held = held_layer()
    held.use({"bias": torch.tensor([False, True])})
    held.weights()
    assert layer.bias[0] == 0
    assert int(layer.weight.count_nonzero()) == 6


def test_two_masks_are_one() -> None:
    rows = {"a": torch.tensor([True, True, False]), "b": torch.tensor([True])}
    single = {"a": torch.tensor([True, False, True]), "c": torch.tensor([False])}
    assert {name: mask.tolist() for name, mask in both(rows, single).items()} == {
        "a": [True, False, False],
        "b": [True],
        "c": [False],
    }


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 1000))
def test_stored_masks_are_a_bit_a_place_and_come_back(rows: int, columns: int, seed: int) -> None:
    mask = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.5
    stored = packed({"a": mask})
    assert stored["a"].dtype == np.uint8
    assert stored["a"].nbytes == -(-rows * columns // 8)
    assert torch.equal(unpacked(stored, {"a": torch.empty(rows, columns)})["a"], mask)
