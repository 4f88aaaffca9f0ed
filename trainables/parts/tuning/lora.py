"""LoRA by PEFT on an encoder of transformers, and the trained model without PEFT and bitsandbytes, as it is exported.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685). Shapes: I inputs, O outputs.
"""

import copy
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.parts.linear_layers import as_conv1d, linear_names
from trainables.parts.ternary.layer import TernaryLinear
from trainables.parts.ternary.packed import EACH, PackedTernaryLinear
from trainables.parts.tuning.low_rank import LowRank
from trainables.parts.tuning.quantised import dequantised, hush, is_quantised, was_conv1d
from trainables.parts.tuning.settings import TuningSettings

ADAPTER = "default"  # PEFT's name of the one adapter; part of its parameters' names
FLOAT = 4  # bytes of a float32


def add_lora(model: Any, settings: TuningSettings, seed: int) -> None:
    """Put an adapter beside linear layers inside an encoder's layers, in place; then they alone learn.

    Layers may be float, ternary, or held in 8 or 4 bits. The adapters start as PEFT starts them, the second matrix at
    zero so that nothing changes, from `seed` alone. Raises UserError where there are no such layers.
    """
    hush()
    from peft import LoraConfig, inject_adapter_in_model

    names = linear_names(model, settings.targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.scale * settings.rank,  # only ever divided by the rank
        lora_dropout=settings.dropout,
        target_modules=names,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # PEFT draws on the CPU; drawn again below
        warnings.filterwarnings("ignore", "fan_in_fan_out")  # it sees by itself how each layer's matrix lies
        inject_adapter_in_model(config, model, ADAPTER)
    _draw(model, torch.Generator().manual_seed(seed))


@torch.no_grad()
def _draw(model: nn.Module, generator: torch.Generator) -> None:
    """The first matrices as PEFT and nn.Linear draw theirs, on the CPU: the same on every device."""
    for part in map(_adapter, (part for _, part in _parts(model))):
        if part is not None:
            weight = part.lora_A[ADAPTER].weight
            weight.copy_(nn.init.kaiming_uniform_(torch.empty(weight.shape), a=math.sqrt(5), generator=generator))


def plain(model: nn.Module) -> nn.Module:
    """A copy without PEFT and bitsandbytes that answers as the model does in eval mode.

    Adapters are merged into float layers. What is held in 8 or 4 bits becomes float32 before; of int8 the answers
    differ by what it rounds of its inputs. Ternary layers are packed, and never merged: they become a `LowRank`.
    Weights that are replaced are not copied on the way.
    """
    replaced = {id(part): _plain(part).train(part.training) for _, part in _parts(model)}
    made = copy.deepcopy(model, replaced)  # what deepcopy is told of, it takes as copied already
    for part in made.modules():
        part.__dict__.pop("peft_config", None)
    return made


def exported_bytes(model: nn.Module) -> int:
    """Bytes of all tensors of `plain(model)`, which is not made for it."""
    parts = dict(_parts(model))
    inside = tuple(f"{name}." if name else "" for name in parts)
    rest = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(inside)}
    return _held(rest) + sum(map(_bytes, parts.values()))


def beside(model: nn.Module) -> int:
    """Parameters of adapters that stay in `plain(model)`: nothing can be merged into ternary weights."""
    return sum(_low_rank(part) for _, part in _parts(model))


def _held(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _parts(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """What `plain` replaces, and where it is: adapters with the layer in them, and other such layers."""
    if _adapter(module) is not None or is_quantised(module) or isinstance(module, TernaryLinear):
        yield name, module
        return
    for child, part in module.named_children():
        yield from _parts(part, f"{name}.{child}" if name else child)


def _adapter(part: nn.Module) -> Any:
    """A layer of PEFT; None for any other. Where PEFT was never imported, it has put no adapters anywhere."""
    layers = sys.modules.get("peft.tuners.lora")
    return part if layers is not None and isinstance(part, layers.LoraLayer) else None


def _base(part: Any) -> Any:
    """The layer that an adapter is beside; any other is its own."""
    return part if _adapter(part) is None else part.get_base_layer()


@torch.no_grad()
def _plain(part: nn.Module) -> nn.Module:
    base, adapter = _base(part), _adapter(part)
    if isinstance(base, TernaryLinear):
        packed = PackedTernaryLinear.of(base)
        return packed if adapter is None else _beside(packed, adapter)
    made = dequantised(base) if is_quantised(base) else copy.deepcopy(base)
    if adapter is not None:
        made.weight += adapter.get_delta_weight(ADAPTER)  # lies as the base's matrix does
    whole: nn.Module = as_conv1d(made) if was_conv1d(base) else made
    return whole


def _beside(packed: PackedTernaryLinear, adapter: Any) -> LowRank:
    down, up = adapter.lora_A[ADAPTER].weight, adapter.lora_B[ADAPTER].weight
    made = LowRank(packed, packed.in_features, packed.out_features, len(down), adapter.scaling[ADAPTER])
    made.to(down.device).requires_grad_(False)
    made.down.weight.copy_(down)
    made.up.weight.copy_(up)
    return made


def _bytes(part: Any) -> int:
    """Of what `_plain` makes of a layer."""
    base = _base(part)
    if not (isinstance(base, TernaryLinear) or is_quantised(base)):
        return _held(base.state_dict())  # an adapter is merged into it
    weights: int = base.in_features * base.out_features
    biases: int = FLOAT * sum(parameter.numel() for name, parameter in base.named_parameters() if name != "weight")
    if is_quantised(base):
        return FLOAT * weights + biases
    return -(-weights // EACH) + FLOAT + biases + FLOAT * _low_rank(part)  # the scale is one number


def _low_rank(part: Any) -> int:
    """Parameters of the `LowRank` that `_plain` makes of a layer; of any other none."""
    base, adapter = _base(part), _adapter(part)
    if adapter is None or not isinstance(base, TernaryLinear):
        return 0
    rank: int = adapter.r[ADAPTER]
    return rank * (base.in_features + base.out_features)
