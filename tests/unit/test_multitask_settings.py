"""The settings of several tasks: what they come to, and what is refused before anything is read."""

from typing import Any

import pytest
from pydantic import ValidationError

from trainables.parts.multitask import checks
from trainables.parts.multitask.settings import (
    BalanceSettings,
    FreezingSettings,
    HeadSettings,
    MultitaskConfig,
    ProbeSettings,
    SamplingSettings,
    VectorSettings,
)

TOPIC, MOOD, ALIKE = {"data": {"task": "trec"}}, {"data": {"task": "sst2"}}, {"data": {"task": "stsb"}}
TWO = {"topic": TOPIC, "mood": MOOD}
TURNS = {"kind": "round_robin"}


def config(**groups: Any) -> MultitaskConfig:
    return MultitaskConfig.model_validate({"tasks": TWO, **groups})


def mistakes(group: Any, given: dict[str, Any]) -> list[str]:
    """What is wrong with a group, or with a whole configuration."""
    with pytest.raises(ValidationError) as caught:
        group.model_validate(given)
    (error,) = caught.value.errors()
    assert error["type"] == "value_error", error
    return str(error["ctx"]["error"]).split("; ")


@pytest.mark.parametrize(
    ("data", "loss", "comes_to", "outputs", "pairs"),
    [
        ({"task": "trec"}, None, "cross_entropy", 6, False),
        ({"task": "sst2"}, None, "cross_entropy", 2, False),
        ({"task": "sst2"}, "binary", "binary", 1, False),
        ({"task": "qqp"}, "binary", "binary", 1, True),
        ({"task": "mnli"}, None, "cross_entropy", 3, True),
        ({"task": "stsb"}, None, "cosine", 0, True),
        ({"task": "stsb"}, "squared", "squared", 1, True),
        ({"task": "regression"}, None, "squared", 1, False),
        ({"task": "regression", "second": "other"}, None, "cosine", 0, True),
        ({"task": "classification", "labels": ["a", "b", "c", "d"]}, None, "cross_entropy", 4, False),
        ({"task": "classification", "second": "other"}, None, "cross_entropy", 3, True),
    ],
)
def test_the_loss_goes_with_the_task(
    data: dict[str, Any], loss: str | None, comes_to: str, outputs: int, pairs: bool
) -> None:
    head = HeadSettings.model_validate({"data": data, "loss": loss})
    assert (head.loss_name, head.outputs, head.pairs) == (comes_to, outputs, pairs)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": {"task": "squad"}}, "task squad looks for answers among a text's tokens"),
        ({"data": {"task": "trec"}, "loss": "binary"}, "loss binary needs two labels, and task trec has 6"),
        ({"data": {"task": "trec"}, "loss": "cosine"}, "loss cosine is not for classification: with task trec use"),
        ({"data": {"task": "stsb"}, "loss": "binary"}, "with task stsb use squared or cosine"),
        ({"data": {"task": "regression"}, "loss": "cosine"}, "loss cosine compares two texts, and task regression has"),
        ({"data": {"task": "stsb"}, "hidden": 8}, "loss cosine has no head, so that hidden would have no effect"),
        (
            {"data": {"task": "stsb"}, "dropout": 0.1, "activation": "relu"},
            "so that activation and dropout would have no",
        ),
    ],
)
def test_a_loss_that_does_not_suit_the_task_is_refused(given: dict[str, Any], message: str) -> None:
    (found,) = mistakes(HeadSettings, given)
    assert message in found


@pytest.mark.parametrize(
    ("given", "pools", "combination", "learns"),
    [
        ({}, ("mean",), None, False),
        ({"kind": "max", "layer_norm": True}, ("max",), None, True),
        ({"kind": "cls", "projection": 8}, ("cls",), None, True),
        ({"kind": "cls+mean"}, ("cls", "mean"), "concat", False),
        ({"kind": "cls+mean", "combine": "average"}, ("cls", "mean"), "average", False),
        ({"kind": "cls+mean", "combine": "gated"}, ("cls", "mean"), "gated", True),
    ],
)
def test_pooling_says_what_it_needs(
    given: dict[str, Any], pools: tuple[str, ...], combination: str | None, learns: bool
) -> None:
    vector = VectorSettings.model_validate(given)
    assert (vector.pools, vector.combination, vector.learns) == (pools, combination, learns)


