"""LoRA on every kind of layer: what learns, from which start, and the exported model's answers, bytes and names."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

from raysweep.problems import UserError
from tests.ternary_encoders import CHANGES, drawn, layer, states_of, tiny
from tests.tuned_models import BASES, LORA, based, learning, tuned, wide
from trainables.parts.encoders import count
from trainables.parts.linear_layers import Targets, linear_names
from trainables.parts.ternary.convert import make_ternary
from trainables.parts.ternary.packed import PackedTernaryLinear
from trainables.parts.text_model import Shape, TextModel
from trainables.parts.tuning.lora import add_lora, beside, exported_bytes, plain
from trainables.parts.tuning.low_rank import LowRank, rebuild, structure
from trainables.parts.tuning.settings import TuningSettings

SIDE = st.integers(1, 20)
kinds = pytest.mark.parametrize("kind", CHANGES)
bases = pytest.mark.parametrize("base", BASES)


@kinds
@pytest.mark.parametrize("targets", ["attention", "feed_forward", "all"])
def test_adapters_alone_learn_on_just_these_layers(kind: str, targets: Targets) -> None:
    encoder = tiny(kind)
    names, before = linear_names(encoder, targets), states_of(encoder)
    add_lora(encoder, TuningSettings(kind="lora", rank=3, targets=targets), 1)
    assert list(learning(encoder)) == [f"{name}.lora_{side}.default.weight" for name in names for side in "AB"]
    assert torch.equal(states_of(encoder), before), "nothing changes before something is learnt"
    assert linear_names(encoder, targets)[0] == f"{names[0]}.base_layer"


@bases
def test_adapters_do_learn(base: str) -> None:
    encoder = based("bert", base)
    add_lora(encoder, LORA, 1)
    frozen = {name: tensor.clone() for name, tensor in encoder.state_dict().items() if "lora_" not in name}
    optimizer = torch.optim.SGD(learning(encoder).values(), 0.1)
    losses = []
    for _ in range(3):
        states = encoder(input_ids=torch.arange(5, 17).view(2, 6)).last_hidden_state
        losses.append(states[..., 0].square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[0] > losses[1] > losses[2]
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in encoder.state_dict().items() if name in frozen)


def test_the_start_is_decided_by_the_seed_alone() -> None:
    starts = []
    for number, seed in enumerate((1, 1, 2)):
        encoder = tiny("gpt2")
        torch.manual_seed(number)
        before = torch.get_rng_state()
        add_lora(encoder, LORA, seed)
        assert torch.equal(torch.get_rng_state(), before)
        starts.append(learning(encoder))
    assert all(torch.equal(weight, starts[1][name]) for name, weight in starts[0].items())
    for name, weight in starts[0].items():
        if "lora_B" in name:
            assert not weight.any()
        else:
            assert not torch.equal(weight, starts[2][name])
            assert 0.5 < weight.abs().max() * weight.shape[1] ** 0.5 <= 1, "uniform, as nn.Linear's"


@settings(max_examples=15)  # each has an encoder of its own
@given(rank=st.integers(1, 9), scale=st.floats(0.5, 64))
def test_adapters_count_scale_times(rank: int, scale: float) -> None:
    encoder = tiny("bert")
    add_lora(encoder, TuningSettings(kind="lora", rank=rank, scale=scale), 1)
    part, x = encoder.encoder.layer[0].attention.self.query, drawn(4, 16)
    down, up = part.lora_A["default"].weight, part.lora_B["default"].weight
    up.data = drawn(*up.shape)
    wanted = part.base_layer(x) + scale * (x @ down.T @ up.T)
    torch.testing.assert_close(part(x), wanted, atol=1e-4, rtol=1e-5)


def test_their_inputs_are_dropped_in_training_alone() -> None:
    encoder = tuned("bert", "float32", TuningSettings(kind="lora", rank=3, dropout=0.5))
    part, x = encoder.encoder.layer[0].attention.self.query, drawn(4, 64)
    assert torch.equal(part(x), part(x))
    part.train()
    assert not torch.equal(part(x), part(x))


@kinds
@bases
def test_the_plain_model_answers_the_same(kind: str, base: str) -> None:
    encoder = tuned(kind, base)
    made, states = plain(encoder), states_of(encoder)
    limit = 0.1 if base == "int8" else 2e-5  # int8 rounds the inputs of its products
    assert (states_of(made) - states).abs().max() < limit
    assert (states - states_of(based(kind, base))).abs().max() > 2 * limit, "adapters do change answers"
    assert torch.equal(states_of(encoder), states), "the trained one is as it was"
    libraries = {type(part).__module__.partition(".")[0] for part in made.modules()}
    assert not {"peft", "bitsandbytes"} & libraries
    assert "peft_config" not in vars(made)
    assert not any(part.training for part in made.modules())


@kinds
@bases
def test_its_names_and_shapes_are_those_of_the_encoder(kind: str, base: str) -> None:
    """So that what is built of config.json, and rebuilt where layers are ternary, takes its weights."""
    made, blank = plain(tuned(kind, base)), wide(kind)
    if base == "ternary":
        found = {type(made.get_submodule(name)) for name in linear_names(blank, "all")}
        assert found == {LowRank}
        assert {type(part.base) for part in made.modules() if isinstance(part, LowRank)} == {PackedTernaryLinear}
        return
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in blank.state_dict().items()}
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in made.state_dict().items()} == shapes
    assert any(isinstance(part, Conv1D) for part in made.modules()) == (kind == "gpt2")


@bases
@pytest.mark.parametrize("kind", ["bert", "gpt2", "bitnet"])
@pytest.mark.parametrize("lora", [False, True])
def test_bytes_are_counted_without_a_copy(base: str, kind: str, lora: bool) -> None:
    encoder = tuned(kind, base) if lora else based(kind, base)
    if base == "ternary" and kind == "bert" and not lora:
        make_ternary(encoder, norm=True)
    model = TextModel(encoder, Shape(2, hidden=5))
    held = sum(tensor.nbytes for tensor in plain(model).state_dict().values())
    assert exported_bytes(model) == held
    linear = encoder.get_submodule(linear_names(encoder, "all")[0])
    assert exported_bytes(linear) == sum(tensor.nbytes for tensor in plain(linear).state_dict().values())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("ternary", ["attention", "feed_forward", "all"])
def test_adapters_stay_beside_ternary_layers_alone(kind: str, ternary: Targets) -> None:
    encoder = wide(kind)
    make_ternary(encoder, ternary)
    weights = count(encoder)
    assert beside(encoder) == 0
    add_lora(encoder, LORA, 1)
    matrices = [part for part in plain(encoder).modules() if isinstance(part, LowRank)]
    assert beside(encoder) == sum(count(part.down) + count(part.up) for part in matrices) > 0
    assert (beside(encoder) == count(encoder) - weights) == (ternary == "all")


class Made(TorchDispatchMode):
    """The bytes of all tensors that anything makes."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not func.is_view:
            self.total += made.nbytes
        return made


