"""Hard concrete gates: their formulas, their place in a model, how they learn, how they are folded into weights."""

import math
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from trainables.parts.pruning.gates import START, Gates, open_chance, sample, value
from trainables.parts.pruning.settings import PruningSettings
from trainables.parts.pruning.units import Group, Part, groups_of

SIZES = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 12},
    "modernbert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 12},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 12},  # its matrices are [in, out]
}
IDS = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])


def settings(**changes: Any) -> PruningSettings:
    given = {"target": "heads+neurons", "importance": "gates", "epochs": 1, "schedule": "cubic", **changes}
    return PruningSettings(**given)


def encoder(kind: str) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=20, pad_token_id=0, initializer_range=0.2, **SIZES[kind]
    )
    config._attn_implementation = "eager"
    return transformers.AutoModel.from_config(config).eval()  # type: ignore[no-any-return]


def states(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).last_hidden_state  # type: ignore[no-any-return]


def set_log_alpha(gates: Gates, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for log_alpha in gates.log_alpha.values():
        log_alpha.data = torch.randn(log_alpha.shape, generator=generator)


LOG_ALPHA = torch.tensor([-4.0, -1.0, 0.0, 0.7, 3.0])


def test_gates_without_noise_and_their_chance_are_the_papers_formulas() -> None:
    logistic = [1 / (1 + math.exp(-alpha)) for alpha in LOG_ALPHA.tolist()]
    assert value(LOG_ALPHA).tolist() == pytest.approx([min(1, max(0, 1.2 * s - 0.1)) for s in logistic])
    shifted = [alpha - 2 / 3 * math.log(0.1 / 1.1) for alpha in LOG_ALPHA.tolist()]
    assert open_chance(LOG_ALPHA).tolist() == pytest.approx([1 / (1 + math.exp(-alpha)) for alpha in shifted])
    assert float(value(torch.tensor(START))) == 1


def test_drawn_gates_are_open_as_often_as_expected() -> None:
    torch.manual_seed(0)
    drawn = sample(LOG_ALPHA.expand(40_000, -1))
    assert drawn.min() == 0
    assert drawn.max() == 1
    # five standard errors of a share
    assert ((drawn > 0).float().mean(0) - open_chance(LOG_ALPHA)).abs().max() < 5 * 0.5 / 200
    full = torch.sigmoid(LOG_ALPHA - 2 / 3 * math.log(11))  # s > 11/12, where the stretched gate is above 1
    assert ((drawn == 1).float().mean(0) - full).abs().max() < 5 * 0.5 / 200


@pytest.mark.parametrize("kind", list(SIZES))
def test_gates_that_are_open_leave_a_model_as_it_is(kind: str) -> None:
    model = encoder(kind)
    before = states(model)
    Gates(settings(), model, groups_of(model, model))
    assert torch.equal(states(model), before)


@pytest.mark.parametrize("kind", list(SIZES))
def test_folding_gives_the_outputs_of_the_gated_model(kind: str) -> None:
    model = encoder(kind)
    plain, groups = states(model), groups_of(model, model)
    gates = Gates(settings(), model, groups)
    set_log_alpha(gates)
    gated = states(model)
    assert (gated - plain).abs().max() > 1e-2
    gates.fold({group.name: torch.ones(group.units, dtype=torch.bool) for group in groups})
    torch.testing.assert_close(states(model), gated, atol=1e-5, rtol=0)
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_folding_leaves_the_weights_of_units_that_go() -> None:
    model = encoder("bert")
    heads = groups_of(model, model)[0]
    weight = model.get_parameter("encoder.layer.0.attention.output.dense.weight")
    before = weight.detach().clone()
    gates = Gates(settings(), model, [heads])
    set_log_alpha(gates)
    gates.fold({heads.name: torch.tensor([True, False, True, False])})
    times = value(gates.log_alpha[heads.name].detach())
    times[[1, 3]] = 1
    torch.testing.assert_close(weight.detach(), before * times.repeat_interleave(4))


def test_a_shut_gate_takes_its_head_out() -> None:
    model, other = encoder("modernbert"), encoder("modernbert")
    heads = groups_of(model, model)[0]
    gates = Gates(settings(), model, [heads])
    gates.log_alpha[heads.name].data[2] = -9
    other.get_parameter("layers.0.attn.Wo.weight").data[:, 8:12] = 0
    torch.testing.assert_close(states(model), states(other), atol=1e-6, rtol=0)


def test_a_model_that_trains_draws_its_gates_from_torchs_generator() -> None:
    model = encoder("modernbert").train()  # it has no dropout
    gates = Gates(settings(), model, groups_of(model, model))
    set_log_alpha(gates)
    torch.manual_seed(1)
    one, another = states(model), states(model)
    torch.manual_seed(1)
    assert torch.equal(states(model), one)
    assert not torch.equal(one, another)
    gates.remove()
    assert torch.equal(states(model), states(encoder("modernbert")))


def two_layers(scope: str = "layer", **changes: Any) -> tuple[nn.Sequential, Gates]:
    """Two stacked linear layers, whose 4 and 2 inputs are units."""
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1))
    groups = [
        Group("heads", layer, units, (Part(f"{layer}.weight", 1, torch.arange(units)[:, None], consumes=True),))
        for layer, units in enumerate((4, 2))
    ]
    return model, Gates(settings(scope=scope, **changes), model, groups)


