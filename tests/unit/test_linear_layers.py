"""Which linear layers are meant, of every architecture and kind of layer, and GPT-2's as linear layers and back."""

import pytest
import torch
import transformers
from torch import nn
from transformers.integrations.bitnet import BitLinear
from transformers.pytorch_utils import Conv1D

from raysweep.problems import UserError
from tests.ternary_encoders import CHANGES, COUNTS, drawn, tiny
from tests.text_models import SIZES
from trainables.parts.linear_layers import Targets, as_conv1d, as_linear, is_conv1d, linear_names
from trainables.parts.ternary.convert import make_ternary


@pytest.mark.parametrize("kind", CHANGES)
def test_those_in_the_layers_are_meant_and_nothing_else(kind: str) -> None:
    encoder = tiny(kind)
    wanted: dict[Targets, int] = dict(zip(("attention", "feed_forward"), COUNTS[kind], strict=True))
    names = {targets: linear_names(encoder, targets) for targets in wanted}
    assert {targets: len(found) for targets, found in names.items()} == {key: 2 * each for key, each in wanted.items()}
    every = linear_names(encoder, "all")
    assert sorted(every) == sorted(names["attention"] + names["feed_forward"])
    assert all(isinstance(encoder.get_submodule(name), nn.Linear | Conv1D) for name in every)
    order = [name for name, _ in encoder.named_modules()]
    assert sorted(every, key=order.index) == every


def test_neither_heads_nor_poolers_are_meant() -> None:
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, vocab_size=60))
    assert all(name.startswith("bert.encoder.layer.") for name in linear_names(model, "all"))


def test_ternary_and_packed_ones_are_found_too() -> None:
    encoder = tiny("bitnet")
    names = make_ternary(encoder)
    encoder.layers[0].mlp.up_proj = BitLinear(16, 32, bias=False)
    assert linear_names(encoder, "all") == names


def test_a_kind_that_is_not_there_is_told() -> None:
    encoder = tiny("bert")
    for layer in encoder.encoder.layer:
        layer.intermediate, layer.output = nn.Identity(), nn.Identity()
    assert len(linear_names(encoder, "all")) == 8
    with pytest.raises(UserError, match="no linear layers of the kind 'feed_forward': BertModel has none"):
        linear_names(encoder, "feed_forward")


def test_a_conv1d_and_its_linear_layer_answer_the_same() -> None:
    part, x = Conv1D(5, 3), drawn(2, 4, 3)
    part.bias.data, before = drawn(5), torch.get_rng_state()
    linear = as_linear(part.requires_grad_(False).eval())
    back = as_conv1d(linear)
    assert torch.equal(torch.get_rng_state(), before)
    assert as_linear(linear) is linear
    assert (is_conv1d(part), is_conv1d(linear), is_conv1d(back)) == (True, False, True)
    assert torch.equal(back.weight, part.weight)
    assert linear.weight.shape == (5, 3)
    for made in (linear, back):
        torch.testing.assert_close(made(x), part(x))
        assert not made.training
        assert not made.weight.requires_grad
    assert repr(back) == repr(part)