@pytest.mark.parametrize(
    ("group", "given", "message"),
    [
        (VectorSettings, {"combine": "sum"}, "combine has no effect with kind 'mean'"),
        (VectorSettings, {"activation": "tanh"}, "activation is that of the projection, but projection is 0"),
        (VectorSettings, {"residual": True}, "residual goes around the projection, but projection is 0"),
        (SamplingSettings, {"temperature": 2.0}, "temperature has no effect with kind 'proportional'"),
        (SamplingSettings, {"kind": "sqrt", "temperature": 3.0}, "no effect with kind 'sqrt'"),
        (BalanceSettings, {"kind": "pcgrad", "alpha": 1.0}, "alpha has no effect with kind 'pcgrad': leave it out, or"),
        (BalanceSettings, {"lr": 0.1}, "use gradnorm"),
        (FreezingSettings, {"keep_bottom": 2}, "no effect with kind 'none': leave it out, or use gradual or two_phase"),
        (FreezingSettings, {"kind": "backbone", "start_epoch": 1}, "start_epoch has no effect with kind 'backbone'"),
        (FreezingSettings, {"kind": "two_phase", "layers_per_epoch": 2}, "layers_per_epoch has no effect"),
        (FreezingSettings, {"kind": "all", "head": "topic"}, "head has no effect with kind 'all'"),
        (FreezingSettings, {"kind": "head"}, "kind 'head' needs head"),
        (ProbeSettings, {"each_epoch": True}, "each_epoch has no effect while enabled is false"),
        (ProbeSettings, {"enabled": True, "train": "a", "train_rows": 3}, "nothing is trained on the probe: leave out"),
    ],
)  # fmt: skip
def test_what_would_have_no_effect_is_refused(group: Any, given: dict[str, Any], message: str) -> None:
    (found,) = mistakes(group, given)
    assert message in found


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"tasks": {}}, "tasks names none: give at least one"),
        ({"tasks": {"Topic": TOPIC}}, "tasks.Topic: a task's name has small letters"),
        ({"tasks": {"a.b": TOPIC}}, "tasks.a.b: a task's name has small letters"),
        ({"tasks": {"score": TOPIC}}, "tasks.score: the metrics of all tasks together have this name"),
        ({"tasks": {"probe": TOPIC}}, "tasks.probe: the metrics of all tasks together have this name"),
        ({"tasks": {"type": TOPIC}}, "tasks.type: a torch module has a part of this name"),
        (
            {"tasks": {**TWO, "topics": {"hidden": 8}}},
            "tasks.topics: data.task is not given: say what is learned, or did you mean 'topic'?",
        ),
        ({"freezing": {"kind": "head", "head": "topics"}}, "but tasks are topic, mood (did you mean 'topic'?)"),
        ({"tasks": {**TWO, "alike": ALIKE}, "freezing": {"kind": "head", "head": "alike"}}, "cosine has no head"),
        (
            {"tasks": {**TWO, "alike": ALIKE}, "freezing": {"kind": "backbone"}},
            "nothing of task alike would learn: loss cosine has no head",
        ),
        (
            {"freezing": {"kind": "gradual", "start_epoch": 3}, "train": {"epochs": 3}},
            "freezing.start_epoch 3 is not before the end, train.epochs 3",
        ),
        (
            {"freezing": {"kind": "backbone"}, "train": {"layer_decay": 0.9}},
            "train.layer_decay has no effect, as the encoder does not learn",
        ),
        ({"encoder": {"layers": 0}}, "encoder.layers 0 leaves word vectors alone"),
        (
            {"encoder": {"layers": 2}, "freezing": {"kind": "two_phase", "keep_bottom": 2}},
            "freezing.keep_bottom 2 of 2 layers leaves none to learn",
        ),
        ({"balance": {"kind": "pcgrad"}}, "takes a batch of every task in each step: set sampling.kind to round_robin"),
        ({"tasks": {"mood": MOOD}, "balance": {"kind": "gradnorm"}, "sampling": TURNS}, "it needs two or more"),
        ({"balance": {"kind": "gradnorm"}, "sampling": TURNS, "sharing": "none"}, "but sharing is none"),
        (
            {"balance": {"kind": "pcgrad"}, "sampling": TURNS, "freezing": {"kind": "backbone"}},
            "shared weights, but with freezing.kind backbone none learn",
        ),
        (
            {"balance": {"kind": "uncertainty"}, "freezing": {"kind": "all"}},
            "uncertainty learns weights, but with freezing.kind all nothing learns",
        ),
        (
            {"tasks": {"topic": {**TOPIC, "weight": 2.0}, "mood": MOOD}, "balance": {"kind": "uncertainty"}},
            "tasks.topic.weight is set, but balance.kind uncertainty finds weights",
        ),
    ],
)
def test_groups_that_do_not_go_together_are_refused(groups: dict[str, Any], message: str) -> None:
    (found,) = mistakes(MultitaskConfig, {"tasks": TWO, **groups})
    assert message in found


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"freezing": {"kind": "all"}},
        {"freezing": {"kind": "backbone"}, "train": {"head_lr": 1e-3}},
        {"freezing": {"kind": "gradual", "start_epoch": 3}, "train": {"epochs": 4, "layer_decay": 0.9}},
        {"freezing": {"kind": "two_phase", "keep_bottom": 1}, "encoder": {"layers": 2}},
        {"freezing": {"kind": "gradual"}, "train": {"epochs": 0}},
        {"balance": {"kind": "pcgrad"}, "sampling": TURNS},
        {
            "balance": {"kind": "gradnorm", "alpha": 0.5},
            "sampling": TURNS,
            "freezing": {"kind": "backbone"},
            "pooling": {"projection": 8},
        },
        {
            "tasks": {**TWO, "alike": ALIKE},
            "freezing": {"kind": "backbone"},
            "pooling": {"kind": "cls+mean", "combine": "gated"},
        },
        {"tasks": {"alike": ALIKE}, "sharing": "none"},
        {"tasks": {"topic": {**TOPIC, "weight": 2.0}, "mood": MOOD}},
        {"probe": {"enabled": True, "each_epoch": True}},
    ],
)
def test_groups_that_go_together_are_taken_and_read_back(groups: dict[str, Any]) -> None:
    found = config(**groups)
    assert MultitaskConfig.model_validate(found.model_dump(exclude_unset=True)) == found


