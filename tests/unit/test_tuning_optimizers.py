"""Optimizers of an encoder that is tuned: one grouping for all, and states that go on bit for bit."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from trainables.parts import optim
from trainables.parts.batches import in_parts
from trainables.parts.losses import text_loss
from trainables.parts.tuning.optimizers import OptimizerName, new_optimizer
from trainables.parts.tuning.precision import Scaled

NAMES: tuple[OptimizerName, ...] = get_args(OptimizerName)
FP32 = Scaled("fp32", "cpu")


class Net(nn.Module):
    """With a matrix of more than 4096 numbers, from which on 8 bits are kept."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.norm, self.wide = nn.Embedding(70, 64), nn.LayerNorm(64), nn.Linear(64, 96)
        self.head = nn.Linear(96, 3)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.head(self.wide(self.norm(self.words(ids).mean(1))).tanh())
        return found


def double_head(name: str) -> float:
    return 2.0 if name.startswith("head.") else 1.0


def optimizer_of(name: OptimizerName, model: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer:
    return new_optimizer(name, model, lr, 0.1, double_head)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        labels = torch.randint(0, 3, (8,), generator=generator)
        ids = 3 * torch.randint(0, 23, (8, 5), generator=generator) + labels[:, None]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(ids), labels)
        FP32.backward(loss)
        optimizer.step()
    return loss.item()


def stored(state: Any) -> Any:
    """Through a file as a checkpoint keeps it: arrays in one place, all else as it is."""
    if isinstance(state, dict):
        return {key: stored(value) for key, value in state.items()}
    if isinstance(state, np.ndarray):
        return load(save({"array": torch.from_numpy(state.copy())}))["array"].numpy()
    return state


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: OptimizerName) -> None:
    model = Net()
    optimizer = optimizer_of(name, model)
    first = train(model, optimizer, 1, seed=0)
    assert train(model, optimizer, 60, seed=0) < first / 2


@pytest.mark.parametrize("name", NAMES)
def test_all_have_the_groups_of_adamw(name: OptimizerName) -> None:
    model = Net()
    model.words.requires_grad_(False)
    optimizer = optimizer_of(name, model)
    found = {
        parameter: (group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
        for parameter in group["param_names"]
    }
    assert found == {
        "norm.weight": (0.0, 0.01),
        "norm.bias": (0.0, 0.01),
        "wide.weight": (0.1, 0.01),
        "wide.bias": (0.0, 0.01),
        "head.weight": (0.1, 0.02),
        "head.bias": (0.0, 0.02),
    }
    optim.set_lr(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5, 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_where_all_is_frozen_a_step_does_nothing(name: OptimizerName) -> None:
    model = Net().requires_grad_(False)
    optimizer = optimizer_of(name, model)
    optimizer.step()
    assert optim.state(optimizer) == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_optimizer_goes_on_bit_for_bit(name: OptimizerName) -> None:
    model, twin = Net(), Net()
    optimizer = optimizer_of(name, model)
    train(model, optimizer, 4, seed=0)
    twin.load_state_dict(model.state_dict())
    again = optimizer_of(name, twin)
    optim.restore(again, stored(optim.state(optimizer)))
    assert str(optim.state(again)) == str(optim.state(optimizer))
    train(model, optimizer, 4, seed=1)
    train(twin, again, 4, seed=1)
    for key, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key


def test_a_fresh_state_would_have_gone_elsewhere() -> None:
    """What the test before shows is not true of any state."""
    for name in NAMES:
        model, twin = Net(), Net()
        optimizer = optimizer_of(name, model)
        train(model, optimizer, 4, seed=0)
        twin.load_state_dict(model.state_dict())
        train(model, optimizer, 4, seed=1)
        train(twin, optimizer_of(name, twin), 4, seed=1)
        assert not torch.equal(model.head.weight, twin.head.weight), name


def kept_bytes(name: OptimizerName) -> int:
    """Of one matrix after a step, its shared tables left out."""
    model = nn.Linear(256, 256, bias=False)
    optimizer = optimizer_of(name, model)
    model(torch.ones(1, 256)).sum().backward()
    optimizer.step()
    state = optimizer.state[model.weight]
    return sum(one.nbytes for key, one in state.items() if isinstance(one, Tensor) and key[:4] not in ("step", "qmap"))


def test_what_each_keeps_of_a_matrix() -> None:
    matrix, blocks = 256 * 256, 256 * 256 // 256
    assert {name: kept_bytes(name) for name in NAMES} == {
        "adamw": 2 * 4 * matrix,
        "adamw8bit": 2 * matrix + 2 * 4 * blocks,
        "adafactor": 4 * (256 + 256),
    }


def drawn(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return torch.randint(0, 70, (rows, 5), generator=generator), torch.randint(0, 3, (rows,), generator=generator)


def after_a_step(name: OptimizerName, rows: int, part: int, smoothing: float) -> dict[str, Tensor]:
    """Gradients and weights, float64, of a batch of so many rows that goes through in parts."""
    model, (ids, targets) = Net().double(), drawn(rows)
    optimizer = optimizer_of(name, model)
    for piece in in_parts(np.arange(rows), part):
        at = torch.from_numpy(piece)
        loss = text_loss("classification", model(ids[at]), targets[at], None, smoothing)  # type: ignore[arg-type]
        FP32.backward(loss * (len(piece) / rows))
    found = {
        f"gradient {key}": weight.grad.clone() for key, weight in model.named_parameters() if weight.grad is not None
    }
    FP32.step(optimizer, lambda: optim.clip_gradient(model, 1.0))
    return found | dict(model.state_dict())


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 17),
    part=st.integers(1, 17),
    smoothing=st.sampled_from([0.0, 0.1]),
    name=st.sampled_from(["adamw", "adafactor"]),
)
def test_a_step_in_parts_is_the_step_of_the_whole_batch(
    rows: int, part: int, smoothing: float, name: OptimizerName
) -> None:
    whole, parts = after_a_step(name, rows, rows, smoothing), after_a_step(name, rows, part, smoothing)
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=0, atol=1e-12, msg=key)
