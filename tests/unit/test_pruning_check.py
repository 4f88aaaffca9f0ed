"""What cannot be pruned is said before any trial, with numbers."""

from tests.pruned_models import RISING, given_settings, text_model
from trainables.parts.encoders import keep_layers
from trainables.parts.pruning.check import check_pruning


def test_what_cannot_be_pruned_is_said_with_numbers() -> None:
    model = text_model()
    found = check_pruning(given_settings("heads+neurons", sparsity=0.95, scope="global", min_heads=2), model)
    assert [str(problem) for problem in found] == [
        "pruning.target has heads: 0.95 of 8 are 7, but only 4 can go if every layer keeps 2"
        " (lower pruning.sparsity or pruning.min_heads)"
    ]
    assert check_pruning(given_settings("heads+neurons", sparsity=0.75), model) == []
    assert check_pruning(given_settings("none", sparsity=0.95), model) == []


def test_a_model_without_a_matrix_for_two_four_is_a_problem() -> None:
    odd = text_model(hidden_size=18, num_attention_heads=2, intermediate_size=22)
    (problem,) = check_pruning(given_settings("two_four"), odd)
    assert "all 12 matrices are no multiple of 4: 18, 22" in problem.message


def test_movement_of_a_frozen_encoder_and_an_encoder_without_layers_are_problems() -> None:
    model = text_model()
    model.encoder.requires_grad_(False)
    (problem,) = check_pruning(given_settings("weights", importance="movement", **RISING), model)
    assert "all 12 matrices that can be pruned are frozen" in problem.message
    keep_layers(model.encoder, 0)
    (problem,) = check_pruning(given_settings("heads"), model)
    assert "encoder.layers is 0" in problem.message
