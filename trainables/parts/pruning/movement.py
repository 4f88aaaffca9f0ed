"""Movement pruning: what training draws towards zero goes, and comes back if the gradient asks for it.

Sanh, Wolf and Rush 2020, https://arxiv.org/abs/2005.07683.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.parts.pruning.importance import Scores, unit_sums
from trainables.parts.pruning.units import Group
from trainables.parts.state import arrays, tensors


class Movement:
    """Scores that add up while training, and the values that masked weights would have, so that they can come back."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        self._dormant = {name: torch.zeros_like(parameter).detach() for name, parameter in parameters.items()}
        self.scores: Scores = {
            name: torch.zeros_like(self._dormant[name]) for name in parameters if parameters[name].ndim > 1
        }

    @torch.no_grad()
    def add(self) -> None:
        """Take the gradients of one step: scores lose gradient * weight.

        The gradient is that of the masked model and goes straight through the mask; a masked weight counts with its
        dormant value. Frozen weights do not move.
        """
        for name, scores in self.scores.items():
            parameter = self._parameters[name]
            if parameter.grad is not None:
                for values in (parameter, self._dormant[name]):  # one of them is zero
                    scores.addcmul_(parameter.grad, values, value=-1)

    @torch.no_grad()
    def change(self, masks: Mapping[str, Tensor]) -> None:
        """Put to sleep what these masks prune, and wake all else with the value that it had."""
        for name, mask in masks.items():
            parameter, dormant = self._parameters[name], self._dormant[name]
            value = parameter + dormant
            parameter.copy_(torch.where(mask, value, 0))
            dormant.copy_(torch.where(mask, 0, value))

    def unit_scores(self, groups: Iterable[Group]) -> Scores:
        """[units] by the name of the group: the sum of all their weights' scores."""
        return unit_sums(groups, self.scores)

    def state(self) -> dict[str, Any]:
        return {"scores": arrays(self.scores), "dormant": arrays(self._dormant)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        for mine, stored in ((self.scores, state["scores"]), (self._dormant, state["dormant"])):
            for name, values in tensors(stored).items():
                mine[name].copy_(values)
