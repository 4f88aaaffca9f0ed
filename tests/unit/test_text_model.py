"""Text models: BERT's own classifier is one of them, and what each pooling, head and question adds to that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from tests.text_models import config_of, encoder_folder, moved, random_model
from trainables.parts import synthetic, text_build
from trainables.parts.batches import Tokenised, tokens_of
from trainables.parts.encoders import keep_layers
from trainables.parts.packed import Packed, pack, pool, token_states
from trainables.parts.text_model import Head, Shape, TextModel, beside_question, start_head

PAIRS = [
    ("the doctor bought a car", "a car was bought"),
    ("a dog", "the nurse sold the old boat near the river"),
    ("near the river", ""),
]
FUNCTIONS = {"gelu": torch.nn.functional.gelu, "relu": torch.relu, "tanh": torch.tanh}


def tokens() -> Tokenised:
    return tokens_of(synthetic.tokenizer(), PAIRS, 32)


def batch() -> Packed:
    return pack(tokens(), np.arange(3))


def encoder(layers: int = 1) -> Any:
    model = random_model("bert", synthetic.tokenizer())
    model.pooler = None
    keep_layers(model, layers)
    return model


def text_model(shape: Shape, layers: int = 1) -> TextModel:
    """As it might be after training."""
    model = TextModel(encoder(layers), shape)
    start_head(model, 0, torch.nn.Linear(16, 16))
    moved(model)
    return model.eval()


def as_transformers(model: Any, given: Tokenised) -> Tensor:
    """Logits of a padded batch of pairs, by a classifier of transformers."""
    ids, mask = given.batch(np.arange(len(given)))
    assert given.types is not None
    types = torch.zeros_like(ids).masked_scatter(mask.bool(), torch.from_numpy(given.types))
    logits: Tensor = model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
    return logits


@torch.no_grad()
def test_with_cls_and_pooler_it_is_berts_own_classifier() -> None:
    config = random_model("bert", synthetic.tokenizer()).config
    config.num_labels = 3
    theirs = transformers.BertForSequenceClassification(config).eval()
    moved(theirs)
    ours = TextModel(theirs.bert, Shape(3, pooling="cls", pooler=True)).eval()
    start_head(ours, 0, theirs.bert.pooler.dense)
    ours.head.classifier.load_state_dict(theirs.classifier.state_dict())
    torch.testing.assert_close(ours(batch()), as_transformers(theirs, tokens()), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_recipe_puts_the_pooler_of_the_files_behind_pooling(tmp_path: Path) -> None:
    name = encoder_folder(tmp_path / "encoder", "bert")
    config = config_of(
        data={"task": "mnli"},
        encoder={"name": name, "max_length": 32},
        model={"pooling": "cls", "pooler": True, "dropout": 0.4},
    )
    ours = text_build.new_model(config, text_build.new_encoder(config, 5), 5).eval()
    theirs = transformers.BertForSequenceClassification.from_pretrained(name, num_labels=3).eval()
    theirs.classifier.load_state_dict(ours.head.classifier.state_dict())
    torch.testing.assert_close(ours(batch()), as_transformers(theirs, tokens()), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("hidden", [0, 7])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean+max", "last"])
def test_a_text_has_a_logit_for_each_output_of_what_is_pooled(pooling: Any, hidden: int, layers: int) -> None:
    model = text_model(Shape(4, pooling, hidden=hidden), layers)
    pooled = pool(token_states(model.encoder, batch()), batch(), pooling)
    assert pooled.shape == (3, 32 if pooling == "mean+max" else 16)
    inner = pooled if model.head.hidden is None else FUNCTIONS["gelu"](model.head.hidden(pooled))
    assert model(batch()).shape == (3, 4)
    assert inner.shape == (3, hidden or pooled.shape[1])
    torch.testing.assert_close(model(batch()), model.head.classifier(inner))


@torch.no_grad()
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_the_hidden_layer_has_the_activation_that_is_asked_for(activation: Any) -> None:
    head = text_model(Shape(2, hidden=6, activation=activation)).head
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    assert head.hidden is not None
    torch.testing.assert_close(head(x), head.classifier(FUNCTIONS[activation](head.hidden(x))))


@torch.no_grad()
def test_the_pooler_stands_behind_any_pooling() -> None:
    model = text_model(Shape(2, "mean", pooler=True))
    assert model.pooler is not None
    pooled = pool(token_states(model.encoder, batch()), batch(), "mean")
    torch.testing.assert_close(model(batch()), model.head.classifier(torch.tanh(model.pooler(pooled))))


@torch.no_grad()
@pytest.mark.parametrize("hidden", [0, 6])
def test_dropout_comes_before_each_layer_of_the_head_and_ends_with_training(hidden: int) -> None:
    model = text_model(Shape(2, hidden=hidden, dropout=1.0))
    x = torch.randn(5, 16)
    assert torch.equal(model.train().head(x), model.head.classifier.bias.expand(5, 2))
    head = Head(16, Shape(2, hidden=hidden))
    head.load_state_dict(model.head.state_dict())
    assert torch.equal(model.eval().head(x), head(x))


@torch.no_grad()
@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize("layers", [0, 2])
def test_answers_have_two_logits_for_each_token(layers: int, hidden: int) -> None:
    model = text_model(Shape(2, hidden=hidden, spans=True), layers)
    states = token_states(model.encoder, batch())
    features = states if layers else beside_question(states, batch())
    assert features.shape == (len(batch().ids), 16 if layers else 48)
    assert model(batch()).shape == (len(batch().ids), 2)
    torch.testing.assert_close(model(batch()), model.head(features))


def test_without_layers_a_token_stands_beside_its_question() -> None:
    given = batch()
    assert given.types is not None
    states = torch.randn(len(given.ids), 16, generator=torch.Generator().manual_seed(0))
    lengths, expected = given.lengths.tolist(), []
    for text, types in zip(states.split(lengths), given.types.split(lengths), strict=True):
        question = text[types == 0].mean(0)
        expected += [torch.cat([token, question, token * question]) for token in text]
    torch.testing.assert_close(beside_question(states, given), torch.stack(expected))


def test_the_start_depends_on_the_seed_alone() -> None:
    shape = Shape(3, "mean", pooler=True, hidden=5)
    pooler = torch.nn.Linear(16, 16)
    drawn = []
    for seed, elsewhere in ((4, 0), (4, 1), (5, 0)):
        model = TextModel(encoder(layers=elsewhere), shape)
        torch.manual_seed(elsewhere)
        before = torch.get_rng_state()
        start_head(model, seed, pooler)
        assert torch.equal(torch.get_rng_state(), before)
        drawn.append(model.head.state_dict())
        assert model.pooler is not None
        assert torch.equal(model.pooler.weight, pooler.weight)
        assert model.pooler.weight is not pooler.weight
    first, second, other = drawn
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [name for name in first if torch.equal(first[name], other[name])] == ["classifier.bias"]


def test_the_classifier_starts_as_berts_and_the_hidden_layer_as_torchs() -> None:
    model = TextModel(encoder(), Shape(50, "mean", hidden=200))
    start_head(model, 0, None)
    assert model.head.hidden is not None
    assert not model.head.classifier.bias.any()
    assert model.head.classifier.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for parameter in model.head.hidden.parameters():
        assert 0.23 < parameter.abs().max().item() <= 1 / 16**0.5


@torch.no_grad()
@pytest.mark.parametrize(
    "shape",
    [
        Shape(3),
        Shape(3, "cls", pooler=True, dropout=0.1),
        Shape(1, "mean+max", hidden=9, activation="tanh"),
        Shape(2, spans=True, hidden=4),
    ],
)
@pytest.mark.parametrize("layers", [0, 1])
def test_a_model_of_the_same_structure_takes_the_weights(shape: Shape, layers: int) -> None:
    model = text_model(shape, layers)
    blank = TextModel(encoder(layers), Shape(**json.loads(json.dumps(model.structure())))).eval()
    blank.load_state_dict(model.state_dict())
    assert blank.shape == shape
    assert torch.equal(blank(batch()), model(batch()))


def test_a_new_model_draws_no_random_numbers() -> None:
    body = encoder()
    before = torch.get_rng_state()
    TextModel(body, Shape(3, "cls", pooler=True, hidden=5))
    assert torch.equal(torch.get_rng_state(), before)