def test_all_mistakes_are_named_at_once() -> None:
    found = mistakes(
        MultitaskConfig,
        {
            "tasks": {"Topic": {**TOPIC, "weight": 2.0}},
            "encoder": {"layers": 0},
            "balance": {"kind": "pcgrad"},
            "sharing": "none",
            "freezing": {"kind": "head", "head": "mood"},
        },
    )
    words = (
        "tasks.Topic: ",
        "two or more",
        "round_robin",
        "sharing is none",
        "tasks.Topic.weight is set",
        "layers 0",
        "freezing.head",
    )
    assert [sum(word in mistake for mistake in found) for word in words] == [1] * len(words)
    assert len(found) == len(words)


def test_every_name_that_is_taken_makes_a_model() -> None:
    from torch import nn

    for name in ("topic", "a1", "shared", "heads", "loss"):
        config(tasks={name: TOPIC})
        assert name in nn.ModuleDict({name: nn.Identity()})
        assert name in nn.ParameterDict({name: nn.Parameter()})


@pytest.mark.parametrize(
    ("pooling", "wrong"),
    [
        ({"projection": 12, "residual": True}, True),
        ({"projection": 16, "residual": True}, False),
        ({"projection": 12, "residual": True, "activation": "gelu"}, False),
        ({"projection": 12}, False),
        ({"kind": "cls+mean", "projection": 16, "residual": True}, True),
        ({"kind": "cls+mean", "projection": 32, "residual": True}, False),
        ({"kind": "cls+mean", "combine": "sum", "projection": 16, "residual": True}, False),
    ],
)
def test_two_linear_layers_in_sum_are_refused_by_an_encoder_of_16_numbers(pooling: dict[str, Any], wrong: bool) -> None:
    found = checks.encoder(config(pooling=pooling), width=16, depth=4)
    assert [message.partition(" would")[0] for message in found] == [
        f"pooling.residual from {32 if pooling.get('kind') and not pooling.get('combine') else 16} to"
        f" {pooling['projection']} numbers"
    ] * wrong


def test_layers_that_are_kept_are_fewer_than_the_encoder_has() -> None:
    kept = config(freezing={"kind": "gradual", "keep_bottom": 4})
    assert checks.encoder(kept, width=16, depth=5) == []
    assert checks.encoder(kept, width=16, depth=4) == [
        "freezing.keep_bottom 4 of 4 layers leaves none to learn: use backbone"
    ]
