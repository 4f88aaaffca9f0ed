"""A linear layer with dendrites, in plain torch: what a trained model is made of, not how it is grown."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
Structure = dict[str, dict[str, Any]]


class Dendrite(nn.Module):
    """a = act(branch(x) + sum_j skip[j] * a_j) over the `earlier` dendrites j of the same layer.

    branch is shaped as the layer itself; skip [earlier, out] and top [out] start at zero, so that a new dendrite
    changes nothing until it has learnt.
    """

    def __init__(self, core: nn.Linear, earlier: int) -> None:
        super().__init__()
        self.branch = copy.deepcopy(core).requires_grad_(True)
        self.top = nn.Parameter(core.weight.new_zeros(core.out_features))
        # None for the first dendrite: an empty parameter never gets a gradient, which DistributedDataParallel refuses
        self.skip = nn.Parameter(core.weight.new_zeros(earlier, core.out_features)) if earlier else None

    @torch.no_grad()
    def draw(self, scale: float, generator: torch.Generator) -> None:
        """Branch weights from normal(0, scale), drawn on the CPU: the same on every device."""
        for parameter in self.branch.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)

    def forward(self, x: Tensor, earlier: Sequence[Tensor], activation: str) -> Tensor:
        z: Tensor = self.branch(x)
        if self.skip is not None:
            for weight, signal in zip(self.skip.unbind(), earlier, strict=True):
                z = z + weight * signal
        return ACTIVATIONS[activation](z)


class DendriticLayer(nn.Module):
    """y = core(x) + sum_i top_i * a_i, with a_i the signal of dendrite i (see `Dendrite`).

    x [..., in] gives y [..., out]. Loading a state_dict makes as many dendrites as it holds. There is no `weight`:
    code that reads one would go past the dendrites, and fails instead.
    """

    def __init__(self, core: nn.Linear, activation: str = "sigmoid") -> None:
        super().__init__()
        assert activation in ACTIVATIONS, activation
        self.core, self.activation = core, activation
        self.dendrites = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.core(x)
        signals: list[Tensor] = []
        for dendrite in self.dendrites:
            assert isinstance(dendrite, Dendrite)
            signals.append(dendrite(x, signals, self.activation))
            y = y + dendrite.top * signals[-1]
        return y

    def grow(self, scale: float, generator: torch.Generator) -> None:
        """Add one dendrite; the output stays exactly as it was."""
        dendrite = Dendrite(self.core, len(self.dendrites))
        dendrite.draw(scale, generator)
        self.dendrites.append(dendrite)

    def resize(self, dendrites: int) -> None:
        """Drop the newest dendrites, or add blank ones to be filled, until there are `dendrites`."""
        del self.dendrites[dendrites:]
        while len(self.dendrites) < dendrites:
            self.dendrites.append(Dendrite(self.core, len(self.dendrites)))

    def freeze_old(self) -> None:
        """Train of each dendrite but the newest only its `top`."""
        for dendrite in self.dendrites[:-1]:
            dendrite.requires_grad_(False)
            dendrite.top.requires_grad_(True)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        found = (re.fullmatch(r"dendrites\.(\d+)\.top", key.removeprefix(prefix)) for key in state_dict)
        self.resize(max((int(match[1]) + 1 for match in found if match), default=0))
        super()._load_from_state_dict(state_dict, prefix, *args)


def wrap(model: nn.Module, layers: Sequence[str], activation: str) -> dict[str, DendriticLayer]:
    """Put a `DendriticLayer` around each named nn.Linear of `model`, in place; dotted names."""
    for name in layers:
        core = model.get_submodule(name)
        assert isinstance(core, nn.Linear), f"'{name}' is no linear layer but {type(core).__name__}"
        model.set_submodule(name, DendriticLayer(core, activation))
    return dendritic_layers(model)


def dendritic_layers(model: nn.Module) -> dict[str, DendriticLayer]:
    """The dendritic layers of `model`, by dotted name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, DendriticLayer)}


def structure(model: nn.Module) -> Structure:
    """What `rebuild` needs beside the weights; fit for JSON."""
    return {
        name: {"dendrites": len(layer.dendrites), "activation": layer.activation}
        for name, layer in dendritic_layers(model).items()
    }


def rebuild(model: nn.Module, structure: Structure) -> nn.Module:
    """Give a model built without dendrites, in place, the blank dendrites of `structure`; then load its state_dict."""
    for name, told in structure.items():
        wrap(model, [name], told["activation"])[name].resize(told["dendrites"])
    return model
