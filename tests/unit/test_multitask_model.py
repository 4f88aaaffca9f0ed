"""Multi-task models: what heads take and give, losses by hand, how a model starts, and what its parts learn at."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.multitask_models import PAIRS, TASKS, TEXTS, config_of, encoder_of, new, packed, trained
from trainables.parts.encoders import load_encoder
from trainables.parts.multitask import build
from trainables.parts.multitask.model import MultitaskModel, TaskShape, from_structure, task_loss
from trainables.parts.multitask.settings import MultitaskTrainSettings

U, V = torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([[0.5, 2.0], [4.0, -3.0]])


@torch.no_grad()
def answers(model: MultitaskModel, encoder: Any) -> dict[str, Tensor]:
    """Logits of every task to a few texts or pairs."""
    found = {}
    for name, shape in model.tasks.items():
        tower = model.tower(name)
        sides = [[pair[side] for pair in PAIRS] for side in (0, 1)] if shape.pairs else [TEXTS]
        found[name] = model.answer(name, *(tower(packed(encoder, side)) for side in sides))
    return found


def head_model(shape: TaskShape) -> Any:
    """One task on sentence vectors of two numbers."""
    told = {"towers": ["shared"], "vector": {"hidden": 2}, "tasks": {"only": asdict(shape)}}
    return from_structure(told, torch.nn.Identity).eval()


@torch.no_grad()
def test_a_task_of_one_text_takes_its_vector() -> None:
    model = head_model(TaskShape("cross_entropy", outputs=3))
    classifier = model.heads["only"].classifier
    classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]]))
    classifier.bias.copy_(torch.tensor([0.0, 10.0, 100.0]))
    assert model.answer("only", U).tolist() == [[1.0, 8.0, 104.0], [3.0, 14.0, 102.0]]


@torch.no_grad()
def test_a_task_of_pairs_takes_both_vectors_and_how_far_apart_they_are() -> None:
    model = head_model(TaskShape("squared", pairs=True))
    classifier = model.heads["only"].classifier
    classifier.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1e3, 1e4, 1e5]]))
    classifier.bias.zero_()
    wanted = [1 - 20 + 50 + 2e3 + 0.5e4 + 4e5, 3 + 40 + 400 - 3e3 + 1e4 + 7e5]
    assert model.answer("only", U, V)[:, 0].tolist() == wanted


def test_a_cosine_has_no_head() -> None:
    model = head_model(TaskShape("cosine", pairs=True))
    assert list(model.heads) == []
    wanted = [(0.5 - 4) / math.sqrt(5 * 4.25), 0.0]
    assert model.answer("only", U, V).shape == (2, 1)
    assert model.answer("only", U, V)[:, 0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_losses_are_means_over_the_batch() -> None:
    logits, classes = torch.tensor([[1.0, 3.0, -2.0], [0.0, 0.5, 4.0]]), torch.tensor([1, 0])
    sums = [sum(math.exp(x) for x in row) for row in logits.tolist()]
    entropy = (math.log(sums[0]) - 3 + math.log(sums[1]) - 0) / 2
    assert task_loss("cross_entropy", logits, classes).item() == pytest.approx(entropy, abs=1e-6)
    one, zero = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(3))
    binary = -(math.log(one) + math.log(1 - zero)) / 2
    wide = torch.tensor([[2.0], [-3.0]])
    for targets in (torch.tensor([1, 0]), torch.tensor([1.0, 0.0])):
        assert task_loss("binary", wide, targets).item() == pytest.approx(binary, abs=1e-6)
    scores = torch.tensor([0.5, 1.0], dtype=torch.float64)
    assert task_loss("squared", wide, scores).item() == pytest.approx((1.5**2 + 4**2) / 2)
    assert task_loss("cosine", wide / 4, scores).item() == pytest.approx((0 + 1.75**2) / 2)
    assert task_loss("binary", torch.tensor([[200.0]]), torch.tensor([0])).item() == pytest.approx(200)


def test_every_task_has_the_head_that_is_asked_for() -> None:
    model, encoder = new(config_of())
    found = {name: logits.shape[1] for name, logits in answers(model, encoder).items()}
    assert found == {"mood": 1, "topic": 3, "rating": 1, "sense": 3, "likeness": 1, "degree": 1}
    layers = {
        name: [tuple(weight.shape) for weight in head.parameters() if weight.ndim == 2]
        for name, head in model.heads.items()
    }
    assert layers == {
        "mood": [(1, 64)],
        "topic": [(7, 64), (3, 7)],
        "rating": [(1, 64)],
        "sense": [(5, 192), (3, 5)],
        "degree": [(1, 192)],
    }
    head: Any = model.heads["sense"]
    assert (head.activation, head.dropout.p) == ("relu", 0.1)


def test_the_start_depends_on_the_seed_alone() -> None:
    config, before = config_of(pooling={"projection": 8}), torch.get_rng_state()
    (one, _), (other, _), (third, _) = (new(config, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name
    same = {name for name, weight in one.state_dict().items() if torch.equal(weight, third.state_dict()[name])}
    assert {name for name in same if not name.startswith("towers.shared.encoder.")} == {
        f"heads.{name}.classifier.bias" for name in TASKS if name != "likeness"
    }


@pytest.mark.parametrize("sharing", ["hard", "none"])
def test_another_task_changes_the_start_of_no_other(sharing: Any) -> None:
    pooling = {"kind": "cls+mean", "projection": 8}
    few, _ = new(config_of("sense", "topic", sharing=sharing, pooling=pooling))
    many, _ = new(config_of(sharing="hard", pooling=pooling))
    for task in few.tasks:
        for part in ("tower", "head"):
            ours, theirs = (model.tower(task) if part == "tower" else model.heads[task] for model in (few, many))
            for (name, weight), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
                assert torch.equal(weight, other), (part, name)
    weights = [many.heads[name].state_dict()["classifier.weight"] for name in ("mood", "rating")]
    assert not torch.equal(*weights)  # of one shape, but drawn for each


def test_towers_of_their_own_start_alike_and_stay_apart() -> None:
    model, encoder = new(config_of("mood", "topic", sharing="none", pooling={"projection": 8, "layer_norm": True}))
    mood, topic = model.tower("mood"), model.tower("topic")
    before = {name: weight.detach().clone() for name, weight in topic.named_parameters()}
    assert list(model.towers) == ["mood", "topic"]
    assert all(torch.equal(weight, before[name]) for name, weight in mood.named_parameters())
    assert not {weight.data_ptr() for weight in mood.parameters()} & {
        weight.data_ptr() for weight in topic.parameters()
    }
    loss = task_loss("binary", model.answer("mood", mood(packed(encoder, TEXTS))), torch.tensor([0, 1, 0, 1, 1]))
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert all(torch.equal(weight, before[name]) for name, weight in topic.named_parameters())
    moved = [name for name, weight in mood.named_parameters() if not torch.equal(weight, before[name])]
    assert {"vector.projection.linear.weight", "vector.norm.bias"} < set(moved)
    assert any(name.startswith("encoder.embeddings.") for name in moved)


def test_a_shared_tower_learns_from_every_task() -> None:
    model, encoder = new(config_of("mood", "likeness"))
    assert model.tower("mood") is model.tower("likeness")
    vectors = model.tower("likeness")(packed(encoder, TEXTS))
    task_loss("cosine", model.answer("likeness", vectors, vectors.flip(0)), torch.ones(5)).backward()  # type: ignore[no-untyped-call]
    assert {name.split(".")[0] for name, weight in model.named_parameters() if weight.grad is not None} == {"towers"}


@pytest.mark.parametrize("sharing", ["hard", "none"])
def test_a_model_of_the_same_structure_takes_the_weights(sharing: Any) -> None:
    pooling = {"kind": "cls+mean", "combine": "gated", "projection": 8, "activation": "gelu", "residual": True}
    config = config_of(sharing=sharing, pooling=pooling)
    model, encoder = trained(config)
    told = json.loads(json.dumps(model.structure()))
    blank = from_structure(told, lambda: load_encoder(config.encoder, 9).model).eval()
    blank.load_state_dict(model.state_dict())
    assert blank.structure() == model.structure()
    for (task, ours), theirs in zip(answers(model, encoder).items(), answers(blank, encoder).values(), strict=True):
        assert torch.equal(ours, theirs), task
        assert len(ours.unique()) == ours.numel(), task


STACK = {
    "bert": "encoder.layer.",
    "roberta": "encoder.layer.",
    "distilbert": "transformer.layer.",
    "electra": "encoder.layer.",
    "modernbert": "layers.",
    "mpnet": "encoder.layer.",
}


@pytest.mark.parametrize("kind", STACK)
def test_layers_learn_slower_the_deeper_they_are(kind: str, tmp_path: Path) -> None:
    changes = {"embedding_size": 8} if kind == "electra" else {}
    name = encoder_of(tmp_path, kind, num_hidden_layers=3, **changes)
    config = config_of("mood", "topic", encoder={"name": name, "max_length": 32}, pooling={"projection": 4})
    model, _ = new(config)
    settings = MultitaskTrainSettings(lr=2e-5, head_lr=1e-3, layer_decay=0.5)
    times, first = build.multiples(settings, model), "towers.shared.encoder."
    found: dict[str, set[float]] = {}
    for parameter, _ in model.named_parameters():
        inner = parameter.removeprefix(first)
        layer = inner.removeprefix(STACK[kind]).split(".")[0] if inner.startswith(STACK[kind]) else ""
        part = layer or ("embedding" if inner.startswith("embeddings") else "" if inner != parameter else "behind")
        found.setdefault(part, set()).add(times(parameter))
    last = found.pop("", {1.0})  # a final norm, or a table of relative positions
    assert last == {1.0}
    assert found == {"embedding": {0.125}, "0": {0.25}, "1": {0.5}, "2": {1.0}, "behind": {1e-3 / 2e-5}}


def test_without_settings_all_learn_at_one_rate(tmp_path: Path) -> None:
    for sharing in ("hard", "none"):
        name = encoder_of(tmp_path / sharing, "albert", embedding_size=8)  # its layers share their weights
        model, _ = new(config_of("mood", "topic", encoder={"name": name, "max_length": 32}, sharing=sharing))
        times = build.multiples(MultitaskTrainSettings(), model)
        assert {times(name) for name, _ in model.named_parameters()} == {1.0}


def test_what_an_encoder_cannot_do_is_said_in_words(tmp_path: Path) -> None:
    assert build.problems(config_of()) == []
    source = {"name": encoder_of(tmp_path, "albert", embedding_size=8), "max_length": 32}
    config = config_of(
        encoder=source,
        pooling={"projection": 8, "residual": True},
        freezing={"kind": "gradual", "keep_bottom": 2},
        train={"layer_decay": 0.9},
    )
    kept, linear, layers = [problem.message for problem in build.problems(config)]
    assert "freezing.keep_bottom 2 of 2 layers leaves none to learn" in kept
    assert "pooling.residual from 16 to 8" in linear
    assert layers.startswith(
        "freezing.kind gradual and freezing.keep_bottom and train.layer_decay: layers with weights"
    )
    assert build.problems(config_of(encoder=source, freezing={"kind": "two_phase"})) == []


def test_sizes_are_counted_by_part() -> None:
    pooling = {"projection": 8, "residual": True, "activation": "tanh", "layer_norm": True}
    one, encoder = new(config_of("mood", "sense", pooling=pooling))
    two, _ = new(config_of("mood", "sense", pooling=pooling, sharing="none"))
    body = sum(weight.numel() for weight in encoder.model.parameters())
    vector = 64 * 8 + 8 + 64 * 8 + 8 + 8
    heads = 8 + 1 + 24 * 5 + 5 + 5 * 3 + 3
    assert build.sized(one) == {
        "size.parameters": body + vector + heads,
        "size.encoder": body,
        "size.heads": vector + heads,
        "size.bytes": 4 * (body + vector + heads),
    }
    assert build.sized(two)["size.encoder"] == 2 * body
    assert build.sized(two)["size.heads"] == 2 * vector + heads
    assert build.depth(one) == build.depth(two) == 2
