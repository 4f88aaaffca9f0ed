"""The adapter: widths and parameter counts that are known, starting points, and what dropout and noise touch."""

import pytest
import torch
from torch import Tensor, nn

from trainables.parts.adapter import (
    Adapter,
    from_structure,
    initialise,
    matched_width,
    output_width,
    principal_directions,
)

H, D = 12, 5


def ready(in_dim: int = H, out_dim: int = D, kind: str = "default", seed: int = 3, **settings: object) -> Adapter:
    adapter = Adapter(in_dim, out_dim, **settings)  # type: ignore[arg-type]
    initialise(adapter, kind, seed)  # type: ignore[arg-type]
    return adapter


def rows(count: int, width: int = H, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("compression", "width", "parameters"),
    [(1.0, 384, 147_840), (0.5, 192, 73_920), (0.25, 96, 36_960), (0.10, 38, 14_630)],
)
def test_compression_of_384_gives_the_published_sizes(compression: float, width: int, parameters: int) -> None:
    assert output_width(384, compression, None) == width
    assert size(Adapter(384, width)) == parameters


def test_out_dim_wins_and_nothing_given_keeps_the_width() -> None:
    assert output_width(384, None, 17) == 17
    assert output_width(384, None, None) == 384
    assert output_width(8, 0.01, None) == 1


@pytest.mark.parametrize(("out_dim", "dendrites", "grown"), [(384, 1, 296_064), (384, 2, 444_672), (38, 1, 29_298)])
def test_the_matched_control_has_as_many_parameters_as_the_dendrites(out_dim: int, dendrites: int, grown: int) -> None:
    unit = 384 + 1 + out_dim
    control = Adapter(384, out_dim, hidden_width=matched_width(384, out_dim, dendrites))
    assert abs(size(control) - grown) <= unit / 2


def test_the_matched_control_starts_without_effect_and_then_learns() -> None:
    plain, control = ready(), ready(hidden_width=7)
    x = rows(4)
    assert torch.equal(plain(x), control(x))
    control(x).sum().backward()
    assert control.hidden is not None
    assert control.hidden.outer.weight.grad.abs().sum() > 0


def test_default_start_is_that_of_a_linear_layer() -> None:
    torch.manual_seed(11)
    usual = nn.Linear(H, D)
    ours = ready(seed=11)
    assert torch.equal(ours.linear.weight, usual.weight)
    assert torch.equal(ours.linear.bias, usual.bias)


def test_the_start_depends_on_the_seed_alone() -> None:
    first = ready(seed=1)
    torch.manual_seed(99)
    again, other = ready(seed=1), ready(seed=2)
    assert torch.equal(first.linear.weight, again.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)


def test_building_an_adapter_draws_nothing_from_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    ready(hidden_width=3)
    assert torch.equal(torch.rand(1), expected)


def test_identity_keeps_the_first_coordinates() -> None:
    x = rows(3)
    assert torch.equal(ready(kind="identity")(x), x[:, :D])


def test_pca_keeps_the_widest_directions() -> None:
    spread = rows(400) * torch.tensor([0.1] * 9 + [5.0, 3.0, 8.0]) + 2.0
    directions = principal_directions(spread, 3)
    assert torch.allclose(directions @ directions.T, torch.eye(3), atol=1e-5)
    assert directions.argmax(1).tolist() == [11, 9, 10]
    adapter = Adapter(H, 3)
    initialise(adapter, "pca", 0, spread)
    assert torch.allclose(adapter(spread), spread @ directions.T, atol=1e-5)


def test_residual_adds_the_input() -> None:
    plain, residual = ready(out_dim=H), ready(out_dim=H, residual=True)
    x = rows(2)
    assert torch.allclose(residual(x), plain(x) + x)


def test_dropout_before_drops_inputs_and_dropout_behind_drops_outputs() -> None:
    x = torch.ones(400, H)
    before = ready(kind="identity", dropout=0.5).train()(x)
    behind = ready(dropout=0.5, dropout_position="post").train()(x)
    assert set(before.unique().tolist()) == {0.0, 2.0}
    assert 0.3 < (behind == 0).float().mean() < 0.7


def test_dropout_and_noise_end_with_training() -> None:
    noisy = ready(dropout=0.3, noise_std=0.5)
    x = rows(6)
    assert not torch.equal(noisy.train()(x), noisy(x))
    assert torch.equal(noisy.eval()(x), ready()(x))


def test_noise_has_the_given_spread() -> None:
    noisy, x = ready(noise_std=0.05), rows(1).expand(20_000, H)
    spread = (noisy.train()(x) - noisy.linear(x)).std().item()
    assert spread == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize("settings", [{}, {"hidden_width": 4}, {"residual": True, "out_dim": H}])
def test_an_adapter_comes_back_from_its_structure_and_weights(settings: dict[str, object]) -> None:
    adapter = ready(dropout=0.2, noise_std=0.1, **settings).eval()  # type: ignore[arg-type]
    again = from_structure(adapter.structure())
    again.load_state_dict(adapter.state_dict())
    x = rows(3)
    assert torch.equal(again.eval()(x), adapter(x))
