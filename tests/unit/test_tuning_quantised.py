"""Linear layers in 8 and 4 bits: how near they are, that they are frozen, the same each time, and float again."""

import copy
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from raysweep.problems import UserError
from tests.ternary_encoders import CHANGES, drawn, states_of
from tests.tuned_models import based, wide
from trainables.parts.linear_layers import as_linear, linear_names
from trainables.parts.ternary.convert import make_ternary
from trainables.parts.tuning import quantised
from trainables.parts.tuning.quantised import dequantised, is_quantised, load_in

kinds = pytest.mark.parametrize("kind", CHANGES)
held = pytest.mark.parametrize("held", ["int8", "nf4"])


@kinds
@held
def test_linear_layers_of_layers_are_held_so_and_frozen(kind: str, held: str) -> None:
    plain, encoder = wide(kind), based(kind, held)
    names = linear_names(plain, "all")
    assert linear_names(encoder, "all") == names
    assert [name for name, part in encoder.named_modules() if is_quantised(part)] == names
    for name in names:
        part = encoder.get_submodule(name)
        assert type(part).__name__ == {"int8": "Linear8bitLt", "nf4": "Linear4bit"}[held]
        assert not any(parameter.requires_grad for parameter in part.parameters())
        assert not part.training
        assert part.weight.nbytes == {"int8": 1, "nf4": 0.5}[held] * plain.get_submodule(name).weight.numel()
    free = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert free == {name for name, _ in plain.named_parameters() if name.rpartition(".")[0] not in names}


def allowed(weight: Tensor, held: str) -> Tensor:
    """How far each weight may be off, by the largest of its row or block.

    int8: half a step of 1/127, and what float16 rounds before; nf4: half the widest gap of its 16 numbers, and what 8
    bits do to the scale.
    """
    if held == "int8":
        return (0.5 / 127 + 2**-10) * weight.abs().amax(1, keepdim=True)
    blocks = [block.abs().max().expand(len(block)) for block in weight.flatten().split(64)]
    return (0.1520 + 0.01) * torch.cat(blocks).view(weight.shape)


@kinds
@held
def test_weights_are_as_near_as_their_bits_allow(kind: str, held: str) -> None:
    plain, encoder = wide(kind), based(kind, held)
    for name in linear_names(plain, "all"):
        linear, part = as_linear(plain.get_submodule(name)), dequantised(encoder.get_submodule(name))
        assert ((part.weight - linear.weight).abs() <= allowed(linear.weight, held)).all()
        assert part.weight.dtype == torch.float32
        assert (part.bias is None) == (linear.bias is None)
        assert part.bias is None or torch.equal(part.bias, linear.bias)


@kinds
@held
def test_answers_are_the_same_each_time_and_nothing_is_drawn(kind: str, held: Any) -> None:
    first, second = wide(kind), wide(kind)
    before = torch.get_rng_state()
    for encoder in (first, second):
        load_in(encoder, held, "cpu")
    assert torch.equal(torch.get_rng_state(), before)
    states = states_of(first)
    assert torch.equal(states, states_of(first))
    assert torch.equal(states, states_of(second))
    assert 0 < (states - states_of(wide(kind))).abs().mean() < 0.5


class Stack(nn.Module):
    """An encoder of one layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.ModuleDict({"dense": nn.Linear(inputs, outputs)})])
        self.config = SimpleNamespace(num_hidden_layers=1)


def held_layer(inputs: int, outputs: int, held: Any) -> tuple[nn.Linear, Any]:
    stack = Stack(inputs, outputs)
    linear: Any = stack.get_submodule("layers.0.dense")
    load_in(stack, held, "cpu")
    return linear, stack.get_submodule("layers.0.dense")


@held
@pytest.mark.parametrize("sizes", [(64, 7), (312, 33), (192, 64), (128, 1)])
def test_layers_answer_as_their_weights_say_in_training_and_outside(held: str, sizes: tuple[int, int]) -> None:
    _, part = held_layer(*sizes, held)
    linear, x = dequantised(part), drawn(3, 2, sizes[0])
    outside = 0.05 if held == "int8" else 1e-5  # int8 rounds inputs there
    for training, limit in {True: 1e-5, False: outside}.items():
        part.train(training)
        for given in (x, x[:1, :1], x.clone().requires_grad_()):
            torch.testing.assert_close(part(given), linear(given), atol=limit, rtol=limit)


@pytest.mark.parametrize("inputs", [16, 32, 96, 160, 312])
def test_weights_are_read_rightly_or_refused(inputs: int) -> None:
    """Which of the two is the CPU's business."""
    told = ""
    try:
        linear, part = held_layer(inputs, 48, "nf4")
    except UserError as error:
        told = str(error)
    right = told or ((dequantised(part).weight - linear.weight).abs() <= allowed(linear.weight, "nf4")).all()
    assert right
    assert not told or f"layers.0.dense has {inputs} inputs" in told


def test_what_would_be_misread_is_refused_before_anything_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = wide("bert")
    monkeypatch.setattr(quantised, "_misread", lambda part: part.in_features == 128)
    with pytest.raises(UserError) as refusal:
        load_in(encoder, "nf4", "cpu")
    assert [str(problem).count("has 128 inputs") for problem in refusal.value.problems] == [1]
    assert not any(map(is_quantised, encoder.modules()))


@held
def test_gradients_are_those_of_the_float_layer(held: str) -> None:
    part = based("bert", held).encoder.layer[0].intermediate.dense
    x = [drawn(3, 2, 64).requires_grad_() for _ in range(2)]
    for given, layer in zip(x, (part, dequantised(part)), strict=True):
        (layer(given) * drawn(3, 2, 128, seed=1)).sum().backward()
    assert x[0].grad is not None
    assert x[1].grad is not None
    torch.testing.assert_close(x[0].grad, x[1].grad, atol=5e-3, rtol=5e-3)


@held
def test_the_weights_are_known_before_and_after_the_first_product(held: str) -> None:
    encoder = based("gpt2", held)
    part = encoder.h[0].attn.c_attn
    before = dequantised(part).weight
    states_of(encoder)
    assert torch.equal(dequantised(part).weight, before)
    assert torch.equal(states_of(copy.deepcopy(encoder)), states_of(encoder))
    assert before.shape == (192, 64)
    assert isinstance(wide("gpt2").h[0].attn.c_attn, Conv1D)


def test_float32_changes_nothing() -> None:
    encoder = wide("bert")
    before = dict(encoder.named_modules())
    load_in(encoder, "float32", "cpu")
    assert dict(encoder.named_modules()) == before


@held
def test_what_is_not_of_plain_numbers_is_refused(held: Any) -> None:
    encoder = wide("bert")
    make_ternary(encoder, "feed_forward")
    with pytest.raises(UserError, match=r"intermediate\.dense is a TernaryLinear.*float32"):
        load_in(encoder, held, "cpu")
    assert not any(map(is_quantised, encoder.modules()))
    again = based("bert", held)
    with pytest.raises(UserError, match="query is a Linear"):
        load_in(again, held, "cpu")


SILENT = """
import sys
from tests.ternary_encoders import states_of
from tests.tuned_models import based, tuned
from trainables.parts.tuning.lora import exported_bytes, plain
encoder = based("bert", "float32")
plain(encoder), exported_bytes(encoder)
print([name for name in ("bitsandbytes", "peft") if name in sys.modules])
for base in ("ternary", "int8", "nf4"):
    states_of(tuned("gpt2", base))
"""


def test_nothing_is_said_and_what_needs_no_bitsandbytes_does_not_import_it() -> None:
    told = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
    assert told.stderr == ""
