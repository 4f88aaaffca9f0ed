"""Growth in plain torch, the default: dendrites learn together with the layer that they belong to."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from raysweep.trial import State
from trainables.parts.dendrites.layer import wrap
from trainables.parts.dendrites.plateau import Action, Plateau
from trainables.parts.dendrites.settings import DendriteSettings
from trainables.parts.state import arrays, tensors


class NativeGrowth:
    """Growth in plain torch, without globals and files. New dendrites depend on `seed` and the step only."""

    def __init__(self, settings: DendriteSettings, model: nn.Module, layers: Sequence[str], seed: int) -> None:
        self._settings, self._model, self._seed = settings, model, seed
        self._layers = wrap(model, layers, settings.activation)
        self._plateau = Plateau(settings)
        self._best: dict[str, Tensor] | None = None  # on the CPU

    @property
    def dendrites(self) -> int:
        return max((len(layer.dendrites) for layer in self._layers.values()), default=0)

    @property
    def best(self) -> float | None:
        return self._plateau.best

    def report(self, score: float) -> Action:
        best, action = self._plateau.report(score)
        if best:
            self._best = snapshot(self._model)
        if action == "go on":
            return "go on"
        self._load(self._best)
        if action == "done":
            return "done"
        self._grow()
        return "grown"

    def rewind(self) -> None:
        if self._best is not None:
            self._load(self._best)
            self._plateau.dendrites = self._plateau.best_dendrites

    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._model.parameters())

    def added(self) -> frozenset[str]:
        return self._names(0)

    def newest(self) -> frozenset[str]:
        return self._names(self.dendrites - 1)

    def state(self) -> State:
        return {
            "plateau": self._plateau.state(),
            "model": arrays(self._model.state_dict()),
            "best": arrays(self._best),
        }

    def restore(self, state: State) -> None:
        self._plateau.restore(state["plateau"])
        self._best = tensors(state["best"])
        self._load(tensors(state["model"]))

    def plain(self) -> nn.Module:
        bare = {id(layer): copy.deepcopy(layer.core) for layer in self._layers.values() if not layer.dendrites}
        return copy.deepcopy(self._model, bare)  # the memo puts the bare layers in place of the wrapped ones

    def _grow(self) -> None:
        generator = generator_for(self._seed, self._plateau.reports)
        for layer in self._layers.values():
            layer.grow(self._settings.init_scale, generator)
        self._freeze()

    def _load(self, weights: dict[str, Tensor] | None) -> None:
        assert weights is not None
        self._model.load_state_dict(weights)
        self._freeze()

    def _freeze(self) -> None:
        if self._settings.freeze_old:
            for layer in self._layers.values():
                layer.freeze_old()

    def _names(self, first: int) -> frozenset[str]:
        return frozenset(
            f"{name}.dendrites.{index}.{inner}"
            for name, layer in self._layers.items()
            for index, dendrite in enumerate(layer.dendrites)
            if index >= first
            for inner, _ in dendrite.named_parameters()
        )


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy on the CPU of every parameter and buffer that a state_dict holds."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def generator_for(seed: int, step: int) -> torch.Generator:
    """A generator that depends on both numbers and on nothing else."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))
