"""The dendritic layer: its mathematics, its counts, and what a finished model must survive."""

import copy
import importlib.util
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from trainables.parts.dendrites import DendriticLayer, dendritic_layers, rebuild, structure
from trainables.parts.dendrites.layer import wrap


def grown(dendrites, activation="sigmoid", inputs=5, outputs=4, bias=True, dtype=torch.float64, seed=0):
    """A layer whose every weight, also `top` and `skip`, is a random number."""
    generator = torch.Generator().manual_seed(seed)
    layer = DendriticLayer(nn.Linear(inputs, outputs, bias=bias, dtype=dtype), activation)
    for _ in range(dendrites):
        layer.grow(0.01, generator)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return layer


def reference(layer, x):
    """The formula of `Dendrite` and `DendriticLayer` in numpy, one unit and one row at a time."""
    act = {"sigmoid": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh, "relu": lambda z: max(z, 0.0)}[layer.activation]
    weights = {name: value.numpy() for name, value in layer.state_dict().items()}
    y = np.zeros((len(x), layer.core.out_features))
    for row, unit in np.ndindex(y.shape):
        y[row, unit] = weights["core.weight"][unit] @ x[row] + weights["core.bias"][unit]
        signals = []
        for i in range(len(layer.dendrites)):
            z = weights[f"dendrites.{i}.branch.weight"][unit] @ x[row] + weights[f"dendrites.{i}.branch.bias"][unit]
            z += sum(weights[f"dendrites.{i}.skip"][j, unit] * signals[j] for j in range(i))
            signals.append(act(z))
            y[row, unit] += weights[f"dendrites.{i}.top"][unit] * signals[i]
    return y


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("dendrites", [0, 1, 2, 3])
def test_output_is_the_formula(dendrites, activation):
    layer, x = grown(dendrites, activation), np.random.default_rng(1).normal(size=(6, 5))
    y = layer(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(y, reference(layer, x), rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_the_formula():
    layer = grown(3, "tanh")
    names, values = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    values = tuple(value.detach().requires_grad_(True) for value in values)

    def output(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, (x, *values))


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 5), (0, 5)])
def test_the_last_axis_is_the_layers(shape):
    layer = grown(2)
    x = torch.randn(shape, dtype=torch.float64)
    flat = layer(x.reshape(-1, 5))
    torch.testing.assert_close(layer(x), flat.reshape(*shape[:-1], 4), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5)])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_growth_leaves_the_output_exactly_as_it_was(before, shape):
    layer, x = grown(before, dtype=torch.float32), torch.randn(shape)
    y = layer(x)
    layer.grow(0.5, torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), y)
    assert len(layer.dendrites) == before + 1
    assert layer.dendrites[-1].branch.weight.std() > 0.1


def test_a_new_dendrite_starts_to_learn_at_once():
    layer = grown(0)
    layer.grow(0.1, torch.Generator().manual_seed(0))
    layer(torch.randn(3, 5, dtype=torch.float64)).square().sum().backward()
    assert layer.dendrites[0].top.grad.abs().min() > 0


def test_counts_of_384_to_384():
    layer = DendriticLayer(nn.Linear(384, 384))
    counts = []
    for _ in range(3):
        counts.append(sum(parameter.numel() for parameter in layer.parameters()))
        layer.grow(0.01, torch.Generator())
    assert counts == [147_840, 296_064, 444_672]


@pytest.mark.parametrize(("out", "count"), [(384, 147_840), (192, 73_920), (96, 36_960), (38, 14_630)])
def test_counts_of_adapters(out, count):
    """P = 384 * out + out; each dendrite adds P + out, and `out` for each earlier dendrite."""
    layer = DendriticLayer(nn.Linear(384, out))
    for dendrites in range(4):
        expected = (dendrites + 1) * count + dendrites * out + dendrites * (dendrites - 1) // 2 * out
        assert sum(parameter.numel() for parameter in layer.parameters()) == expected
        layer.grow(0.01, torch.Generator())


