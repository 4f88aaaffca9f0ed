"""Heads and neurons of an encoder, and where in its parameters each one lies. No raysweep: exported models use it.

A unit is an attention head, or a neuron of a feed-forward layer; a group is all units of one kind in one layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.parts.pruning.architectures import Architecture, Linears, architecture_of

Kind = Literal["heads", "neurons"]


@dataclass(frozen=True, slots=True)
class Part:
    """Where a group's units lie in one parameter: unit i at `places`[i] along `axis`; places is int64 [units, k].

    `consumes` marks the one matrix whose input the units are, where a gate multiplies.
    """

    parameter: str
    axis: int
    places: Tensor
    consumes: bool


@dataclass(frozen=True, slots=True)
class Group:
    """All units of one kind in one layer, and all weights and biases that are theirs alone."""

    kind: Kind
    layer: int
    units: int
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """Unique in a model; a key in JSON."""
        return f"layer {self.layer} {self.kind}"


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix of weights, and the axis of its inputs."""

    parameter: str
    inputs: int


def groups_of(model: nn.Module, encoder: Any) -> tuple[Group, ...]:
    """Heads and neurons of each layer in turn, as many as it has now; parameters are named as in `model`."""
    architecture, found = _known(encoder), []
    for number, prefix in enumerate(_layers(model, encoder)):
        found.append(_group(model, architecture, "heads", number, prefix, head_size(encoder)))
        found.append(_group(model, architecture, "neurons", number, prefix, 1))
    return tuple(found)


def matrices_of(model: nn.Module, encoder: Any, classifier: bool = False) -> tuple[Matrix, ...]:
    """The weight matrices in the encoder's layers; with `classifier` also those behind them, poolers included."""
    architecture, inside = _known(encoder), _prefix(model, encoder)
    layers = _layers(model, encoder)
    found = [Matrix(f"{layer}{name}.weight", architecture.inputs) for layer in layers for name in architecture.linears]
    if classifier:
        linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        behind = [name for name in linears if name.startswith(f"{inside}pooler.") or not name.startswith(inside)]
        found += [Matrix(f"{name}.weight", 1) for name in behind]
    return tuple(found)


def head_size(encoder: Any) -> int:
    """What a head of the whole encoder has, and one that is left has still: removal leaves the config as it is."""
    return int(encoder.config.hidden_size // encoder.config.num_attention_heads)


def _known(encoder: Any) -> Architecture:
    architecture = architecture_of(encoder)
    assert architecture is not None, f"{encoder.config.model_type} was not refused by check_prunable"
    return architecture


def _prefix(model: nn.Module, encoder: nn.Module) -> str:
    """What the names of the encoder's parts begin with in `model`."""
    name = next(name for name, module in model.named_modules() if module is encoder)
    return f"{name}." if name else ""


def _layers(model: nn.Module, encoder: Any) -> list[str]:
    """What the names of each layer's parts begin with in `model`."""
    stack = f"{_prefix(model, encoder)}{_known(encoder).stack}"
    layers = model.get_submodule(stack)
    assert isinstance(layers, nn.ModuleList), type(layers)
    return [f"{stack}.{number}." for number in range(len(layers))]


def _group(model: nn.Module, architecture: Architecture, kind: Kind, number: int, prefix: str, size: int) -> Group:
    """The units of a layer; each takes in `size` columns of the matrix behind them."""
    linears = architecture.heads if kind == "heads" else architecture.neurons
    out = f"{prefix}{linears.out}.weight"
    columns = model.get_parameter(out).shape[architecture.inputs]
    units = columns // size
    consumed = Part(out, architecture.inputs, _places(columns, units, 1), consumes=True)
    made = _parts_into(model, linears, 1 - architecture.inputs, units, prefix)
    return Group(kind, number, units, (*made, consumed))


def _parts_into(model: nn.Module, linears: Linears, axis: int, units: int, prefix: str) -> Iterator[Part]:
    """Rows, and their biases, of the matrices that the units come out of; their outputs lie along `axis`."""
    for name in linears.into:
        rows = model.get_parameter(f"{prefix}{name}.weight").shape[axis]
        places = _places(rows, units, linears.blocks)
        yield Part(f"{prefix}{name}.weight", axis, places, consumes=False)
        if model.get_submodule(f"{prefix}{name}").bias is not None:
            yield Part(f"{prefix}{name}.bias", 0, places, consumes=False)


def _places(length: int, units: int, blocks: int) -> Tensor:
    """[units, length / units]: an axis of so many blocks has a piece of each unit in every block."""
    return torch.arange(length).view(blocks, units, -1).transpose(0, 1).reshape(units, -1)
