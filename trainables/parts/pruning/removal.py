"""Heads and neurons really taken off: smaller matrices, with nothing to multiply where something was.

Nothing here imports raysweep: exported models are built with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainables.parts.pruning.architectures import architecture_of
from trainables.parts.pruning.units import Group, Part, groups_of, head_size

Sizes = dict[str, list[int]]
NOTE = "changed_sizes"  # attribute of an encoder whose sizes are no longer those of its config


def sizes_of(encoder: Any) -> Sizes:
    """How many heads and neurons each layer has, JSON; empty if the kind of encoder is one that cannot be pruned."""
    sizes: Sizes = {}
    for group in _groups(encoder):
        sizes.setdefault(group.kind, []).append(group.units)
    return sizes


def changed_sizes(encoder: Any) -> Sizes | None:
    """What `resize` needs to build such an encoder from its config; None if nothing was removed from it."""
    sizes: Sizes | None = getattr(encoder, NOTE, None)
    return sizes


def resize(encoder: Any, sizes: Mapping[str, Sequence[int]]) -> None:
    """Give a blank encoder these sizes: what its weights were is lost, so load others."""
    groups = [group for group in _groups(encoder) if group.kind in sizes]
    kept = {group.name: torch.arange(group.units) < sizes[group.kind][group.layer] for group in groups}
    remove(encoder, encoder, kept)


def remove(model: nn.Module, encoder: Any, kept: Mapping[str, Tensor]) -> None:
    """Take off, in place, all units but the kept ones, bool [units] by the group's name; other groups stay whole.

    Each layer keeps at least one head and one neuron. Parameters that get smaller are new objects without gradients,
    so an optimizer of the old ones is of no more use.
    """
    groups = {group.name: group for group in groups_of(model, encoder)}
    assert kept.keys() <= groups.keys(), kept.keys() - groups.keys()
    for name, chosen in kept.items():
        assert chosen.shape == (groups[name].units,), (name, chosen.shape)
        assert chosen.any(), f"{name}: nothing would be left"
    for name, chosen in kept.items():
        for part in groups[name].parts:
            _cut(model, part, chosen.cpu())
    _tell_heads(encoder)
    if not all(chosen.all() for chosen in kept.values()):
        setattr(encoder, NOTE, sizes_of(encoder))


def _groups(encoder: Any) -> tuple[Group, ...]:
    return () if architecture_of(encoder) is None else groups_of(encoder, encoder)


def _cut(model: nn.Module, part: Part, kept: Tensor) -> None:
    """Leave the kept units' places of a parameter, in their order."""
    path, _, name = part.parameter.rpartition(".")
    linear, old = model.get_submodule(path), model.get_parameter(part.parameter)
    stays = part.places[kept].flatten().sort().values.to(old.device)
    new = nn.Parameter(old.detach().index_select(part.axis, stays), requires_grad=old.requires_grad)
    setattr(linear, name, new)
    if name == "weight":
        _tell_shape(linear, new)


def _tell_shape(linear: Any, weight: Tensor) -> None:
    """The attributes by which a linear layer knows its shape; the Conv1D of transformers computes with them."""
    if isinstance(linear, nn.Linear):
        linear.out_features, linear.in_features = weight.shape
    else:
        linear.nx, linear.nf = weight.shape


def _tell_heads(encoder: Any) -> None:
    """The attributes by which attention knows how many heads it has."""
    architecture, size = architecture_of(encoder), head_size(encoder)
    assert architecture is not None
    for layer, heads in zip(encoder.get_submodule(architecture.stack), sizes_of(encoder)["heads"], strict=True):
        told = dict.fromkeys(architecture.counts, heads) | dict.fromkeys(architecture.widths, heads * size)
        for path, value in told.items():
            owner, _, attribute = path.rpartition(".")
            assert hasattr(layer.get_submodule(owner), attribute), path
            setattr(layer.get_submodule(owner), attribute, value)
