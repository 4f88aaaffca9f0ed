"""Linear layers whose frozen weights are held in 8 or 4 bits, by bitsandbytes, while adapters beside them learn.

Dettmers et al. 2022, "LLM.int8()" (arXiv 2208.07339), and 2023, "QLoRA" (arXiv 2305.14314). Weights alone take fewer
bytes; with int8 the inputs of each product are rounded to 8 bits too.
"""

import copy
import logging
import sys
from typing import Any

import torch
from torch import nn

from raysweep.problems import Problem, UserError
from trainables.parts.linear_layers import as_linear, is_conv1d, linear_names
from trainables.parts.tuning.settings import LoadIn


def load_in(model: Any, kind: LoadIn, device: str) -> None:
    """Hold the linear layers inside an encoder's layers in so many bits, in place: frozen, and on `device`.

    int8: a scale for each output; inputs are rounded too, but on a CPU only outside of training. nf4: normal floats of
    4 bits, a scale for each 64 of them, itself in 8 bits; products in float32. Nothing is drawn: the same weights give
    the same bytes. Raises UserError, and changes nothing, where there are no such layers or one cannot be held so.
    """
    if kind == "float32":
        return
    if found := problems(model, kind, device):
        raise UserError(found)
    for name in linear_names(model, "all"):
        model.set_submodule(name, _held(model.get_submodule(name), kind, device))


def problems(model: Any, kind: LoadIn, device: str) -> list[Problem]:
    """Why linear layers cannot be held so; one of each width is tried, with other weights: the shapes alone count."""
    if kind == "float32":
        return []
    layers = {name: model.get_submodule(name) for name in linear_names(model, "all")}
    if refused := [_refusal(name, part) for name, part in layers.items() if not _plain(part)]:
        return refused
    widths = {_inputs(part): name for name, part in reversed(layers.items())}
    tried = {name: _held(_made_up(layers[name]), kind, device) for name in reversed(widths.values())}
    return [_misreading(name, part, device) for name, part in tried.items() if _misread(part)]


def _inputs(part: Any) -> int:
    return int(part.weight.shape[0 if is_conv1d(part) else 1])


def _made_up(part: Any) -> nn.Linear:
    """A linear layer of the same shape, each of whose rows has a range of its own."""
    inputs, outputs = _inputs(part), part.weight.numel() // _inputs(part)
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    linear.weight = nn.Parameter(torch.linspace(-1, 1, inputs * outputs).reshape(outputs, inputs), requires_grad=False)
    return linear


def _plain(part: nn.Module) -> bool:
    return type(part) is nn.Linear or is_conv1d(part)


def _refusal(name: str, part: nn.Module) -> Problem:
    message = f"{name} is a {type(part).__name__}, which cannot be held in 8 or 4 bits"
    return Problem(message, hint="set encoder.load_in to float32")


def _held(part: Any, kind: LoadIn, device: str) -> Any:
    linear = as_linear(part)
    made = _int8(linear, device) if kind == "int8" else _nf4(linear, device)
    made.source_cls = type(part)  # as transformers notes it
    if linear.bias is not None:
        made.bias = nn.Parameter(linear.bias.detach().to(device), requires_grad=False)
    return made.train(linear.training)


def _int8(linear: nn.Linear, device: str) -> Any:
    layers, weights = _bitsandbytes().nn, linear.weight.detach().cpu().float()
    with torch.device("meta"):  # nothing is drawn
        made = layers.Linear8bitLt(linear.in_features, linear.out_features, bias=False, has_fp16_weights=False)
    made.weight = layers.Int8Params(weights, requires_grad=False).to(device)
    return made


def _nf4(linear: nn.Linear, device: str) -> Any:
    layers, weights, told = _bitsandbytes().nn, linear.weight.detach().cpu().float(), {"quant_type": "nf4"}
    with torch.device("meta"):
        made = layers.Linear4bit(linear.in_features, linear.out_features, False, torch.float32, **told)
    made.weight = layers.Params4bit(weights, requires_grad=False, module=made, **told).to(device)
    # Some CPUs would answer in bfloat16 outside of training alone, and refuse sizes that 32 does not divide.
    made.support_avx512bf16_for_cpu = False
    return made


def _misread(part: Any) -> bool:
    """Whether products take scales of the wrong blocks, as some CPUs do where a row is no whole number of blocks."""
    state = getattr(part.weight, "quant_state", None)
    if state is None:
        return False
    row = copy.copy(state)
    row.shape = torch.Size((1, state.shape.numel()))  # a single row has no block that belongs to two
    read = _bitsandbytes().functional.dequantize_4bit
    return not torch.equal(read(part.weight.data, state).flatten(), read(part.weight.data, row).flatten())


def _misreading(name: str, part: Any, device: str) -> Problem:
    message = f"{name} has {part.in_features} inputs, whose weights in nf4 bitsandbytes reads wrongly on {device}"
    return Problem(message, hint="set encoder.load_in to int8 or float32, or take an encoder whose widths 64 divides")


def _bitsandbytes() -> Any:
    hush()
    import bitsandbytes

    return bitsandbytes


def hush() -> None:
    """Keep bitsandbytes from warning of a library that it can do without, and of each product whose inputs it rounds.

    PEFT imports it too, so call this before either.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def is_quantised(part: nn.Module) -> bool:
    """Whether `load_in` made it, or bitsandbytes otherwise; where that was never imported, it has made nothing."""
    layers = getattr(sys.modules.get("bitsandbytes"), "nn", None)
    return layers is not None and isinstance(part, layers.Linear8bitLt | layers.Linear4bit)


def was_conv1d(layer: nn.Module) -> bool:
    """Whether `load_in` made it of a Conv1D of GPT-2's."""
    return not issubclass(getattr(layer, "source_cls", nn.Linear), nn.Linear)


@torch.no_grad()
def dequantised(layer: Any) -> nn.Linear:
    """A linear layer of the float32 weights that a quantised one multiplies with, on its device."""
    functional, weight = _bitsandbytes().functional, layer.weight
    linear = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    if getattr(weight, "quant_state", None) is not None:
        values = functional.dequantize_4bit(weight.data, weight.quant_state)
    else:
        scales = weight.SCB if layer.state.SCB is None else layer.state.SCB  # the first product moves them
        values = functional.int8_vectorwise_dequant(weight.data, scales)
    linear.weight = nn.Parameter(values.float(), requires_grad=False)
    if layer.bias is not None:
        linear.bias = nn.Parameter(layer.bias.detach().float().clone(), requires_grad=False)
    return linear.train(layer.training)
