"""Heads, neurons and matrices of encoders: that each weight is named once, and the counts of published models."""

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from raysweep.problems import UserError
from tests.text_models import random_model
from trainables.parts import synthetic
from trainables.parts.packed import Packed
from trainables.parts.pruning.architectures import ARCHITECTURES
from trainables.parts.pruning.prunable import check_prunable
from trainables.parts.pruning.units import Group, groups_of, matrices_of
from trainables.parts.text_model import Shape, TextModel

CHANGES = {"hidden_size": 32, "num_attention_heads": 4}
BIASES = dict.fromkeys(ARCHITECTURES, 2 * 4) | dict.fromkeys(("gpt2", "gpt_neox"), 2 * 2)  # of units, in two layers
BIASES["modernbert"] = 0
kinds = pytest.mark.parametrize("kind", ARCHITECTURES)


def tiny(kind: str) -> Any:
    inner = {"distilbert": "hidden_dim", "gpt2": "n_inner"}.get(kind, "intermediate_size")
    return random_model(kind, synthetic.tokenizer(), **CHANGES, **{inner: 24})


@pytest.fixture(scope="module")
def modernbert() -> Any:
    """Published as 22 layers of 768 numbers, 12 heads, 1152 gated neurons, 50,368 token ids; shapes alone."""
    config = transformers.ModernBertConfig(
        vocab_size=50_368,
        hidden_size=768,
        num_hidden_layers=22,
        num_attention_heads=12,
        intermediate_size=1152,
        num_labels=2,
    )
    with torch.device("meta"):
        return transformers.AutoModelForSequenceClassification.from_config(config)


def numbers_of(model: nn.Module, group: Group) -> int:
    """Weights and biases of one unit."""
    sizes = [(model.get_parameter(part.parameter), part) for part in group.parts]
    return sum(part.places.shape[1] * each.numel() // each.shape[part.axis] for each, part in sizes)


def test_modernbert_base_has_as_many_weights_as_published(modernbert: Any) -> None:
    assert sum(parameter.numel() for parameter in modernbert.parameters()) == 149_606_402
    inside, all_of_them = (matrices_of(modernbert, modernbert.model, classifier) for classifier in (False, True))
    counts = {each.parameter: modernbert.get_parameter(each.parameter).numel() for each in all_of_them}
    assert sum(counts.values()) == 110_888_448
    assert list(counts)[88:] == ["head.dense.weight", "classifier.weight"]
    assert inside == all_of_them[:88]
    assert sum(counts[each.parameter] for each in inside) == 22 * (4 * 768**2 + 3 * 768 * 1152)


def test_heads_and_neurons_of_modernbert_base_have_three_matrices_each(modernbert: Any) -> None:
    groups = groups_of(modernbert, modernbert.model)
    heads, neurons = ([group for group in groups if group.kind == kind] for kind in ("heads", "neurons"))
    assert [group.units for group in heads] == [12] * 22
    assert [group.units for group in neurons] == [1152] * 22
    assert {79 * numbers_of(modernbert, group) for group in heads} == {15_532_032}
    assert sum(345 * numbers_of(modernbert, group) for group in neurons) == 17_487_360
    gated = {part.parameter.rpartition("mlp.")[2]: part.places for part in neurons[3].parts}
    assert gated["Wi.weight"][7].tolist() == [7, 1159]
    assert gated["Wo.weight"][7].tolist() == [7]
    fused = heads[0].parts[0].places[2]
    assert fused.tolist() == [*range(128, 192), *range(768 + 128, 768 + 192), *range(1536 + 128, 1536 + 192)]


@pytest.mark.parametrize(
    ("kind", "layers", "head", "neuron"),
    [  # a head of 64: three times 64 rows with biases, 64 columns; a neuron: a row with its bias, a column
        ("bert", 12, 64 * (4 * 768 + 3), 2 * 768 + 1),
        ("roberta", 12, 64 * (4 * 768 + 3), 2 * 768 + 1),
        ("distilbert", 6, 64 * (4 * 768 + 3), 2 * 768 + 1),
        ("gpt2", 12, 64 * (4 * 768 + 3), 2 * 768 + 1),
    ],
)
def test_units_of_base_models(kind: str, layers: int, head: int, neuron: int) -> None:
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind))
    groups = groups_of(model, model)
    told = [(group.name, group.units, numbers_of(model, group)) for group in groups]
    wanted = [[(f"layer {n} heads", 12, head), (f"layer {n} neurons", 3072, neuron)] for n in range(layers)]
    assert told == [row for rows in wanted for row in rows]
    weights = sum(model.get_parameter(matrix.parameter).numel() for matrix in matrices_of(model, model))
    assert weights == layers * 12 * 768**2


