"""Packed ternary layers: four weights in a byte, the same answers to the bit, and as small as they are said to be."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.ternary_encoders import CHANGES, drawn, layer, states_of, tiny
from trainables.parts.model_files import WEIGHTS, blank_encoder, write_weights
from trainables.parts.packed_weights import packed_bytes, read_weights, write_packed
from trainables.parts.ternary.convert import make_ternary
from trainables.parts.ternary.layer import ternary
from trainables.parts.ternary.packed import (
    BLOCK,
    PackedTernaryLinear,
    pack_values,
    packed_copy,
    rebuild,
    structure,
    unpack_values,
)

SIDE, SEED = st.integers(1, 40), st.integers(0, 99)
kinds = pytest.mark.parametrize("kind", CHANGES)


@given(arrays.arrays(np.int8, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0), elements=st.integers(-1, 1)))
def test_values_of_any_shape_come_back(values: Any) -> None:
    whole = torch.from_numpy(values)
    packed = pack_values(whole)
    assert packed.dtype == torch.uint8
    assert packed.shape == (-(-whole.numel() // 4),)
    assert torch.equal(unpack_values(packed, whole.numel()).reshape(whole.shape), whole)


def test_the_first_of_four_has_the_lowest_bits() -> None:
    assert pack_values(torch.tensor([[-1, 0, 1], [1, -1, 0]])).tolist() == [0b10_10_01_00, 0b01_01_01_00]


@pytest.mark.parametrize("norm", [False, True])
@given(outputs=SIDE, inputs=SIDE, bias=st.booleans(), seed=SEED)
def test_packed_and_trained_layers_answer_the_same(
    norm: bool, outputs: int, inputs: int, bias: bool, seed: int
) -> None:
    linear, x = layer(inputs, outputs, bias, norm, seed), drawn(2, 3, inputs, seed=seed + 9)
    packed = PackedTernaryLinear.of(linear)
    values, scale = ternary(linear.weight)
    assert torch.equal(packed.rows(0, outputs), values)
    assert packed.scale == scale
    assert torch.equal(packed(x), linear(x)), "sums of whole numbers are exact"


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_they_answer_the_same_in_16_bits(kind: torch.dtype) -> None:
    linear, x = layer(300, 7), drawn(4, 300)
    packed = PackedTernaryLinear.of(linear)
    with torch.autocast("cpu", kind):
        assert packed(x).dtype == kind
        assert torch.equal(packed(x), linear(x))
    expected = linear.to(kind)(x.to(kind)).float()
    # as a half, the scale itself is rounded
    torch.testing.assert_close(packed.to(kind)(x.to(kind)).float(), expected, rtol=2e-2, atol=0.2)


@pytest.mark.parametrize(("inputs", "outputs"), [(BLOCK // 10 + 1, 37), (BLOCK + 3, 6), (7, BLOCK // 7 + 5)])
def test_many_blocks_are_one_product(inputs: int, outputs: int) -> None:
    linear, x = layer(inputs, outputs), drawn(2, inputs)
    assert torch.equal(PackedTernaryLinear.of(linear)(x), linear(x))


def test_a_matrix_of_zeros_answers_its_bias() -> None:
    linear = layer(5, 3)
    linear.weight.data.zero_()
    packed = PackedTernaryLinear.of(linear)
    assert packed.scale == 0
    assert torch.equal(packed(drawn(2, 5)), linear.bias.expand(2, 3))
    assert torch.equal(PackedTernaryLinear(5, 3)(drawn(2, 5)), torch.zeros(2, 3)), "a blank one"


def test_no_gradient_is_made() -> None:
    x = drawn(2, 5).requires_grad_()
    packed = PackedTernaryLinear.of(layer(5, 3, norm=True))
    assert not packed(x).requires_grad
    assert not any(parameter.requires_grad for parameter in packed.parameters())


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that anything makes."""

    seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.seen = max(self.seen, made.nbytes)
        return made


def test_no_matrix_is_ever_whole_in_memory() -> None:
    linear = layer(512, 4096)
    packed, x = PackedTernaryLinear.of(linear), drawn(2, 512)
    with torch.no_grad(), Largest() as trained:
        linear(x)
    with torch.no_grad(), Largest() as used:
        packed(x)
    assert trained.seen == 4 * 512 * 4096
    assert used.seen == 4 * BLOCK == trained.seen / 16
    held = sum(tensor.nbytes for tensor in packed.state_dict().values())
    assert held == 512 * 4096 // 4 + 4 + 4 * 4096


@kinds
def test_a_packed_encoder_answers_the_same(kind: str) -> None:
    encoder = tiny(kind)
    names = make_ternary(encoder, norm=True)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    packed = packed_copy(encoder)
    assert torch.equal(states_of(packed), states_of(encoder))
    assert list(structure(packed)) == names
    assert not packed.training
    assert encoder.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    packed.get_submodule(names[0]).bias = None
    assert states_of(encoder).isfinite().all()


def test_no_float_weights_are_copied() -> None:
    encoder = tiny("bert")
    make_ternary(encoder)
    with Largest() as made:
        packed_copy(encoder.encoder)
    largest = max(parameter.nbytes for parameter in encoder.encoder.parameters())
    assert made.seen <= largest, "what rounds one matrix, and no copy of all"
    assert packed_copy(encoder).embeddings.word_embeddings.weight is not encoder.embeddings.word_embeddings.weight


@kinds
@pytest.mark.parametrize("norm", [False, True])
def test_files_make_the_same_encoder(kind: str, norm: bool, tmp_path: Path) -> None:
    encoder = tiny(kind)
    make_ternary(encoder, norm=norm)
    packed = packed_copy(encoder)
    encoder.config.save_pretrained(tmp_path)
    write_packed(tmp_path, packed)
    read = rebuild(blank_encoder(tmp_path), structure(packed)).eval()
    read.load_state_dict(read_weights(tmp_path))
    assert structure(read) == structure(packed)
    assert torch.equal(states_of(read), states_of(encoder))


@given(outputs=SIDE, inputs=SIDE)
def test_bytes_are_a_quarter_of_the_weights_and_a_scale(outputs: int, inputs: int) -> None:
    packed = PackedTernaryLinear.of(layer(inputs, outputs, bias=False))
    assert packed_bytes(packed.state_dict()) == (inputs * outputs + 3) // 4 + 4


def test_files_are_as_large_as_said(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(30, 33), nn.Linear(33, 10))
    packed = nn.Sequential(PackedTernaryLinear.of(layer(30, 33)), PackedTernaryLinear.of(layer(33, 10, bias=False)))
    write_weights(tmp_path, packed)
    tensors = load_file(tmp_path / WEIGHTS)
    sizes = {name: tensor.nbytes for name, tensor in tensors.items()}
    assert sizes == {"0.packed": 248, "0.scale": 4, "0.bias": 132, "1.packed": 83, "1.scale": 4}
    header = int.from_bytes((tmp_path / WEIGHTS).read_bytes()[:8], "little")
    assert (tmp_path / WEIGHTS).stat().st_size == 8 + header + sum(sizes.values())
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(tensors)


def test_blank_layers_draw_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    before = torch.random.get_rng_state()
    rebuild(model, {"0": {"norm": True}})
    assert torch.equal(torch.random.get_rng_state(), before)
    assert structure(copy.deepcopy(model)) == {"0": {"norm": True}}
