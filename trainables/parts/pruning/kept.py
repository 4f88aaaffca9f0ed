"""What stays of a model: units and single weights, exactly as many as a share of each target leaves.

Units go first; single weights are a share of those in units that stay.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from raysweep.trial import State
from trainables.parts.pruning import selection
from trainables.parts.pruning.importance import Scores
from trainables.parts.pruning.masks import Masks, both, packed, unit_masks, unpacked
from trainables.parts.pruning.settings import PruningSettings
from trainables.parts.pruning.units import Group, Matrix


class Kept:
    """Units and weights that stay, of the targeted `groups` and `matrices`; all of them at first."""

    def __init__(
        self,
        settings: PruningSettings,
        groups: Sequence[Group],
        matrices: Sequence[Matrix],
        parameters: Mapping[str, Tensor],
    ) -> None:
        self._settings, self._groups, self._matrices = settings, groups, matrices
        self._parameters = parameters
        self.share: float | None = None  # that is pruned now
        self.units: Masks = {}  # [units] by name of group
        self.weights: Masks = {}  # by name of matrix, all False in units that are pruned

    def choose_units(self, scores: Scores, share: float) -> None:
        """Let those with the least scores go; each kind is ranked by itself."""
        for kind in {group.kind: None for group in self._groups}:
            ranked = {group.name: scores[group.name] for group in self._groups if group.kind == kind}
            self.units |= selection.keep_units(ranked, share, self._settings.scope, least_of(self._settings, kind))

    def choose_weights(self, scores: Scores, share: float) -> None:
        """Let single weights with the least scores go, of those in units that stay.

        The count is exact, so where units that go held few pruned weights, some of the others come back, at zero.
        """
        if "two_four" in self._settings.targets:
            self.weights = self._patterned(scores)
        else:
            allowed = self._allowed() if self.units else None  # all of them
            self.weights = selection.keep_weights(scores, share, self._settings.scope, allowed)

    def exchange(self, scores: Scores, growth: Scores, share: float) -> None:
        """Let a share of each matrix's kept weights go for as many pruned ones, those with the largest `growth`."""
        for name, grown in growth.items():
            count = selection.share_of(int(self.weights[name].count_nonzero()), share)
            self.weights[name] = selection.exchange(self.weights[name], scores[name], grown, count)

    def masks(self) -> Masks:
        """By the name of the parameter, biases of units too; without what stays whole."""
        return both(unit_masks(self._groups, self.units, self._parameters), self.weights)

    def skipped(self) -> dict[str, int]:
        """Matrices that two_four leaves whole, and how many inputs are left of them: no multiple of 4."""
        return without_pattern(self._matrices, self._allowed()) if "two_four" in self._settings.targets else {}

    def check(self) -> None:
        """Raises AssertionError if not exactly as many are pruned as must be."""
        kinds: dict[str, list[int]] = {}
        for group in self._groups:
            kinds.setdefault(group.kind, []).append(group.units)
        units = sum(self._count(sizes, selection.units_of) for sizes in kinds.values())
        gone = sum(int((~kept).count_nonzero()) for kept in self.units.values())
        assert gone == units, f"{gone} units are pruned, not {units}"
        skipped = self.skipped()
        allowed = {name: int(mask.count_nonzero()) for name, mask in self._allowed().items() if name not in skipped}
        weights = self._count(list(allowed.values()), selection.share_of)
        gone = sum(allowed[name] - int(kept.count_nonzero()) for name, kept in self.weights.items())
        assert gone == weights, f"{gone} single weights are pruned, not {weights}"

    def state(self) -> State:
        return {"share": self.share, "units": packed(self.units), "weights": packed(self.weights)}

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        device = next(iter(self._parameters.values())).device
        blank = {group.name: torch.empty(group.units, device=device) for group in self._groups}
        self.share, self.units = state["share"], unpacked(state["units"], blank)
        self.weights = unpacked(state["weights"], self._parameters)

    def _count(self, sizes: list[int], counted: Callable[[int, float], int]) -> int:
        """How many go of groups, or matrices, of these sizes."""
        ranked = sizes if self._settings.scope == "layer" else [sum(sizes)]
        return sum(counted(size, self.share or 0.0) for size in ranked)

    def _allowed(self) -> Masks:
        """The weights that are in no pruned unit, by matrix."""
        masks = unit_masks(self._groups, self.units, self._parameters)
        names = [matrix.parameter for matrix in self._matrices]
        return {name: masks.get(name, torch.ones_like(self._parameters[name], dtype=torch.bool)) for name in names}

    def _patterned(self, scores: Scores) -> Masks:
        """Two of four neighbours stay in every matrix that can have the pattern.

        It is the pattern of the smaller matrix, which is left when pruned units are taken out.
        """
        allowed, skipped = self._allowed(), self.skipped()
        chosen = [matrix for matrix in self._matrices if matrix.parameter not in skipped]
        return {
            each.parameter: _two_of_four(scores[each.parameter], each.inputs, allowed[each.parameter])
            for each in chosen
        }


def least_of(settings: PruningSettings, kind: str) -> int:
    """How many units of a kind each layer keeps."""
    return settings.min_heads if kind == "heads" else 1


def without_pattern(matrices: Iterable[Matrix], allowed: Mapping[str, Tensor]) -> dict[str, int]:
    """Matrices that cannot have the pattern two of four, and their number of inputs, which is no multiple of 4."""
    counts = {matrix.parameter: len(_inputs_left(matrix.inputs, allowed[matrix.parameter])) for matrix in matrices}
    return {name: count for name, count in counts.items() if count % selection.BLOCK}


def _two_of_four(scores: Tensor, inputs: int, allowed: Tensor) -> Tensor:
    left = _inputs_left(inputs, allowed)
    kept = torch.zeros_like(allowed)
    kept.index_copy_(inputs, left, selection.two_of_four(scores.index_select(inputs, left), inputs))
    return kept & allowed


def _inputs_left(inputs: int, allowed: Tensor) -> Tensor:
    """Places along the axis of a matrix's inputs that are not all pruned."""
    return allowed.any(dim=1 - inputs).nonzero().flatten()
