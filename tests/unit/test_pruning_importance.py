"""Importance of weights and units, each against its definition written out, and that nothing is left changed."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.pruned_models import LENGTHS, loss_of, losses_of, text_model, texts
from trainables.parts.pruning.importance import input_norms, last_of_all, unit_scores, weight_scores
from trainables.parts.pruning.units import Group, groups_of, matrices_of
from trainables.parts.text_model import TextModel

IMPORTANCES = ["magnitude", "squared", "taylor", "activation", "random"]
kinds = pytest.mark.parametrize("kind", ["bert", "modernbert", "gpt2"])


def without(model: TextModel, group: Group, unit: int) -> list[Tensor]:
    """The weights of one unit, matrix by matrix, without biases."""
    found = []
    for part in group.parts:
        parameter = model.get_parameter(part.parameter).detach()
        if parameter.ndim > 1:
            found.append(parameter.index_select(part.axis, part.places[unit]))
    return found


def gradients(model: TextModel, batch: int) -> dict[str, Tensor]:
    """By an ordinary backward pass of a model of its own."""
    loss_of(model, batch).backward()  # type: ignore[no-untyped-call]
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@kinds
def test_magnitude_and_square_are_sums_over_all_weights_of_a_unit(kind: str) -> None:
    model = text_model(kind)
    groups, matrices = groups_of(model, model.encoder), matrices_of(model, model.encoder)
    for importance, measure in (("magnitude", torch.abs), ("squared", torch.square)):
        single: Any = weight_scores(importance, model, matrices, losses_of(model), 0)  # type: ignore[arg-type]
        assert list(single) == [matrix.parameter for matrix in matrices]
        assert all(torch.equal(single[name], measure(model.get_parameter(name))) for name in single)
        units = unit_scores(importance, model, groups, losses_of(model), 0)  # type: ignore[arg-type]
        for group in groups:
            wanted = [sum(float(measure(w).sum()) for w in without(model, group, unit)) for unit in range(group.units)]
            assert units[group.name].tolist() == pytest.approx(wanted, rel=1e-5)


@kinds
def test_taylor_is_weight_times_gradient(kind: str) -> None:
    model, untouched = text_model(kind), text_model(kind)
    groups, matrices = groups_of(model, model.encoder), matrices_of(model, model.encoder)
    single = weight_scores("taylor", untouched, matrices, losses_of(untouched), 0)
    units = unit_scores("taylor", untouched, groups, losses_of(untouched), 0)
    moves = []
    for batch in range(2):
        model.zero_grad()
        moves.append({name: model.get_parameter(name).detach() * g for name, g in gradients(model, batch).items()})
    for name, score in single.items():
        torch.testing.assert_close(score, (moves[0][name].abs() + moves[1][name].abs()) / 2)
    for group in groups:
        sums = torch.zeros(2, group.units)
        for part in group.parts:
            if part.parameter in single:
                for batch, found in enumerate(moves):
                    lines = found[part.parameter].movedim(part.axis, 0)
                    sums[batch] += torch.stack([lines[places].sum() for places in part.places])
        wanted = sums.abs().mean(0)
        torch.testing.assert_close(units[group.name], wanted / wanted.norm(), rtol=1e-4, atol=1e-6)


def test_taylor_tells_what_the_loss_loses_without_a_neuron() -> None:
    """To first order: with weights of the matrix behind it shrunk by a thousandth."""
    model = text_model()
    name = "encoder.encoder.layer.1.output.dense.weight"
    matrix = next(each for each in matrices_of(model, model.encoder) if each.parameter == name)
    score = weight_scores("taylor", model.double(), [matrix], losses_of(model, 1), 0)[name]
    with torch.no_grad():
        before = loss_of(model)
        model.get_parameter(name)[3, 5] *= 0.999
        change = float(loss_of(model) - before)
    assert float(score[3, 5]) == pytest.approx(abs(change) / 0.001, rel=1e-2)


@kinds
def test_activation_is_the_norm_of_the_inputs_of_all_tokens_but_padding(kind: str) -> None:
    model = text_model(kind)
    groups, matrices = groups_of(model, model.encoder), matrices_of(model, model.encoder, classifier=True)
    taken: dict[str, list[Tensor]] = {matrix.parameter: [] for matrix in matrices}
    for name, inputs in taken.items():
        module = model.get_submodule(name.removesuffix(".weight"))
        module.register_forward_pre_hook(lambda _, given, into=inputs: into.append(given[0].flatten(end_dim=-2)))
    tokens, batch = texts(), texts()
    with torch.no_grad():
        for start, length in zip(tokens.starts.tolist(), LENGTHS, strict=True):
            alone = type(batch)(batch.ids[start : start + length], torch.tensor([length]))
            model(alone)  # a text by itself has no padding
    norms = {name: torch.cat(inputs).norm(dim=0) for name, inputs in taken.items()}
    single = weight_scores("activation", model, matrices, losses_of(model, 1), 0)
    for matrix in matrices:
        weight, norm = model.get_parameter(matrix.parameter).detach(), norms[matrix.parameter]
        wanted = weight.abs() * (norm if matrix.inputs == 1 else norm[:, None])
        torch.testing.assert_close(single[matrix.parameter], wanted, rtol=1e-3, atol=1e-4)
    units = unit_scores("activation", model, groups, losses_of(model, 1), 0)
    for group in groups:
        part = next(each for each in group.parts if each.consumes)
        columns = model.get_parameter(part.parameter).detach().movedim(part.axis, 0)
        wanted = torch.stack([columns[p].norm() * norms[part.parameter][p].norm() for p in part.places])
        torch.testing.assert_close(units[group.name], wanted, rtol=1e-3, atol=1e-4)


def test_random_depends_on_the_seed_alone() -> None:
    model = text_model()
    groups, matrices = groups_of(model, model.encoder), matrices_of(model, model.encoder)
    before = torch.get_rng_state()
    one, again, other = (weight_scores("random", model, matrices, losses_of(model), seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) and not torch.equal(one[name], other[name]) for name in one)
    units = torch.cat(list(unit_scores("random", model, groups, losses_of(model), 1).values()))
    assert len(units.unique()) == len(units) == 2 * (4 + 24)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_nothing_is_left_behind(importance: Any) -> None:
    model = text_model()
    model.encoder.get_submodule("encoder.layer.0").requires_grad_(False)
    model.head.classifier.bias.grad = torch.ones(3)
    before = {name: (value.clone(), value.requires_grad) for name, value in model.named_parameters()}
    state, groups, matrices = torch.get_rng_state(), groups_of(model, model.encoder), matrices_of(model, model.encoder)
    scores = weight_scores(importance, model, matrices, losses_of(model), 3)
    scores |= unit_scores(importance, model, groups, losses_of(model), 3)
    assert all(bool((score >= 0).all()) and not score.requires_grad for score in scores.values())
    assert all(float(score.sum()) > 0 for score in scores.values()), "frozen layers are ranked too"
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name][0])
        assert value.requires_grad == before[name][1]
        assert (value.grad is not None) == (name == "head.classifier.bias")
    assert model.head.classifier.bias.grad.tolist() == [1, 1, 1]
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_hooks_go_even_if_the_calibration_fails() -> None:
    model = text_model()

    def broken() -> Any:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        input_norms(model, ["encoder.encoder.layer.0.output.dense.weight"], broken)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_scores_of_all_layers_have_the_same_norm_for_units_by_taylor() -> None:
    model = text_model()
    with torch.no_grad():
        model.get_parameter("encoder.encoder.layer.1.output.dense.weight").mul_(100)
    scores = unit_scores("taylor", model, groups_of(model, model.encoder), losses_of(model), 0)
    assert [float(score.norm()) for score in scores.values()] == pytest.approx([1.0] * 4)


def test_what_is_pruned_already_comes_last() -> None:
    scores = {"a": torch.tensor([0.0, 2.0, 1.0]), "b": torch.tensor([math.pi])}
    found = last_of_all(scores, {"a": torch.tensor([True, False, True])})
    assert found["a"].argsort().tolist() == [1, 0, 2]
    assert found["b"] is scores["b"]
