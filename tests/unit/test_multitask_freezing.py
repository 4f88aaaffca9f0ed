"""What learns when: by hand for each kind, on real encoders, and while training."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainables.parts import optim
from trainables.parts.encoders import EncoderSource, embeddings_of, layers, load_encoder, train_mode
from trainables.parts.multitask.freezing import Open, apply, encoder_rests, open_at
from trainables.parts.multitask.model import MultitaskModel, TaskShape, Tower
from trainables.parts.multitask.settings import FreezingSettings
from trainables.parts.multitask.vectors import SentenceVector, VectorShape

TASKS = ("mood", "topic")
BOTH = frozenset(TASKS)
HEADS = Open(embeddings=False, layers=0, vector=True, heads=BOTH)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Open(True, 6, True, BOTH)),
        ({"kind": "all"}, Open(False, 0, False, frozenset())),
        ({"kind": "backbone"}, HEADS),
        ({"kind": "head", "head": "mood"}, Open(True, 6, True, frozenset({"topic"}))),
    ],
)
def test_what_learns_is_the_same_in_every_epoch(given: dict[str, Any], expected: Open) -> None:
    assert {open_at(FreezingSettings(**given), epoch, 6, TASKS) for epoch in range(5)} == {expected}


@pytest.mark.parametrize(
    ("given", "layers", "embeddings"),
    [
        ({"kind": "gradual"}, [0, 1, 2, 3, 4, 5, 6, 6], 6),
        ({"kind": "gradual", "start_epoch": 0, "layers_per_epoch": 4}, [4, 6, 6], 1),
        ({"kind": "gradual", "start_epoch": 2, "layers_per_epoch": 2, "keep_bottom": 1}, [0, 0, 2, 4, 5, 5], None),
        ({"kind": "two_phase"}, [0, 6, 6], 1),
        ({"kind": "two_phase", "start_epoch": 3, "keep_bottom": 4}, [0, 0, 0, 2, 2], None),
        ({"kind": "two_phase", "start_epoch": 0, "keep_bottom": 2}, [4, 4], None),
    ],
)
def test_layers_begin_from_the_top_and_embeddings_last(
    given: dict[str, Any], layers: list[int], embeddings: int | None
) -> None:
    found = [open_at(FreezingSettings(**given), epoch, 6, TASKS) for epoch in range(len(layers))]
    assert [opened.layers for opened in found] == layers
    first = len(layers) if embeddings is None else embeddings
    assert [opened.embeddings for opened in found] == [epoch >= first for epoch in range(len(layers))]
    assert all(opened.vector and opened.heads == BOTH for opened in found)
    assert [encoder_rests(opened) for opened in found] == [count == 0 for count in layers]


@given(
    kind=st.sampled_from(["gradual", "two_phase"]),
    start=st.integers(0, 4),
    depth=st.integers(1, 12),
    data=st.data(),
)
def test_what_has_begun_to_learn_goes_on(kind: Any, start: int, depth: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, depth - 1))
    settings = FreezingSettings(kind=kind, start_epoch=start, keep_bottom=kept)
    found = [open_at(settings, epoch, depth, TASKS) for epoch in range(start + depth + 1)]
    assert all(one.layers <= other.layers and one.embeddings <= other.embeddings for one, other in pairwise(found))
    assert found[-1].layers == depth - kept
    assert found[-1].embeddings == (kept == 0)
    assert [encoder_rests(opened) for opened in found] == [epoch < start for epoch in range(len(found))]


def model_of(towers: tuple[str, ...] = ("shared",), depth: int = 2) -> MultitaskModel:
    made: dict[str, Tower] = {}
    for name in towers:
        encoder = load_encoder(EncoderSource(), seed=0)
        shape = VectorShape(encoder.hidden, "mean", projection=8)
        made[name] = Tower(encoder.model, SentenceVector(shape))
        assert len(layers(encoder.model)) == depth
    return MultitaskModel(made, {"mood": TaskShape("binary"), "topic": TaskShape("cross_entropy", outputs=3)})


def learning(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def parts_of(model: MultitaskModel, tower: str = "shared") -> dict[str, set[str]]:
    """The names of the parameters of embeddings, of each layer from the top, of the vector, of each head."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    one: Any = model.towers[tower]
    modules = {
        "embeddings": embeddings_of(one.encoder),
        "top": layers(one.encoder)[-1],
        "bottom": layers(one.encoder)[0],
        "vector": one.vector,
        **{task: model.heads[task] for task in TASKS},
    }
    return {part: {names[id(parameter)] for parameter in module.parameters()} for part, module in modules.items()}


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        (Open(True, 2, True, BOTH), {"embeddings", "bottom", "top", "vector", "mood", "topic"}),
        (Open(False, 2, True, BOTH), {"bottom", "top", "vector", "mood", "topic"}),
        (Open(False, 1, True, BOTH), {"top", "vector", "mood", "topic"}),
        (HEADS, {"vector", "mood", "topic"}),
        (Open(True, 2, True, frozenset({"topic"})), {"embeddings", "bottom", "top", "vector", "topic"}),
        (Open(False, 0, False, frozenset()), set()),
    ],
)
@pytest.mark.parametrize("before", [Open(True, 2, True, BOTH), Open(False, 0, False, frozenset())])
def test_applied_it_is_exactly_these_parameters(opened: Open, expected: set[str], before: Open) -> None:
    model = model_of()
    apply(model, before)
    apply(model, opened)
    parts = parts_of(model)
    assert all(parts.values())
    assert learning(model) == set().union(*(parts[name] for name in expected))


