"""Whether so much of a model can be pruned, before any trial trains."""

from collections.abc import Sequence

import torch

from raysweep.problems import Problem, UserError
from trainables.parts.pruning import selection
from trainables.parts.pruning.kept import least_of, without_pattern
from trainables.parts.pruning.masks import Masks
from trainables.parts.pruning.prunable import check_prunable
from trainables.parts.pruning.settings import UNITS, PruningSettings
from trainables.parts.pruning.units import Group, Matrix, groups_of, matrices_of
from trainables.parts.text_model import TextModel


def check_pruning(settings: PruningSettings, model: TextModel) -> list[Problem]:
    """Why this model cannot be pruned as set; empty if it can."""
    if not settings.on:
        return []
    try:
        check_prunable(model.encoder)
    except UserError as error:
        return error.problems
    groups, matrices = groups_of(model, model.encoder), matrices_of(model, model.encoder, settings.classifier)
    if not groups:
        return [
            Problem("pruning needs layers, but encoder.layers is 0", hint="give more, or set pruning.target to none")
        ]
    weights = {matrix.parameter: model.get_parameter(matrix.parameter) for matrix in matrices}
    found = [_too_many(settings, groups, kind) for kind in UNITS if kind in settings.targets]
    if "two_four" in settings.targets:
        whole = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
        found.append(_no_pattern(matrices, whole))
    if settings.importance == "movement" and not any(weight.requires_grad for weight in weights.values()):
        message = f"pruning.importance is movement, but all {len(weights)} matrices that can be pruned are frozen"
        found.append(Problem(message, hint="set encoder.freeze to none, or take another importance"))
    return [problem for problem in found if problem]


def _too_many(settings: PruningSettings, groups: Sequence[Group], kind: str) -> Problem | None:
    sizes = [group.units for group in groups if group.kind == kind]
    problem = selection.too_many(sizes, settings.sparsity, settings.scope, least_of(settings, kind))
    if problem is None:
        return None
    lower = "pruning.sparsity" + (" or pruning.min_heads" if kind == "heads" and settings.min_heads > 1 else "")
    return Problem(f"pruning.target has {kind}: {problem}", hint=f"lower {lower}")


def _no_pattern(matrices: Sequence[Matrix], whole: Masks) -> Problem | None:
    skipped = without_pattern(matrices, whole)
    if len(skipped) < len(matrices):
        return None
    inputs = ", ".join(str(number) for number in sorted(set(skipped.values())))
    message = f"pruning.target has two_four, but inputs of all {len(matrices)} matrices are no multiple of 4: {inputs}"
    return Problem(message, hint="set pruning.target to weights")
