"""Gates on heads and neurons that learn while training whether to stay open: the hard concrete distribution.

Louizos, Welling and Kingma 2018, https://arxiv.org/abs/1712.01312.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.parts import optim
from trainables.parts.pruning.settings import PruningSettings
from trainables.parts.pruning.units import Group, Part
from trainables.parts.state import arrays, tensors

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1  # temperature and limits before clamping, as in the paper
START = 2.5  # of log_alpha: just above log(11), where the deterministic gate is 1


def sample(log_alpha: Tensor) -> Tensor:
    """Gates in [0, 1] as they are drawn while training, from torch's own generator."""
    noise = torch.logit(torch.rand_like(log_alpha))
    return _stretched(torch.sigmoid((noise + log_alpha) / BETA))


def value(log_alpha: Tensor) -> Tensor:
    """Gates in [0, 1] without noise, for a model that does not train."""
    return _stretched(torch.sigmoid(log_alpha))


def open_chance(log_alpha: Tensor) -> Tensor:
    """The chance that a drawn gate is above 0."""
    return torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))


def _stretched(concrete: Tensor) -> Tensor:
    return (concrete * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


class Gates:
    """A gate for each unit of groups, on the input of the matrix that consumes them, and what trains the gates.

    They are none of the model's parameters. While the model trains, each forward pass draws them anew.
    """

    def __init__(self, settings: PruningSettings, model: nn.Module, groups: Iterable[Group]) -> None:
        self.settings, self.model, self.groups = settings, model, tuple(groups)
        self.log_alpha: dict[str, nn.Parameter] = {}
        self._hooks = []
        for group in self.groups:
            module, part = self._consumer(group)
            start = torch.full((group.units,), START, device=module.weight.device)
            self.log_alpha[group.name] = nn.Parameter(start)
            hook = _gate(self.log_alpha[group.name], _owners(part).to(start.device))
            self._hooks.append(module.register_forward_pre_hook(hook))
        self._optimizer = torch.optim.Adam(list(self.log_alpha.items()), lr=settings.gate_lr, fused=True)

    def penalty(self, share: float) -> Tensor:
        """The expected share of open gates beyond 1 - `share`, times gate_penalty.

        That of each group where each loses its share; else that of all heads, and of all neurons: the mean of these.
        """
        chances: dict[str, list[Tensor]] = {}
        for group in self.groups:
            together = group.name if self.settings.scope == "layer" else group.kind
            chances.setdefault(together, []).append(open_chance(self.log_alpha[group.name]))
        beyond = [torch.relu(torch.cat(each).mean() - (1 - share)) for each in chances.values()]
        return self.settings.gate_penalty * torch.stack(beyond).mean()

    def scores(self) -> dict[str, Tensor]:
        """What ranks units, by name of group: log alpha [units]."""
        return {name: log_alpha.detach().clone() for name, log_alpha in self.log_alpha.items()}

    def step(self) -> None:
        """Train the gates by the gradients that they got since the last step."""
        self._optimizer.step()
        self._optimizer.zero_grad()

    @torch.no_grad()
    def fold(self, kept: Mapping[str, Tensor]) -> None:
        """Multiply the weights that consume kept units, bool [units] by name of group, by their gates; then `remove`.

        A kept unit whose gate is shut gets weights of zero.
        """
        for group in self.groups:
            module, part = self._consumer(group)
            gates = value(self.log_alpha[group.name]).where(kept[group.name].to(module.weight.device), 1.0)
            shape = [-1 if axis == part.axis else 1 for axis in range(module.weight.ndim)]
            module.weight.mul_(gates[_owners(part).to(gates.device)].view(shape))
        self.remove()

    def remove(self) -> None:
        """Let the model run without gates again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def state(self) -> dict[str, Any]:
        return {"log_alpha": arrays(self.scores()), "optimizer": optim.state(self._optimizer)}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        for name, log_alpha in tensors(state["log_alpha"]).items():
            self.log_alpha[name].copy_(log_alpha)
        optim.restore(self._optimizer, state["optimizer"])

    def _consumer(self, group: Group) -> tuple[Any, Part]:
        """The module whose input the units are, and where they lie in its weight."""
        (part,) = [part for part in group.parts if part.consumes]
        return self.model.get_submodule(part.parameter.removesuffix(".weight")), part


def _owners(part: Part) -> Tensor:
    """The unit at each place of an axis, int64 [units * k]."""
    units, size = part.places.shape
    owners = torch.empty(units * size, dtype=torch.int64)
    owners[part.places.flatten()] = torch.arange(units).repeat_interleave(size)
    return owners


def _gate(log_alpha: Tensor, owners: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A hook that multiplies a module's input [..., places] by the gates of its units."""

    def multiply(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        gates = sample(log_alpha) if module.training else value(log_alpha)
        return (inputs[0] * gates[owners].to(inputs[0].dtype), *inputs[1:])

    return multiply
