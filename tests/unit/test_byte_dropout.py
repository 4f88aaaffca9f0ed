"""Dropout by bytes: as often, as strong and as reproducible as torch's."""

import pytest
import torch
from torch import nn

from trainables.parts.byte_dropout import ByteDropout, drop_by_bytes


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_of_values_is_dropped_and_the_rest_scaled(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1001, 999)
    y = ByteDropout(p)(x)
    share = round(256 * p) / 256
    assert (y == 0).double().mean().item() == pytest.approx(share, abs=2e-3)
    assert torch.unique(y).tolist() == pytest.approx([0.0, 1 / (1 - share)])
    assert y.mean().item() == pytest.approx(1.0, abs=5e-3)


def test_values_are_dropped_independently_of_their_neighbours() -> None:
    torch.manual_seed(0)
    kept = (ByteDropout(0.5)(torch.ones(80_000)) > 0).double().reshape(-1, 8)
    apart = torch.corrcoef(kept.T) - torch.eye(8)
    assert apart.abs().max().item() < 0.05


def test_it_rests_in_eval_mode_and_repeats_with_the_seed() -> None:
    layer, x = ByteDropout(0.3), torch.randn(7, 5)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(ByteDropout(0.0)(x), x)


def test_gradients_pass_where_values_did() -> None:
    x = torch.ones(50, 4, requires_grad=True)
    y = ByteDropout(0.5)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_every_dropout_of_a_module_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.25), nn.Sequential(nn.Dropout(0.0)))
    drop_by_bytes(model)
    assert [type(part) for part in model.modules() if "Dropout" in type(part).__name__] == [ByteDropout, ByteDropout]
    assert model[1].dropped == 64
