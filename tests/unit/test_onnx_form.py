"""The ONNX form of text models gives the logits of the models themselves, whatever the batch."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.pruned_models import text_model
from tests.text_models import moved
from trainables.parts.batches import Tokenised
from trainables.parts.onnx_form import export_onnx, input_names, padded_form, pool_padded
from trainables.parts.onnx_predictor import feed, session_of
from trainables.parts.packed import Packed, pack, pool
from trainables.parts.pruning.removal import remove
from trainables.parts.pruning.units import groups_of
from trainables.parts.text_model import Shape, TextModel, start_head

LENGTHS = [[1], [3], [1, 1], [5, 1, 2], [7] * 4, [30, 2, 9, 1, 17]]
KINDS = ["bert", "roberta", "distilbert", "modernbert", "gpt2"]


def tokenised(lengths: list[int], types: bool = False) -> Tokenised:
    sizes, rng = np.array(lengths), np.random.default_rng(0)
    second = rng.integers(0, 2, sizes.sum()) if types else None
    return Tokenised(rng.integers(5, 40, sizes.sum()), np.cumsum(sizes) - sizes, sizes, 0, second)


def smaller(kind: str) -> TextModel:
    """A model without some heads and neurons, other ones in each layer."""
    model = text_model(kind)
    groups = groups_of(model, model.encoder)
    remove(model, model.encoder, {group.name: torch.arange(group.units) % 3 != group.layer for group in groups})
    return model


def shaped(kind: str, num_hidden_layers: int = 2, **shape: Any) -> TextModel:
    """A model with random weights in every part of such a shape."""
    model = TextModel(text_model(kind, num_hidden_layers=num_hidden_layers).encoder, Shape(2, **shape))
    start_head(model, 0, nn.Linear(16, 16) if model.pooler else None)
    moved(model.head, 0.2)
    return model.eval()


def inputs_of(model: TextModel, tokens: Tokenised) -> dict[str, Any]:
    config: Any = model.encoder.config
    return feed(input_names(model.encoder), tokens, np.arange(len(tokens)), config.pad_token_id or 0)


@torch.no_grad()
def logits_of(model: TextModel, tokens: Tokenised) -> np.ndarray:
    logits: np.ndarray = model(pack(tokens, np.arange(len(tokens)))).numpy()
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_models_logits_for_any_batch(kind: str, tmp_path: Path) -> None:
    model, file = smaller(kind), tmp_path / "model.onnx"
    before = torch.get_rng_state()
    export_onnx(model.train(), file)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(part.training for part in model.modules())
    model.eval()
    session = session_of(file, 1)
    for lengths in LENGTHS:
        tokens = tokenised(lengths, types=True)
        (found,) = session.run(None, inputs_of(model, tokens))
        assert found.shape == (len(lengths), 3)
        assert np.abs(found - logits_of(model, tokens)).max() < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert str(Path(__file__).parents[2]).encode() not in file.read_bytes()
    onnx.checker.check_model(file, full_check=True)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
@pytest.mark.parametrize(
    ("pooling", "rest"),
    [
        *product(["mean", "cls", "max", "mean+max", "last"], [{}, {"hidden": 8, "activation": "relu", "dropout": 0.5}]),
        *product(["mean", "cls", "max"], [{"pooler": True}]),  # which takes vectors as wide as the encoder
    ],
)
def test_the_form_has_every_part_of_the_model(kind: str, pooling: Any, rest: dict[str, Any]) -> None:
    model = shaped(kind, pooling=pooling, **rest)
    tokens = tokenised([5, 1, 12], types=True)
    given = {name: torch.from_numpy(value) for name, value in inputs_of(model, tokens).items()}
    with torch.no_grad():
        found = padded_form(model)(**given).numpy()
    assert np.abs(found - logits_of(model, tokens)).max() < 1e-5


def test_the_model_itself_is_left_as_it_was() -> None:
    model: Any = smaller("gpt2").train()
    attention, weights = model.encoder.config._attn_implementation, model.state_dict()
    form: Any = padded_form(model)
    assert attention == model.encoder.config._attn_implementation != form.encoder.config._attn_implementation
    assert not form.training
    with torch.no_grad():
        for parameter in form.parameters():
            parameter.zero_()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert any(value.any() for value in model.state_dict().values())


def test_without_layers_too() -> None:
    model = shaped("roberta", num_hidden_layers=0)
    tokens = tokenised([5, 1, 12])
    given = {name: torch.from_numpy(value) for name, value in inputs_of(model, tokens).items()}
    with torch.no_grad():
        found = padded_form(model)(**given).numpy()
    assert np.abs(found - logits_of(model, tokens)).max() < 1e-5


def test_types_are_an_input_where_the_encoder_knows_them() -> None:
    assert input_names(text_model("bert").encoder) == ("input_ids", "attention_mask", "token_type_ids")
    assert input_names(text_model("roberta", type_vocab_size=1).encoder) == ("input_ids", "attention_mask")
    assert input_names(text_model("gpt2").encoder) == ("input_ids", "attention_mask")


def test_answers_in_texts_have_no_such_form() -> None:
    with pytest.raises(AssertionError, match="not pooled"):
        padded_form(TextModel(text_model().encoder, Shape(2, spans=True)))


@settings(max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.sampled_from(["mean", "cls", "max", "mean+max", "last"]))
def test_padding_is_not_pooled(lengths: list[int], kind: Any) -> None:
    sizes = torch.tensor(lengths)
    mask = torch.arange(8) < sizes[:, None]
    states = torch.randn(len(lengths), 8, 4, generator=torch.Generator().manual_seed(0))
    states[~mask] = 1e3
    wanted = pool(states[mask], Packed(torch.zeros(int(sizes.sum())), sizes), kind)
    torch.testing.assert_close(pool_padded(states, mask.long(), kind), wanted)