def test_new_dendrites_depend_on_their_generator_alone():
    torch.manual_seed(1)
    layers = [DendriticLayer(nn.Linear(5, 4)) for _ in range(3)]
    before = torch.get_rng_state()
    for layer, seed in zip(layers, (7, 7, 8), strict=True):
        layer.grow(1.0, torch.Generator().manual_seed(seed))
    assert torch.equal(torch.get_rng_state(), before)
    first, same, other = (layer.dendrites[0].branch.weight for layer in layers)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_scale_is_the_standard_deviation():
    layer = DendriticLayer(nn.Linear(384, 384))
    layer.grow(0.03, torch.Generator().manual_seed(0))
    assert layer.dendrites[0].branch.weight.std().item() == pytest.approx(0.03, rel=0.02)


def test_a_dendrite_of_a_frozen_layer_trains():
    layer = DendriticLayer(nn.Linear(5, 4).requires_grad_(False))
    layer.grow(0.1, torch.Generator())
    assert {name for name, value in layer.named_parameters() if not value.requires_grad} == {"core.weight", "core.bias"}


def test_freeze_old_leaves_older_dendrites_their_top():
    layer = grown(3)
    layer.freeze_old()
    frozen = {name for name, value in layer.named_parameters() if not value.requires_grad}
    branches = {f"dendrites.{index}.branch.{part}" for index in (0, 1) for part in ("weight", "bias")}
    assert frozen == branches | {"dendrites.1.skip"}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("old", "new"), [(0, 2), (3, 1), (2, 0), (1, 1), (0, 12)])
def test_structure_follows_the_state_dict(old, new, bias):
    source, target = grown(new, bias=bias, seed=1), grown(old, bias=bias, seed=2)
    survivors = {name: value for name, value in target.named_parameters() if name in dict(source.named_parameters())}
    target.load_state_dict(source.state_dict())
    x = torch.randn(3, 5, dtype=torch.float64)
    assert torch.equal(target(x), source(x))
    assert len(target.dendrites) == new
    now = dict(target.named_parameters())
    assert all(now[name] is parameter for name, parameter in survivors.items())


def test_structure_follows_inside_a_model_with_two_layers():
    models = [nn.Sequential(grown(a), nn.ModuleDict({"inner": grown(b)})) for a, b in ((3, 1), (0, 2))]
    models[1].load_state_dict(models[0].state_dict())
    assert structure(models[1]) == structure(models[0])
    assert [len(layer.dendrites) for layer in dendritic_layers(models[1]).values()] == [3, 1]


def test_a_state_dict_that_lacks_a_part_is_refused():
    weights = grown(2).state_dict()
    del weights["dendrites.0.branch.weight"]
    with pytest.raises(RuntimeError, match=r"dendrites\.0\.branch\.weight"):
        grown(0).load_state_dict(weights)


def test_rebuild_from_json_and_safetensors():
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), grown(2, "relu", dtype=torch.float32))
    told, stored = json.dumps(structure(model)), safetensors.torch.save(model.state_dict())
    again = rebuild(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), json.loads(told))
    again.load_state_dict(safetensors.torch.load(stored))
    x = torch.randn(3, 6)
    assert torch.equal(again(x), model(x))


def test_nobody_can_read_past_the_dendrites():
    assert not hasattr(grown(1), "weight")


def test_wrap_refuses_what_is_not_linear():
    with pytest.raises(AssertionError, match="LayerNorm"):
        wrap(nn.Sequential(nn.LayerNorm(3)), ["0"], "sigmoid")


def test_deepcopy_shares_nothing():
    layer = grown(2)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.dendrites[1].skip.fill_(0.0)
    assert layer.dendrites[1].skip.abs().min() > 0


def test_torch_export_with_any_batch():
    layer = grown(3)
    example = (torch.randn(2, 5, dtype=torch.float64),)
    exported = torch.export.export(layer, example, dynamic_shapes=({0: torch.export.Dim("rows")},)).module()
    x = torch.randn(7, 5, dtype=torch.float64)
    assert torch.equal(exported(x), layer(x))


@pytest.mark.skipif(
    importlib.util.find_spec("onnx") is None, reason="onnx is not installed: torch cannot write its files"
)
def test_onnx_with_any_batch(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    layer, path = grown(3, "tanh", dtype=torch.float32), tmp_path / "layer.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            layer, (torch.randn(2, 5),), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "rows"}}
        )
    x = torch.randn(7, 5)
    (y,) = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(y, layer(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_served_model_needs_neither_raysweep_nor_perforatedai():
    check = (
        "import sys, trainables.parts.dendrites;"
        "print([name for name in sys.modules if name.split('.')[0] in ('raysweep', 'ray', 'perforatedai')])"
    )
    told = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
