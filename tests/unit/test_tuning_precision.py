"""Training steps in three precisions: fp32 changes nothing, fp16's overflowing steps are left out and counted."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.parts import optim
from trainables.parts.tuning.precision import Precision, Scaled

BATCHES = [(torch.randn(8, 6, generator=torch.Generator().manual_seed(seed)), torch.arange(8) % 3) for seed in range(6)]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def step(
    model: nn.Module, optimizer: Any, scaled: Scaled, batch: tuple[Tensor, Tensor], times: float = 1.0
) -> dict[str, Tensor]:
    """The gradients that clipping is shown."""
    seen: dict[str, Tensor] = {}

    def look() -> None:
        seen.update({name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None})
        optim.clip_gradient(model, 1.0)

    optimizer.zero_grad()
    with scaled.autocast():
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    scaled.backward(loss * times)
    scaled.step(optimizer, look)
    return seen


def weights(model: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def plain_gradient(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    twin = copy.deepcopy(model)
    twin.zero_grad()
    nn.functional.cross_entropy(twin(batch[0]), batch[1]).backward()
    return {name: weight.grad for name, weight in twin.named_parameters() if weight.grad is not None}


def test_fp32_is_a_step_of_torch_bit_for_bit() -> None:
    model, plain = net(), net()
    optimizer, theirs = (torch.optim.AdamW(one.parameters(), lr=0.05) for one in (model, plain))
    scaled = Scaled("fp32", "cpu")
    for batch in BATCHES:
        step(model, optimizer, scaled, batch)
        theirs.zero_grad()
        nn.functional.cross_entropy(plain(batch[0]), batch[1]).backward()
        optim.clip_gradient(plain, 1.0)
        theirs.step()
    assert torch.equal(weights(model), weights(plain))
    assert scaled.state() == {"skipped": 0, "scaler": {}}


@pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_products_are_rounded_and_weights_are_not(precision: Precision, kind: torch.dtype) -> None:
    model, scaled = net(), Scaled(precision, "cpu")
    with scaled.autocast():
        assert model(BATCHES[0][0]).dtype == kind
    assert model(BATCHES[0][0]).dtype == torch.float32
    step(model, torch.optim.AdamW(model.parameters(), lr=0.05), scaled, BATCHES[0])
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 2e-2), ("fp16", 2e-3)])
def test_clipping_sees_gradients_as_they_are_without_a_scale(precision: Precision, tolerance: float) -> None:
    model = net()
    expected = plain_gradient(model, BATCHES[0])
    seen = step(model, torch.optim.SGD(model.parameters(), lr=0.1), Scaled(precision, "cpu"), BATCHES[0])
    assert seen.keys() == expected.keys()
    for name, gradient in seen.items():
        torch.testing.assert_close(gradient, expected[name], rtol=tolerance, atol=tolerance * 0.1)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return optim.adamw(model, 0.05)  # fused, which leaves a step out by itself


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05)


@pytest.mark.parametrize("new", [adam, sgd])
def test_a_step_that_overflows_is_left_out_and_counted(new: Callable[[nn.Module], torch.optim.Optimizer]) -> None:
    model, scaled = net(), Scaled("fp16", "cpu")
    optimizer = new(model)
    step(model, optimizer, scaled, BATCHES[0])
    before, scale = weights(model), scaled.state()["scaler"]["scale"]
    step(model, optimizer, scaled, BATCHES[1], times=1e38)
    assert torch.equal(weights(model), before)
    assert scaled.skipped == 1
    assert scaled.state()["scaler"]["scale"] == scale / 2
    step(model, optimizer, scaled, BATCHES[2])
    assert not torch.equal(weights(model), before)
    assert weights(model).isfinite().all()
    assert scaled.skipped == 1


def test_what_is_restored_goes_on_bit_for_bit() -> None:
    model, scaled = net(), Scaled("fp16", "cpu")
    optimizer = optim.adamw(model, 0.05)
    for batch, times in zip(BATCHES[:3], (1.0, 1e38, 1.0), strict=True):
        step(model, optimizer, scaled, batch, times)
    twin, again = copy.deepcopy(model), Scaled("fp16", "cpu")
    theirs = optim.adamw(twin, 0.05)
    optim.restore(theirs, optim.state(optimizer))
    again.restore(scaled.state())
    assert again.state() == scaled.state()
    assert again.skipped == 1
    for batch in BATCHES[3:]:
        step(model, optimizer, scaled, batch)
        step(twin, theirs, again, batch)
    assert torch.equal(weights(model), weights(twin))
    assert again.state() == scaled.state()
