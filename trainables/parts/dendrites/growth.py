"""Growing dendrites while a model trains: one protocol, two backends (native, perforatedai)."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from torch import nn

from raysweep.problems import Problem, UserError
from raysweep.trial import State
from trainables.parts.dendrites.native import NativeGrowth
from trainables.parts.dendrites.plateau import Action
from trainables.parts.dendrites.settings import DendriteSettings

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


def kept(growth: Growth, state: State) -> nn.Module:
    """The model whose weights are kept in a growth's `state`, in plain torch and eval mode."""
    growth.restore(state)
    growth.rewind()
    return growth.plain().eval()


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
