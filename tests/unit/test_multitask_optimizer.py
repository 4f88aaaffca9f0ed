"""The rates at which the parts of a multi-task model learn, and which of its weights all tasks share."""

from typing import Any

import pytest
import torch

from tests.multitask_models import config_of, new
from trainables.parts import optim
from trainables.parts.multitask import build
from trainables.parts.multitask.balance import Balance
from trainables.parts.multitask.freezing import apply, open_at
from trainables.parts.multitask.model import MultitaskModel

RATES = {"lr": 1e-4, "head_lr": 3e-3, "layer_decay": 0.5, "weight_decay": 0.1}
LEARNED = {"pooling": {"projection": 8, "layer_norm": True}, "balance": {"kind": "uncertainty", "lr": 0.01}}


def optimizer_of(**groups: Any) -> tuple[MultitaskModel, optim.RowAdamW]:
    """Of what learns in the first epoch."""
    config = config_of("mood", "topic", **groups)
    model, _ = new(config)
    apply(model, open_at(config.freezing, 0, build.depth(model), config.tasks))
    return model, build.new_optimizer(config, model, Balance(config.balance, config.tasks))


def each(optimizer: optim.RowAdamW, what: str) -> dict[str, float]:
    """What the group of each parameter says, by its name."""
    return {name: group[what] for group in optimizer.param_groups for name in group["param_names"]}


def part_of(name: str) -> str:
    first, _, inner = name.partition(".")
    if first == "balance" or ".encoder." not in inner:
        return first if first == "balance" else "behind"
    inner = inner.split(".encoder.", 1)[1]
    return inner.split(".")[2] if inner.startswith("encoder.layer.") else "embeddings"


@pytest.mark.parametrize("sharing", ["hard", "none"])
def test_each_part_learns_at_a_rate_of_its_own(sharing: str) -> None:
    _, optimizer = optimizer_of(train=RATES, sharing=sharing, **LEARNED)
    rates: dict[str, set[float]] = {}
    for name, rate in each(optimizer, "lr").items():
        rates.setdefault(part_of(name), set()).add(round(rate, 12))
    assert rates == {"embeddings": {2.5e-5}, "0": {5e-5}, "1": {1e-4}, "behind": {3e-3}, "balance": {0.01}}
    optim.set_lr(optimizer, 0.5e-4)
    halved = {part_of(name): rate for name, rate in each(optimizer, "lr").items()}
    assert halved == {part: pytest.approx(min(rate) / 2) for part, rate in rates.items()}


@pytest.mark.parametrize(("given", "behind"), [({}, 1e-4), ({"head_lr": 2e-5}, 2e-5), ({"head_lr": 1e-4}, 1e-4)])
def test_heads_learn_as_fast_as_the_encoder_unless_it_is_said(given: dict[str, float], behind: float) -> None:
    _, optimizer = optimizer_of(train={"lr": 1e-4, **given})
    rates = {part_of(name): pytest.approx(rate) for name, rate in each(optimizer, "lr").items()}
    assert rates == {"embeddings": 1e-4, "0": 1e-4, "1": 1e-4, "behind": behind}


def test_every_parameter_that_learns_is_in_it_once() -> None:
    model, optimizer = optimizer_of(train=RATES, **LEARNED)
    names = [name for group in optimizer.param_groups for name in group["param_names"]]
    learned = [f"model.{name}" for name, _ in model.named_parameters()]
    assert sorted(names) == sorted([*learned, "balance.log_variances.mood", "balance.log_variances.topic"])
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert len({id(weight) for weight in weights}) == len(names)


def test_matrices_alone_decay_and_no_weight_of_a_loss() -> None:
    model, optimizer = optimizer_of(train=RATES, **LEARNED)
    shapes = {f"model.{name}": weight.ndim for name, weight in model.named_parameters()}
    for name, decay in each(optimizer, "weight_decay").items():
        assert decay == (0.1 if shapes.get(name, 0) == 2 else 0.0), name
    assert {"balance.log_variances.mood", "model.heads.mood.classifier.weight"} <= each(optimizer, "lr").keys()


@pytest.mark.parametrize(
    ("freezing", "parts"),
    [
        ({"kind": "backbone"}, {"behind"}),
        ({"kind": "gradual", "start_epoch": 0}, {"1", "behind"}),
        ({"kind": "two_phase", "start_epoch": 0, "keep_bottom": 1}, {"1", "behind"}),
        ({"kind": "head", "head": "mood"}, {"embeddings", "0", "1", "behind"}),
        ({"kind": "all"}, set()),
    ],
)
def test_what_is_frozen_is_not_in_it(freezing: dict[str, Any], parts: set[str]) -> None:
    model, optimizer = optimizer_of(freezing=freezing)
    names = each(optimizer, "lr").keys()
    assert {part_of(name) for name in names} == parts
    assert names == {f"model.{name}" for name, weight in model.named_parameters() if weight.requires_grad}
    assert any(".mood." in name for name in names) == (freezing["kind"] not in ("head", "all"))
    optimizer.step()  # also where there is nothing to change
    assert optim.state(optimizer) == {}


def test_shared_are_the_weights_of_the_tower_that_learn() -> None:
    model, _ = optimizer_of(pooling=LEARNED["pooling"], freezing={"kind": "gradual", "start_epoch": 0})
    found = build.shared(model)
    assert {part_of(f"model.{name}") for name in found} == {"1", "behind"}
    assert not any(name.startswith("heads.") for name in found)
    assert {"towers.shared.vector.projection.linear.weight", "towers.shared.vector.norm.bias"} <= set(found)
    assert all(dict(model.named_parameters())[name].requires_grad for name in found)


def test_a_balance_that_learns_nothing_adds_nothing() -> None:
    _, optimizer = optimizer_of(train=RATES)
    assert "balance" not in {part_of(name) for name in each(optimizer, "lr")}
    assert isinstance(optimizer, torch.optim.AdamW)
