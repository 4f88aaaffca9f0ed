"""Masks of what is pruned: bool, in the shape of a parameter, True where a weight stays. They hold at every step."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.parts.pruning.units import Group

Masks = dict[str, Tensor]


def unit_masks(groups: Iterable[Group], kept: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> Masks:
    """By parameter, without the weights and biases of units that are not kept, bool [units] by the group's name."""
    masks: Masks = {}
    for group in groups:
        for part in group.parts if group.name in kept else ():
            parameter = parameters[part.parameter]
            gone = part.places[~kept[group.name].cpu()].flatten().to(parameter.device)
            mask = masks.setdefault(part.parameter, torch.ones_like(parameter, dtype=torch.bool))
            mask.index_fill_(part.axis, gone, False)
    return masks


def both(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Masks:
    """What stays by two masks; a parameter without a mask stays whole."""
    shared = {name: first[name] & second[name] for name in first.keys() & second.keys()}
    return {**first, **second, **shared}


class Held:
    """Parameters under masks. Holding them is one multiplication of all masked weights, by numbers of their own kind.

    What that takes of a training step is measured by `benchmarks/pruning.py`.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        self.masks: Masks = {}
        self._factors: dict[str, Tensor] = {}

    def use(self, masks: Mapping[str, Tensor]) -> None:
        """Hold these masks from now on, no others."""
        self.masks = dict(masks)
        self._factors = {name: mask.to(self._parameters[name].dtype) for name, mask in masks.items()}

    @torch.no_grad()
    def weights(self) -> None:
        """Set what is pruned to zero."""
        _multiply([(self._parameters[name], factor) for name, factor in self._factors.items()])

    @torch.no_grad()
    def gradients(self) -> None:
        """The gradients of the masked model: without this, those of pruned weights count when gradients are clipped."""
        gradients = ((self._parameters[name].grad, factor) for name, factor in self._factors.items())
        _multiply([(gradient, factor) for gradient, factor in gradients if gradient is not None])

    def broken(self) -> list[str]:
        """The parameters that are not zero where they must be."""
        found = ((name, self._parameters[name].detach(), mask) for name, mask in self.masks.items())
        return [name for name, parameter, mask in found if bool((parameter != 0).logical_and_(~mask).any())]


def packed(masks: Mapping[str, Tensor]) -> dict[str, NDArray[np.uint8]]:
    """A bit for each place, for a checkpoint."""
    return {name: np.packbits(mask.cpu().numpy()) for name, mask in masks.items()}


def unpacked(stored: Mapping[str, NDArray[np.uint8]], like: Mapping[str, Tensor]) -> Masks:
    """The inverse of `packed`, in the shapes and on the devices of `like`."""
    masks = {}
    for name, bits in stored.items():
        flat = np.unpackbits(np.asarray(bits), count=like[name].numel()).astype(np.bool_)
        masks[name] = torch.from_numpy(flat).view(like[name].shape).to(like[name].device)
    return masks


def _multiply(pairs: list[tuple[Tensor, Tensor]]) -> None:
    if pairs:
        values, factors = zip(*pairs, strict=True)
        torch._foreach_mul_(list(values), list(factors))