def small(kind: str) -> Any:
    """An encoder with parts that belong to no layer: a table of relative positions, or a norm behind the last one."""
    from transformers import ModernBertConfig, ModernBertModel, MPNetConfig, MPNetModel

    sizes = {"vocab_size": 40, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    if kind == "mpnet":
        return MPNetModel(MPNetConfig(**sizes, num_hidden_layers=2), add_pooling_layer=False)
    return ModernBertModel(ModernBertConfig(**sizes, num_hidden_layers=2, pad_token_id=0))


@pytest.mark.parametrize(("kind", "beside"), [("mpnet", "relative_attention_bias"), ("modernbert", "final_norm")])
def test_what_stands_beside_the_layers_learns_with_the_embeddings(kind: str, beside: str) -> None:
    tower = Tower(small(kind), SentenceVector(VectorShape(8, "mean")))
    model = MultitaskModel({"shared": tower}, {"topic": TaskShape("cross_entropy", outputs=3)})
    encoder: Any = tower.encoder
    apply(model, Open(False, 2, True, frozenset()))
    layered = {id(parameter) for parameter in layers(encoder).parameters()}
    assert {id(parameter) for parameter in encoder.parameters() if parameter.requires_grad} == layered
    apply(model, Open(True, 2, True, frozenset()))
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert any(beside in name for name, _ in encoder.named_parameters())


def test_every_tower_is_opened_alike() -> None:
    model = model_of(TASKS)
    apply(model, Open(False, 1, True, BOTH))
    wanted = [parts_of(model, task) for task in TASKS]
    expected = set().union(*(parts["top"] | parts["vector"] for parts in wanted))
    assert {name for name in learning(model) if name.startswith("towers.")} == expected
    assert len(expected) == 2 * len(wanted[0]["top"] | wanted[0]["vector"])


def step(model: MultitaskModel, optimizer: torch.optim.Optimizer) -> None:
    """One step on random pools of the top layer's input, so that only the parts in question matter."""
    tower: Any = model.tower("mood")
    ids = torch.arange(12).reshape(2, 6) + 5
    states = tower.encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    loss = model.answer("mood", tower.vector(states.mean(1, keepdim=True))).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_a_frozen_part_keeps_its_weights_and_moments_carry_over_to_more_layers() -> None:
    model = model_of()
    apply(model, Open(False, 1, True, BOTH))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = optim.adamw(model, 0.01, weight_decay=0.1)
    step(model, optimizer)
    open_before, parts = learning(model), parts_of(model)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved <= parts["top"] | parts["vector"] | parts["mood"]
    assert moved & parts["top"]
    apply(model, Open(False, 2, True, BOTH))
    wider = optim.adamw(model, 0.01, weight_decay=0.1)
    optim.carry_over(optimizer, wider)
    carried = optim.state(wider)
    assert carried.keys() == optim.state(optimizer).keys() <= open_before
    assert not carried.keys() & parts["bottom"]
    step(model, wider)
    assert parts["bottom"] & optim.state(wider).keys()
    top = next(iter(parts["top"] & carried.keys()))
    assert float(optim.state(wider)[top]["step"]) == 2.0


def test_what_is_frozen_is_in_eval_mode() -> None:
    model = model_of()
    apply(model, Open(False, 1, True, frozenset({"topic"})))
    train_mode(model)
    tower: Any = model.towers["shared"]
    stack = layers(tower.encoder)
    drops = {
        "embeddings": embeddings_of(tower.encoder), "bottom": stack[0], "top": stack[-1],
        "mood": model.heads["mood"], "topic": model.heads["topic"],
    }  # fmt: skip
    found = {
        part: {module.training for module in parent.modules() if isinstance(module, nn.Dropout)}
        for part, parent in drops.items()
    }
    assert found == {"embeddings": {False}, "bottom": {False}, "top": {True}, "mood": {False}, "topic": {True}}
