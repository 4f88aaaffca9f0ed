"""The weights of a text model apart from it."""

import torch

from tests.pruned_models import text_model
from trainables.parts.encoders import embeddings_of
from trainables.parts.text_model import TextModel
from trainables.parts.weights import overlay, weights_of


def add_one(model: TextModel) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)


def test_they_are_copies_and_come_back_into_the_same_parameters() -> None:
    model = text_model("bert")
    weights, parameters = weights_of(model), dict(model.named_parameters())
    assert list(weights) == list(parameters)
    before = {name: value.clone() for name, value in weights.items()}
    add_one(model)
    assert all(torch.equal(weights[name], before[name]) for name in before)
    overlay(model, weights)
    assert all(torch.equal(model.get_parameter(name), before[name]) for name in before)
    assert all(model.get_parameter(name) is parameters[name] for name in before)  # the optimizer's


def test_frozen_embeddings_stay_as_they_were_loaded_but_frozen_layers_may_be_pruned() -> None:
    model = text_model("bert")
    model.encoder.requires_grad_(False)
    weights = weights_of(model)
    left_out = {name for name, _ in model.named_parameters()} - weights.keys()
    table = embeddings_of(model.encoder)
    assert left_out == {f"encoder.embeddings.{name}" for name, _ in table.named_parameters()}
    words = table.word_embeddings.weight.clone()
    add_one(model)
    overlay(model, weights)
    assert torch.equal(table.word_embeddings.weight, words + 1)
    assert all(torch.equal(model.get_parameter(name), value) for name, value in weights.items())
