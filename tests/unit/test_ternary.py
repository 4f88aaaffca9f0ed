"""Ternary layers as they are trained: BitNet b1.58's formulas, and gradients that rounding lets through."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.ternary_encoders import drawn, layer
from trainables.parts import synthetic, synthetic_tasks
from trainables.parts.batches import tokenise
from trainables.parts.packed import pack
from trainables.parts.ternary.convert import make_ternary
from trainables.parts.ternary.layer import TernaryLinear, eight_bits, ternary
from trainables.parts.text_model import Shape, TextModel, start_head

SIDE, SEED = st.integers(1, 40), st.integers(0, 99)


def rounded_weights(weight: Tensor) -> Tensor:
    """RoundClip(W / mean|W|, -1, 1) mean|W|, as arXiv 2402.17764 has it in its equations 1 to 3."""
    mean = weight.abs().mean()
    return torch.clamp(torch.round(weight / mean), -1, 1) * mean


def rounded_inputs(x: Tensor) -> Tensor:
    """Each token in 8 bits, from -127 to 127 for its largest number."""
    largest = x.abs().amax(-1, keepdim=True)
    return torch.round(x * 127 / largest) * largest / 127


def test_weights_are_rounded_at_half_their_mean() -> None:
    values, scale = ternary(torch.tensor([[4.0, -0.1, 0.2], [-0.9, 1.1, 5.7]]))  # 12 / 6 = 2, so that 1 is the border
    assert float(scale) == pytest.approx(2)
    assert scale.dtype == torch.float32
    assert values.tolist() == [[1, 0, 0], [0, 1, 1]]
    assert values.dtype == torch.int8
    assert ternary(torch.tensor([3.0, -3.0, 1.0, 1.0]))[0].tolist() == [1, -1, 0, 0], "halves to even"


def test_each_token_is_scaled_by_its_own_largest_number() -> None:
    whole, step = eight_bits(torch.tensor([[12.7, -0.06, 0.04], [0.0, 0.0, 0.0], [-254.0, 3.1, 2.9]]))
    assert whole.tolist() == [[127, -1, 0], [0, 0, 0], [-127, 2, 1]]
    assert step.flatten().tolist() == pytest.approx([0.1, 0, 2])


@pytest.mark.parametrize("norm", [False, True])
@given(outputs=SIDE, inputs=SIDE, tokens=st.integers(1, 5), seed=SEED)
def test_the_product_is_that_of_what_was_rounded(norm: bool, outputs: int, inputs: int, tokens: int, seed: int) -> None:
    linear, x = layer(inputs, outputs, norm=norm, seed=seed), drawn(2, tokens, inputs, seed=seed + 9)
    normed = F.rms_norm(x, (inputs,), linear.norm.weight, 1e-6) if linear.norm is not None else x
    expected = F.linear(rounded_inputs(normed), rounded_weights(linear.weight), linear.bias)
    torch.testing.assert_close(linear(x), expected, atol=1e-5, rtol=1e-5)


@given(outputs=SIDE, inputs=SIDE, seed=SEED)
def test_rounding_lets_gradients_through(outputs: int, inputs: int, seed: int) -> None:
    linear, x = layer(inputs, outputs, seed=seed), drawn(3, 2, inputs, seed=seed + 9).requires_grad_()
    outer = drawn(3, 2, outputs, seed=seed + 10)
    assert linear.bias is not None
    found = torch.autograd.grad(linear(x), [x, linear.weight, linear.bias], outer)
    plain = [rounded_inputs(x), rounded_weights(linear.weight), linear.bias]
    plain = [tensor.detach().requires_grad_() for tensor in plain]
    expected = torch.autograd.grad(F.linear(*plain), plain, outer)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_gradients_are_made_only_for_what_learns() -> None:
    linear, x = layer(6, 4), drawn(5, 6).requires_grad_()
    linear.weight.requires_grad_(False)
    linear(x).sum().backward()
    assert x.grad is not None
    assert linear.weight.grad is None
    linear.weight.requires_grad_()
    linear(x.detach()).sum().backward()
    assert linear.weight.grad is not None


def test_zeros_stay_zeros() -> None:
    values, scale = ternary(torch.zeros(3, 5))
    assert (scale, values.any()) == (0, False)
    linear = layer(5, 3)
    linear.weight.data.zero_()
    x = torch.zeros(2, 5, requires_grad=True)
    assert linear.bias is not None
    assert torch.equal(linear(x), linear.bias.expand(2, 3))
    linear(x).sum().backward()
    assert linear.weight.grad is not None
    assert not linear.weight.grad.any()


def test_what_is_no_number_is_not_hidden() -> None:
    linear = layer(4, 2)
    assert linear(torch.tensor([[1.0, torch.nan, 0, 0], [1, 2, 3, 4]])).isnan().all(1).tolist() == [True, False]
    linear.weight.data[0, 0] = torch.nan
    assert linear(drawn(3, 4)).isnan().all()


@given(tokens=st.integers(2, 9), seed=SEED)
def test_an_answer_does_not_depend_on_the_tokens_beside_it(tokens: int, seed: int) -> None:
    linear, x = layer(33, 7, seed=seed), drawn(tokens, 33, seed=seed + 9)
    assert torch.equal(linear(x)[:1], linear(x[:1]))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_16_bits_neither_overflow_nor_change_what_comes_out(kind: torch.dtype) -> None:
    linear, x = layer(2000, 3, bias=False), torch.ones(1, 2000)
    linear.weight.data.fill_(0.5)  # 127 times 2000 is more than float16 knows
    with torch.autocast("cpu", kind):
        mixed = linear(x)
        mixed.sum().backward()
    half = linear.to(kind)(x.to(kind))
    for y in (mixed, half):
        assert y.dtype == kind
        assert y.float().flatten().tolist() == pytest.approx([1000] * 3, rel=1e-2)
    assert linear.weight.grad is not None
    assert linear.weight.grad.float().mean() == pytest.approx(1, rel=1e-2)


def test_weights_are_taken_and_nothing_is_drawn() -> None:
    linear = nn.Linear(4, 3).requires_grad_(False)
    before = torch.random.get_rng_state()
    made = TernaryLinear(linear.eval(), norm=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert made.weight is linear.weight
    assert made.bias is linear.bias
    assert not made.training
    assert made.norm is not None
    assert made.norm.weight.tolist() == [1] * 4
    assert made.state_dict().keys() == {"weight", "bias", "norm.weight"}


def test_a_ternary_encoder_learns() -> None:
    examples = synthetic_tasks.rows("classification", 1, ("first", "second", "third"), 0)[:1500]
    tokens = tokenise(synthetic.tokenizer(), [row[0][0] for row in examples], 32)
    labels = torch.tensor([int(row[1]) for row in examples])
    model = TextModel(synthetic.encoder(0), Shape(3))
    start_head(model, 0, None)
    made = make_ternary(model.encoder)
    assert len(made) == 2 * 6
    train, held_out = np.arange(1200), np.arange(1200, 1500)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    rng = np.random.default_rng(0)
    model.train()
    for _ in range(3):
        for rows in np.split(rng.permutation(train), 40):
            optimizer.zero_grad()
            F.cross_entropy(model(pack(tokens, rows)), labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        found = model.eval()(pack(tokens, held_out)).argmax(1)
    assert (found == labels[held_out]).float().mean() > 0.5, "by chance a third"


def test_nothing_that_exported_models_use_needs_raysweep() -> None:
    script = "import sys; import trainables.parts.ternary.packed; print([n for n in sys.modules if 'raysweep' in n])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
