"""Sentence vectors: every pooling, combination and layer by hand, and no text changes another's vector."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.multitask_models import TEXTS, encoder_of, packed, vector_of
from trainables.parts.encoders import EncoderSource, load_encoder
from trainables.parts.multitask.model import Tower
from trainables.parts.multitask.vectors import POOLS, SentenceVector, VectorShape, pools_of, start_vector
from trainables.parts.packed import Packed

STATES = torch.tensor([[1.0, 2.0], [3.0, -4.0], [5.0, 6.0], [-2.0, 0.0], [0.0, 7.0]])  # of texts of 2, 1 and 2 tokens
BATCH = Packed(torch.zeros(5, dtype=torch.int64), torch.tensor([2, 1, 2]))
CLS = [[1.0, 2.0], [5.0, 6.0], [-2.0, 0.0]]
MEAN = [[2.0, -1.0], [5.0, 6.0], [-1.0, 3.5]]
MAX = [[3.0, 2.0], [5.0, 6.0], [0.0, 7.0]]
TWO = torch.tensor([[[1.0, 2.0], [2.0, -1.0]], [[-2.0, 0.0], [-1.0, 3.5]]])  # cls and mean of the first and last text


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(("kind", "values"), [("cls", CLS), ("mean", MEAN), ("max", MAX)])
def test_one_pool_is_the_vector(kind: Any, values: list[list[float]]) -> None:
    vector = vector_of(kind=kind)
    pools = pools_of(STATES, BATCH, vector.shape.pools)
    assert pools.tolist() == [[row] for row in values]
    assert vector(pools).tolist() == values
    assert vector.width == 2


def test_two_pools_are_the_state_of_the_first_token_and_then_the_mean() -> None:
    assert POOLS["cls+mean"] == ("cls", "mean")
    pools = pools_of(STATES, BATCH, POOLS["cls+mean"])
    assert pools.tolist() == [list(pair) for pair in zip(CLS, MEAN, strict=True)]


@pytest.mark.parametrize(
    ("combine", "values"),
    [
        ("concat", [[1.0, 2.0, 2.0, -1.0], [-2.0, 0.0, -1.0, 3.5]]),
        ("sum", [[3.0, 1.0], [-3.0, 3.5]]),
        ("average", [[1.5, 0.5], [-1.5, 1.75]]),
    ],
)
def test_two_pools_are_combined_as_it_is_asked_for(combine: Any, values: list[list[float]]) -> None:
    vector = vector_of(kind="cls+mean", combine=combine)
    assert vector(TWO).tolist() == values
    assert vector.width == len(values[0])
    assert list(vector.parameters()) == []


@torch.no_grad()
def test_a_gate_mixes_each_number_of_two_pools() -> None:
    vector = vector_of(kind="cls+mean", combine="gated")
    assert vector.gate is not None
    assert vector(TWO).tolist() == [[1.5, 0.5], [-1.5, 1.75]]  # it begins as the average
    vector.gate.weight.copy_(torch.tensor([[1.0, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, -1.0]]))
    vector.gate.bias.copy_(torch.tensor([-1.0, 0.25]))
    first, second = sigmoid(1 + 0.5 * 2 - 1), sigmoid(2 + 1 + 0.25)
    wanted = [first * 1 + (1 - first) * 2, second * 2 + (1 - second) * -1]
    assert vector(TWO)[0].tolist() == pytest.approx(wanted, abs=1e-6)
    assert vector.width == 2


@torch.no_grad()
@pytest.mark.parametrize("activation", ["none", "tanh", "gelu"])
@pytest.mark.parametrize("residual", [False, True])
def test_a_projection_between_equal_widths_may_add_what_it_takes(activation: Any, residual: bool) -> None:
    vector = vector_of(projection=2, activation=activation, residual=residual)
    assert vector.projection is not None
    vector.projection.linear.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
    vector.projection.linear.bias.copy_(torch.tensor([0.5, 0.0]))
    inner = [1 * 0.2 + 2 * 0.3 + 0.5, -0.3]
    gelu = [x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in inner]
    outer = {"none": inner, "tanh": [math.tanh(x) for x in inner], "gelu": gelu}[activation]
    wanted = [value + residual * taken for value, taken in zip(outer, [0.2, 0.3], strict=True)]
    assert vector(torch.tensor([[[0.2, 0.3]]]))[0].tolist() == pytest.approx(wanted, abs=1e-6)
    assert vector.projection.residual is None


@torch.no_grad()
def test_a_residual_between_unequal_widths_goes_through_a_layer_without_bias() -> None:
    vector = vector_of(kind="cls+mean", projection=1, activation="tanh", residual=True)
    assert vector.projection is not None
    assert vector.projection.residual is not None
    assert vector.projection.residual.bias is None
    vector.projection.linear.weight.copy_(torch.tensor([[0.1, 0.0, 0.2, 0.0]]))
    vector.projection.linear.bias.copy_(torch.tensor([0.3]))
    vector.projection.residual.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
    wanted = [math.tanh(0.1 + 0.4 + 0.3) + 1 + 20 + 200 - 1000, math.tanh(-0.2 - 0.2 + 0.3) - 2 - 100 + 3500]
    assert vector(TWO)[:, 0].tolist() == pytest.approx(wanted)
    assert vector.width == 1


@torch.no_grad()
def test_the_norm_comes_last() -> None:
    vector = vector_of(hidden=3, projection=3, residual=True, layer_norm=True)
    assert vector.projection is not None
    assert vector.norm is not None
    vector.projection.linear.weight.copy_(torch.eye(3))
    vector.projection.linear.bias.zero_()
    deviation = math.sqrt(8 / 3 + 1e-5)  # of 2, 4, 6, which are twice 1, 2, 3
    pools = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert vector(pools)[0].tolist() == pytest.approx([-2 / deviation, 0, 2 / deviation], abs=1e-6)
    vector.norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    vector.norm.bias.copy_(torch.tensor([10.0, 20.0, 30.0]))
    assert vector(pools)[0].tolist() == pytest.approx([10 - 2 / deviation, 20, 30 + 6 / deviation], abs=1e-5)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 2**16))
def test_a_pool_is_of_its_own_text_alone(lengths: list[int], seed: int) -> None:
    states = torch.randn(sum(lengths), 3, generator=torch.Generator().manual_seed(seed))
    batch = Packed(torch.zeros(sum(lengths), dtype=torch.int64), torch.tensor(lengths))
    texts = states.split(lengths)
    wanted = [torch.stack([text.amax(0), text[0], text.mean(0)]) for text in texts]
    torch.testing.assert_close(pools_of(states, batch, ["max", "cls", "mean"]), torch.stack(wanted))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert"])
@pytest.mark.parametrize("pooling", POOLS)
def test_a_text_alone_has_the_vector_that_it_has_beside_longer_ones(kind: str, pooling: Any, tmp_path: Path) -> None:
    encoder = load_encoder(EncoderSource(name=encoder_of(tmp_path, kind), max_length=32), 0)
    vector = vector_of(hidden=16, kind=pooling, projection=8, activation="tanh", residual=True, layer_norm=True)
    tower = Tower(encoder.model, vector).eval()
    together = tower(packed(encoder, TEXTS))
    assert together.shape == (5, 8)
    alone = torch.cat([tower(packed(encoder, [text])) for text in TEXTS])
    torch.testing.assert_close(alone, together, atol=2e-6, rtol=0)
    torch.testing.assert_close(tower(packed(encoder, TEXTS[::-1])), together.flip(0), atol=2e-6, rtol=0)
    assert torch.pdist(together).min() > 1e-3


SHAPES = [
    VectorShape(4, "max"),
    VectorShape(4, "cls+mean", "sum", layer_norm=True),
    VectorShape(4, "cls+mean", "gated", projection=4, activation="tanh", residual=True),
    VectorShape(4, "cls+mean", projection=3, activation="gelu", residual=True, layer_norm=True),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_vector_of_the_same_structure_takes_the_weights(shape: VectorShape) -> None:
    vector = vector_of(**asdict(shape))
    told = json.loads(json.dumps(vector.structure()))
    blank = SentenceVector(VectorShape(**told))
    blank.load_state_dict(vector.state_dict())
    pools = torch.randn(3, len(shape.pools), 4, generator=torch.Generator().manual_seed(1))
    assert blank.shape == shape
    assert torch.equal(blank(pools), vector(pools))
    assert vector(pools).shape == (3, vector.width)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_start_comes_from_the_generator_alone(shape: VectorShape) -> None:
    before = torch.get_rng_state()
    one, other, third = (SentenceVector(shape) for _ in range(3))
    for vector, seed in ((one, 3), (other, 3), (third, 4)):
        start_vector(vector, torch.Generator().manual_seed(seed))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    drawn = [name for name, weight in one.named_parameters() if not torch.equal(weight, third.state_dict()[name])]
    assert {name.split(".")[0] for name in drawn} == ({"projection"} if shape.projection else set())
    for weight in (weight for name, weight in one.named_parameters() if name.startswith("projection")):
        assert weight.abs().max() <= 1 / math.sqrt(shape.pooled)
        assert weight.abs().min() > 0
