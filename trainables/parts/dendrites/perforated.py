"""Growing dendrites with the package perforatedai, behind the same protocol as the native backend.

Only the named layers are handed to the package. The rest of the model is kept and put back here, together with them.
"""

import copy
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from raysweep.trial import State
from trainables.parts.dendrites.layer import DendriticLayer
from trainables.parts.dendrites.native import snapshot
from trainables.parts.dendrites.plateau import Action
from trainables.parts.dendrites.session import Session
from trainables.parts.dendrites.settings import DendriteSettings
from trainables.parts.state import arrays, tensors


class PerforatedLayer(nn.Module):
    """A layer that perforatedai has wrapped. It takes x [..., in]; the package itself only sees [rows, in]."""

    def __init__(self, session: Session, inner: nn.Module) -> None:
        super().__init__()
        self.session, self.inner = session, inner

    def forward(self, x: Tensor) -> Tensor:
        self.session.install()
        y: Tensor = self.inner(x.reshape(-1, x.shape[-1]))
        return y.reshape(*x.shape[:-1], -1)


class PerforatedGrowth:
    """Growth as perforatedai decides it, which differs from the native backend in three ways.

    The first score of all, and the first after each growth, is never the best. A growth that helps only at its second
    try leaves the next one a try less. A relative threshold is a share of the new score.
    """

    def __init__(
        self, settings: DendriteSettings, model: nn.Module, layers: Sequence[str], seed: int, folder: Path
    ) -> None:
        self._settings, self._model, self._names = settings, model, list(layers)
        self._wrapped = tuple(f"{name}." for name in layers)  # how names of wrapped parameters start
        cores = [model.get_submodule(name) for name in layers]
        assert all(isinstance(core, nn.Linear) for core in cores), f"not all of {layers} are linear layers"
        self._session = Session(settings, cores, seed, folder)  # type: ignore[arg-type]
        for name, module in zip(layers, self._session.modules, strict=True):
            model.set_submodule(name, PerforatedLayer(self._session, module))
        self._best_rest: dict[str, Tensor] | None = None
        self._best: float | None = None
        self._best_file = b""

    @property
    def dendrites(self) -> int:
        return max(int(module.dendrite_modules_added) for module in self._session.modules)

    @property
    def best(self) -> float | None:
        return self._best

    def report(self, score: float) -> Action:
        changed, done = self._session.report(score)
        if (best := self._session.best_file.read_bytes()) != self._best_file:  # it holds the step: never written twice
            self._best_file, self._best_rest = best, self._rest()
            self._best = score if math.isfinite(score) else None  # it keeps the first model whatever its score
        if changed or done:
            assert self._best_rest is not None  # it takes the first model for the best until there is a better one
            self._load_rest(self._best_rest)
        return "done" if done else "grown" if changed else "go on"

    def rewind(self) -> None:
        if self._best_rest is not None:
            self._session.rewind()
            self._load_rest(self._best_rest)

    def parameters(self) -> int:
        named = self._model.named_parameters()
        rest = sum(parameter.numel() for name, parameter in named if not name.startswith(self._wrapped))
        return rest + sum(parameter.numel() for layer in self._plain_layers() for parameter in layer.parameters())

    def added(self) -> frozenset[str]:
        return self._of_dendrites(range(self.dendrites))

    def newest(self) -> frozenset[str]:
        return self._of_dendrites(range(self.dendrites - 1, self.dendrites))

    def state(self) -> State:
        weights = {"rest": arrays(self._rest()), "best_rest": arrays(self._best_rest)}
        return {"session": self._session.state(), "best": self._best, **weights}

    def restore(self, state: State) -> None:
        self._session.restore(state["session"])
        self._best_file = self._session.best_file.read_bytes() if self._session.best_file.exists() else b""
        self._best_rest, self._best = tensors(state["best_rest"]), state["best"]
        self._load_rest(tensors(state["rest"]))

    def plain(self) -> nn.Module:
        memo: dict[int, Any] = {
            id(self._model.get_submodule(name)): layer
            for name, layer in zip(self._names, self._plain_layers(), strict=True)
        }
        return copy.deepcopy(self._model, memo)  # the memo puts the plain layers in place of the wrapped ones

    def _plain_layers(self) -> list[nn.Module]:
        return [plain_layer(module, self._settings.activation) for module in self._session.modules]

    def _of_dendrites(self, indices: range) -> frozenset[str]:
        """Names of what the dendrites `indices` add to the output."""
        part = re.compile(r"\.inner\.dendrite_module\.(?:layers|dendrites_to_dendrites)\.(\d+)(?:\.|$)")
        top = f".inner.dendrites_to_top.{self.dendrites - 1}"  # the newest holds a row for each dendrite
        return frozenset(
            name
            for name, parameter in self._model.named_parameters()
            if name.endswith(top) or ((match := part.search(name)) and parameter.numel() and int(match[1]) in indices)
        )

    def _rest(self) -> dict[str, Tensor]:
        return {name: value for name, value in snapshot(self._model).items() if not name.startswith(self._wrapped)}

    def _load_rest(self, rest: dict[str, Tensor]) -> None:
        missing, unexpected = self._model.load_state_dict(rest, strict=False)
        assert not unexpected
        assert all(name.startswith(self._wrapped) for name in missing), missing


def plain_layer(module: Any, activation: str) -> nn.Linear | DendriticLayer:
    """A copy in plain torch of a layer that perforatedai has wrapped; nn.Linear if it has no dendrites."""
    core: nn.Linear = copy.deepcopy(module.main_module)
    dendrites, inner = module.dendrite_modules_added, module.dendrite_module
    if not dendrites:
        return core
    layer = DendriticLayer(core, activation)
    weights = {f"core.{name}": value for name, value in core.state_dict().items()}
    for index in range(dendrites):
        for name, value in inner.layers[index].state_dict().items():
            weights[f"dendrites.{index}.branch.{name}"] = value
        weights[f"dendrites.{index}.top"] = module.dendrites_to_top[dendrites - 1][index]
        if index:
            weights[f"dendrites.{index}.skip"] = inner.dendrites_to_dendrites[index]
    layer.load_state_dict(weights)
    return layer