def test_the_penalty_is_the_expected_share_beyond_what_may_stay() -> None:
    # the chances to be open, by hand: 1 / (1 + e^7.4014) four times; 1 and 1 / (1 + e^-1.5986)
    first, second = 0.000610, (0.999975 + 0.831825) / 2
    for scope, share, beyond in (
        ("layer", 0.4, (0 + second - 0.6) / 2),
        ("global", 0.8, (4 * first + 2 * second) / 6 - 0.2),
        ("global", 0.5, 0),
    ):
        _, gates = two_layers(scope, gate_penalty=3.0)
        for log_alpha, values in zip(gates.log_alpha.values(), ([-9.0] * 4, [9.0, 0.0]), strict=True):
            log_alpha.data = torch.tensor(values)
        assert gates.penalty(share).item() == pytest.approx(3 * beyond, abs=1e-5)


def test_heads_and_neurons_each_have_their_share_whatever_their_numbers() -> None:
    model = encoder("bert")
    gates = Gates(settings(scope="global", gate_penalty=1.0), model, groups_of(model, model))
    for name, log_alpha in gates.log_alpha.items():
        log_alpha.data.fill_(20 if "heads" in name else -20)
    assert gates.penalty(0.3).item() == pytest.approx((1 - 0.7) / 2)


def test_the_penalty_shuts_gates_until_as_many_as_wanted_are_expected_to_stay() -> None:
    _, gates = two_layers("global", gate_lr=0.01)
    for _ in range(600):
        gates.penalty(0.5).backward()  # type: ignore[no-untyped-call]
        gates.step()
    found = torch.cat([open_chance(log_alpha) for log_alpha in gates.log_alpha.values()]).mean()
    assert found.item() == pytest.approx(0.5, abs=0.05)


def train(model: nn.Module, gates: Gates, epochs: range) -> None:
    """What is wanted is the first input of four; the weights are as they are."""
    for epoch in epochs:
        torch.manual_seed(epoch)
        inputs = torch.randn(32, 4)
        loss = (model(inputs)[:, 0] - inputs[:, 0]).square().mean() + gates.penalty(0.5)
        loss.backward()
        gates.step()


def useful_first(seed: int = 0) -> tuple[nn.Module, Gates]:
    torch.manual_seed(seed)
    model, gates = two_layers(gate_lr=0.1, gate_penalty=0.5)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0.1, 0.1]]))  # type: ignore[operator]
        model[1].weight.copy_(torch.tensor([[1.0, 0.1]]))  # type: ignore[operator]
        for linear in (model[0], model[1]):
            linear.bias.zero_()  # type: ignore[operator]
    return model, gates


def test_units_that_the_task_needs_rank_highest() -> None:
    model, gates = useful_first()
    train(model, gates, range(150))
    assert [int(scores.argmax()) for scores in gates.scores().values()] == [0, 0]


def test_a_resumed_run_is_bit_identical() -> None:
    model, straight = useful_first()
    train(model, straight, range(10))
    model, first = useful_first()
    train(model, first, range(4))
    model, second = useful_first()
    second.restore(first.state())
    train(model, second, range(4, 10))
    assert all(torch.equal(second.scores()[name], scores) for name, scores in straight.scores().items())
