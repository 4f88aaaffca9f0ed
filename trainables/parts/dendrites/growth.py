"""Growing dendrites while a model trains: one protocol, two backends. This file holds the native one."""

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from raysweep.problems import Problem, UserError
from raysweep.trial import State
from trainables.parts.dendrites.layer import wrap
from trainables.parts.dendrites.plateau import Plateau
from trainables.parts.dendrites.settings import DendriteSettings
from trainables.parts.state import arrays, tensors

Action = Literal["go on", "grown", "done"]
PERFORATEDAI_NEEDS = ("perforatedai", "cryptography", "matplotlib", "pandas", "requests", "safetensors", "yaml")


class Growth(Protocol):
    """A model whose named layers grow dendrites. "The model" is the whole one, with every parameter and buffer."""

    @property
    def dendrites(self) -> int:
        """Dendrites that each layer has now."""

    @property
    def best(self) -> float | None:
        """The score of the weights that are kept as the best."""

    def report(self, score: float) -> Action:
        """Take the score (to be maximised) of the model as it is.

        After "grown" the model is back at its best weights with a new dendrite in each layer. After "done" it is back
        at its best weights, and there is nothing more to report. Both leave an older optimizer out of date.
        """

    def rewind(self) -> None:
        """At the end of training: put the model back at its best weights and structure.

        It stays as it is if no score was the best yet.
        """

    def parameters(self) -> int:
        """Parameters of the model that take part in its output."""

    def added(self) -> frozenset[str]:
        """Names of the parameters that belong to dendrites."""

    def newest(self) -> frozenset[str]:
        """Names of the parameters that the last growth made."""

    def state(self) -> State:
        """Everything that `restore` needs: weights now, weights at best, scores."""

    def restore(self, state: State) -> None:
        """Go on from `state`: the model gets its structure and weights. Make the optimizer afterwards."""

    def plain(self) -> nn.Module:
        """A copy of the model in plain torch: `DendriticLayer` where there are dendrites, nn.Linear where not."""


def check(settings: DendriteSettings) -> list[Problem]:
    """What keeps this machine from growing dendrites as set; nothing is imported to find out."""
    if not settings.enabled or settings.backend == "native":
        return []
    found = []
    if missing := [module for module in PERFORATEDAI_NEEDS if find_spec(module) is None]:
        message = f"dendrites.backend is perforatedai, but {', '.join(missing)} cannot be imported"
        install = "pip install --no-deps perforatedai && pip install 'raysweep[perforatedai]'"
        found.append(Problem(message, hint=f"{install}, or use backend native"))
    if find_spec("perforatedbp"):
        message = (
            "perforatedbp is installed: it turns on a method that asks for a licence, and waits for an e-mail address"
        )
        found.append(Problem(message, hint="pip uninstall perforatedbp, or use backend native"))
    return found


def start_growth(
    settings: DendriteSettings, model: nn.Module, layers: Sequence[str], seed: int, folder: Path
) -> Growth:
    """Let the nn.Linear layers of these dotted names grow dendrites, in place; call it on the model's device.

    With `enabled` off nothing grows and "done" never comes, but the best weights are kept for `rewind`: a baseline is
    chosen by the same rule. `folder` is for files that perforatedai needs while it runs. Raises UserError if the
    backend cannot be used.
    """
    if found := check(settings):
        raise UserError(found)
    if settings.enabled and settings.backend == "perforatedai":
        from trainables.parts.dendrites.perforated import PerforatedGrowth

        return PerforatedGrowth(settings, model, layers, seed, folder)
    return NativeGrowth(settings, model, layers if settings.enabled else (), seed)


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