@kinds
def test_each_number_of_a_layers_matrices_belongs_to_one_unit(kind: str) -> None:
    encoder = tiny(kind)
    seen = {name: torch.zeros_like(parameter) for name, parameter in encoder.named_parameters()}
    outputs = set()
    for group in groups_of(encoder, encoder):
        assert group.units == (4 if group.kind == "heads" else 24)
        *_, consumed = group.parts
        assert [part for part in group.parts if part.consumes] == [consumed]
        outputs.add(consumed.parameter.replace("weight", "bias"))
        for part in group.parts:
            assert part.places.shape == (group.units, seen[part.parameter].shape[part.axis] // group.units)
            ones = torch.ones_like(seen[part.parameter])
            seen[part.parameter].index_add_(part.axis, part.places.flatten(), ones)
    inside = {matrix.parameter for matrix in matrices_of(encoder, encoder)}
    own = inside | {name.replace("weight", "bias") for name in inside} - outputs  # not the biases of the sums
    assert all((count == (name in own)).all() for name, count in seen.items())
    assert sum(name.endswith("bias") for name in own & seen.keys()) == BIASES[kind]


@kinds
def test_matrices_are_all_that_multiply_in_the_layers_and_behind_them(kind: str) -> None:
    encoder = tiny(kind)
    model, ids = TextModel(encoder, Shape(2, hidden=8, pooler=True)), torch.arange(20)
    taken: list[bool] = []
    matrices = matrices_of(model, encoder, classifier=True)
    for matrix in matrices:
        layer: Any = model.get_submodule(matrix.parameter.removesuffix(".weight"))
        inputs = layer.weight.shape[matrix.inputs]
        layer.register_forward_pre_hook(lambda _, given, inputs=inputs: taken.append(given[0].shape[-1] == inputs))
    model(Packed(ids, torch.tensor([12, 8])))
    behind = ["pooler.weight", "head.hidden.weight", "head.classifier.weight"]
    linears = [name for name, layer in model.named_modules() if type(layer).__name__ in ("Linear", "Conv1D")]
    assert [matrix.parameter for matrix in matrices[-3:]] == behind
    before = {"encoder.embeddings_project"} if kind == "electra" else set()
    assert {matrix.parameter for matrix in matrices} == {f"{name}.weight" for name in set(linears) - before}
    assert taken == [True] * len(matrices)


def test_an_encoders_own_pooler_is_behind_its_layers() -> None:
    config = transformers.AutoConfig.for_model("bert", num_hidden_layers=1)
    with torch.device("meta"):
        bert = transformers.AutoModelForSequenceClassification.from_config(config)
    names = [each.parameter for each in matrices_of(bert, bert.bert, classifier=True)]
    assert names[6:] == ["bert.pooler.dense.weight", "classifier.weight"]


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_names_are_those_of_the_whole_model(kind: str) -> None:
    encoder = tiny(kind)
    model = TextModel(encoder, Shape(2))
    for whole, alone in zip(groups_of(model, encoder), groups_of(encoder, encoder), strict=True):
        assert [part.parameter for part in whole.parts] == [f"encoder.{part.parameter}" for part in alone.parts]
        assert all(model.get_parameter(part.parameter) is not None for part in whole.parts)


def test_what_cannot_be_pruned_is_refused() -> None:
    for kind in ARCHITECTURES:
        check_prunable(tiny(kind))
    with pytest.raises(UserError, match=r"bert, .*modernbert.*kind mpnet: take another"):
        check_prunable(random_model("mpnet", synthetic.tokenizer()))
