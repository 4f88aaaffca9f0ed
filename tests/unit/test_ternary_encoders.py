"""Which of an encoder's layers become ternary, and that what transformers quantises is not quantised twice."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers.integrations.bitnet import AutoBitLinear, BitLinear

from raysweep.problems import UserError
from tests.ternary_encoders import CHANGES, COUNTS, drawn, states_of, tiny
from tests.text_models import SIZES
from trainables.parts.linear_layers import Targets
from trainables.parts.ternary.convert import make_ternary
from trainables.parts.ternary.layer import TernaryLinear, eight_bits, ternary

kinds = pytest.mark.parametrize("kind", CHANGES)


@kinds
@pytest.mark.parametrize("targets", ["attention", "feed_forward", "all"])
def test_linear_layers_of_layers_become_ternary_and_nothing_else(kind: str, targets: Targets) -> None:
    encoder = tiny(kind)
    before = {name: type(part) for name, part in encoder.named_modules()}
    names = make_ternary(encoder, targets)
    attention, feed_forward = COUNTS[kind]
    wanted = {"attention": attention, "feed_forward": feed_forward, "all": attention + feed_forward}
    assert len(names) == len(set(names)) == 2 * wanted[targets]
    found = {name: type(part) for name, part in encoder.named_modules()}
    assert {name for name in before if found[name] is not before[name]} == set(names)
    assert {found[name] for name in names} == {TernaryLinear}
    told = {
        name: ("mlp" in name or "ffn" in name or ("attention" not in name and "attn" not in name)) for name in names
    }
    assert set(told.values()) == {"attention": {False}, "feed_forward": {True}, "all": {False, True}}[targets]


@kinds
def test_each_layer_answers_as_it_did_with_rounded_numbers(kind: str) -> None:
    plain, encoder = tiny(kind), tiny(kind)
    for name in make_ternary(encoder):
        made, part = encoder.get_submodule(name), plain.get_submodule(name)
        values, scale = ternary(part.weight)
        part.weight.data = values * scale
        x = drawn(2, 3, made.in_features)
        whole, step = eight_bits(x)
        torch.testing.assert_close(made(x), part(whole * step), atol=1e-5, rtol=1e-5)
    assert (states_of(encoder) - states_of(tiny(kind))).abs().max() > 1e-3


def test_classification_heads_and_poolers_stay() -> None:
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, vocab_size=60))
    names = make_ternary(model)
    assert len(names) == 12
    assert all(name.startswith("bert.encoder.layer.") for name in names)
    assert type(model.classifier) is type(model.bert.pooler.dense) is nn.Linear


def test_what_is_frozen_stays_frozen() -> None:
    for kind in ("bert", "gpt2"):
        encoder = tiny(kind).requires_grad_(False)
        make_ternary(encoder)
        assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_second_time_changes_nothing() -> None:
    encoder = tiny("bert")
    names = make_ternary(encoder, "attention")
    before = encoder.get_submodule(names[0])
    assert set(names) < set(make_ternary(encoder))
    assert encoder.get_submodule(names[0]) is before


def bitnet(made: type[nn.Module], **options: Any) -> Any:
    """A BitNet whose first matrix transformers' own loading has replaced."""
    encoder = tiny("bitnet")
    old = encoder.layers[0].mlp.up_proj
    new = made(16, 32, bias=False, **options)
    if isinstance(new, AutoBitLinear):
        new.weight = old.weight
    encoder.layers[0].mlp.up_proj = new
    return encoder


@pytest.mark.parametrize("norm", [False, True])
def test_what_transformers_rounds_is_rounded_once(norm: bool) -> None:
    theirs, ours = (bitnet(AutoBitLinear, online_quant=True, use_rms_norm=norm) for _ in range(2))
    part, old = theirs.layers[0].mlp.up_proj, ours.layers[0].mlp.up_proj
    if norm:
        part.rms_norm.weight.data = drawn(16)
        old.rms_norm.weight.data = drawn(16)
    make_ternary(ours)
    made, x = ours.layers[0].mlp.up_proj, drawn(3, 16)
    assert type(made) is TernaryLinear
    assert made.weight is old.weight
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(made(x), part(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "options"), [(AutoBitLinear, {"online_quant": False}), (BitLinear, {})])
def test_what_is_quantised_for_good_is_refused(kind: type[nn.Module], options: dict[str, Any]) -> None:
    encoder = bitnet(kind, **options)
    before = {name: type(part) for name, part in encoder.named_modules()}
    with pytest.raises(UserError, match=rf"layers\.0\.mlp\.up_proj is a {kind.__name__}.*load the encoder in 32 or 16"):
        make_ternary(encoder)
    assert {name: type(part) for name, part in encoder.named_modules()} == before


def test_an_encoder_without_layers_is_refused() -> None:
    encoder = tiny("bert")
    del encoder.encoder.layer[:]
    encoder.config.num_hidden_layers = 0
    with pytest.raises(UserError, match="no linear layers: BertModel has none"):
        make_ternary(encoder)


def test_a_bitnet_to_be_trained_loads_as_floats_without_its_note_of_quantisation(tmp_path: Path) -> None:
    encoder = tiny("bitnet")
    encoder.save_pretrained(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    told = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
    config.quantization_config = told
    config.save_pretrained(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    del config.quantization_config
    read = transformers.AutoModel.from_pretrained(tmp_path, config=config)
    assert len(make_ternary(read)) == 14
    assert torch.equal(read.layers[0].mlp.up_proj.weight, encoder.layers[0].mlp.up_proj.weight)