def test_counting_makes_nothing_and_a_copy_does_not_copy_what_it_replaces() -> None:
    encoder = tuned("bert", "ternary")
    stack = encoder.encoder.layer
    with Made() as counting:
        exported_bytes(stack)
    assert counting.total == 0
    copied = plain(stack)
    packed = {part.packed.data_ptr() for part in copied.modules() if isinstance(part, PackedTernaryLinear)}
    assert len(packed) == 12
    assert {parameter.data_ptr() for parameter in copied.parameters()}.isdisjoint(
        parameter.data_ptr() for parameter in stack.parameters()
    )


def test_an_encoder_without_layers_is_refused() -> None:
    encoder = tiny("bert")
    del encoder.encoder.layer[:]
    encoder.config.num_hidden_layers = 0
    with pytest.raises(UserError, match="no linear layers: BertModel has none"):
        add_lora(encoder, LORA, 1)


@given(inputs=SIDE, outputs=SIDE, rank=st.integers(1, 5), scale=st.floats(-4, 4, width=32))
def test_low_rank_is_a_sum_of_two_products(inputs: int, outputs: int, rank: int, scale: float) -> None:
    packed, x = PackedTernaryLinear.of(layer(inputs, outputs)), drawn(2, 3, inputs)
    made = LowRank(packed, inputs, outputs, rank, scale)
    made.down.weight.data, made.up.weight.data = drawn(rank, inputs, seed=1), drawn(outputs, rank, seed=2)
    wanted = packed(x) + scale * (x @ (made.up.weight @ made.down.weight).T)
    torch.testing.assert_close(made(x), wanted, atol=1e-3, rtol=1e-4)


def test_low_rank_layers_are_told_and_built_again() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Sequential(Conv1D(6, 3))).eval()
    told = {"0": {"rank": 2, "scale": 0.5}, "1.0": {"rank": 1, "scale": 1.0}}
    before = torch.get_rng_state()
    made: Any = rebuild(model, told)
    assert torch.equal(torch.get_rng_state(), before)
    assert structure(made) == told
    shapes = [tuple(part.weight.shape) for part in (made[0].down, made[0].up, made[1][0].down, made[1][0].up)]
    assert shapes == [(2, 4), (3, 2), (1, 3), (6, 1)]
    assert not made[1][0].training
