"""Gradients of several tasks become one: projections by hand and as in the paper, heads, what has no gradient."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.balanced_tasks import INPUTS, NAMES, SHARED, Points, SmallModel, balance, combined, rng, vectors_of
from trainables.parts.multitask.balance import Gradients, inner_products, taken, without_conflict


def test_two_gradients_in_conflict_are_projected_as_by_hand() -> None:
    """(1, 0) . (-1, 1) = -1: the first becomes (1, 0) + 1/2 (-1, 1), the second (-1, 1) + (1, 0)."""
    assert combined(balance("pcgrad"), {"topic": [1, 0], "mood": [-1, 1]}) == [0.5, 1.5]
    assert combined(balance("pcgrad"), {"topic": [1, 0], "mood": [-1, 0]}) == [0, 0]
    assert combined(balance("pcgrad"), {"topic": [1, 0], "mood": [0, 0]}) == [1, 0]


@given(vectors_of(3, st.floats(0, 1e3)), st.integers(0, 9))
def test_gradients_without_conflict_are_summed_unchanged(vectors: list[list[float]], seed: int) -> None:
    named = dict(zip(NAMES, vectors, strict=True))
    first, second, third = (torch.tensor(vector, dtype=torch.float64) for vector in vectors)
    assert combined(balance("pcgrad", NAMES), named, seed=seed) == (first + second + third).tolist()


@given(vectors_of(2))
def test_of_two_in_conflict_each_becomes_orthogonal_to_the_others_original(vectors: list[list[float]]) -> None:
    originals = np.array(vectors)
    projected = without_conflict(originals @ originals.T, rng()) @ originals
    if originals[0] @ originals[1] < 0:
        lengths = np.linalg.norm(originals, axis=1)
        assert [projected[0] @ originals[1], projected[1] @ originals[0]] == pytest.approx(
            [0, 0], abs=1e-12 * lengths.prod()
        )
    else:
        assert (projected == originals).all()


def projected_sum(vectors: list[list[float]], order: np.random.Generator) -> np.ndarray[Any, Any]:
    """The second algorithm of the paper as it stands there, on flat vectors."""
    total = np.zeros(len(vectors[0]))
    for task, own in enumerate(np.array(vectors)):
        for other in order.permutation([number for number in range(len(vectors)) if number != task]):
            against = np.array(vectors[other])
            if own @ against < -1e-9:
                own = own - own @ against / (against @ against) * against
        total += own
    return total


@given(vectors_of(3), st.integers(0, 99))
def test_gradients_are_projected_as_in_the_paper(vectors: list[list[float]], seed: int) -> None:
    found = combined(balance("pcgrad", NAMES), dict(zip(NAMES, vectors, strict=True)), seed=seed)
    assert found == pytest.approx(projected_sum(vectors, rng(seed)), abs=1e-6)


def test_the_order_of_projections_is_drawn_from_the_generator() -> None:
    vectors = dict(zip(NAMES, ([1.0, 0.0, 0.2], [-1.0, 1.0, 0.0], [-0.5, -1.0, 1.0]), strict=True))
    found = [tuple(combined(balance("pcgrad", NAMES), vectors, seed=seed)) for seed in [*range(20), *range(20)]]
    assert found[:20] == found[20:]
    assert len(set(found)) == 2**3, "each of three tasks meets the other two in one of two orders"


def test_heads_keep_their_gradients_and_what_has_none_gets_none() -> None:
    """Two tasks that want the opposite of one layer: nothing is left of that, but all of what their heads want."""
    model = SmallModel()
    model.heads["mood"].load_state_dict(model.heads["topic"].state_dict())
    model.shared.bias.requires_grad = False
    gradients: dict[str, Gradients] = {}
    for task, sign in zip(model.heads, (1, -1), strict=True):
        (sign * model.loss(task, INPUTS["topic"])).backward()
        gradients[task] = taken(model)
    assert [set(found) for found in gradients.values()] == [
        {"shared.weight", f"heads.{task}.weight", f"heads.{task}.bias"} for task in model.heads
    ]
    del gradients["mood"]["heads.mood.bias"]
    expected = {name: value.clone() for found in gradients.values() for name, value in found.items()}
    balance("pcgrad").combine(model, gradients, {"topic": 1.0, "mood": 1.0}, SHARED, rng())
    parameters = dict(model.named_parameters())
    for name in ("heads.topic.weight", "heads.topic.bias", "heads.mood.weight"):
        assert parameters[name].grad is not None
        assert parameters[name].grad.equal(expected[name])
    assert parameters["heads.mood.bias"].grad is None
    assert parameters["shared.bias"].grad is None
    assert parameters["shared.weight"].grad is not None
    torch.testing.assert_close(parameters["shared.weight"].grad, torch.zeros(4, 3))


def test_a_shared_parameter_that_one_task_does_not_touch_is_zero_in_its_gradient() -> None:
    """Flat: topic (1, 0 | 2), mood (-1, 1 | nothing); their product is -1, mood's square 2, topic's 5."""
    model = Points(2)
    gradients = {
        "topic": {"shared": torch.tensor([1.0, 0.0]).double(), "head": torch.tensor([2.0, 0.0]).double()},
        "mood": {"shared": torch.tensor([-1.0, 1.0]).double()},
    }
    products = inner_products(list(gradients.values()))
    assert products.tolist() == [[5, -1], [-1, 2]]
    balance("pcgrad").combine(model, gradients, {"topic": 1.0, "mood": 1.0}, ["shared", "head"], rng())
    assert model.shared.grad is not None
    assert model.head.grad is not None
    assert model.shared.grad.tolist() == pytest.approx([0.5 - 1 + 0.2, 0.5 + 1])
    assert model.head.grad.tolist() == pytest.approx([2 + 0.4, 0])


def test_taken_gradients_are_sums_of_micro_batches_and_leave_nothing() -> None:
    model = SmallModel()
    whole = torch.autograd.grad(model.loss("mood", INPUTS["mood"]), list(model.shared.parameters()))
    for row in INPUTS["mood"]:
        (model.loss("mood", row[None]) / 2).backward()
    found = taken(model)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert taken(model) == {}
    for name, gradient in zip(SHARED, whole, strict=True):
        torch.testing.assert_close(found[name], gradient)
