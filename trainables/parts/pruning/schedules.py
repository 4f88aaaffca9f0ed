"""When what is pruned: its share at each training step of the stage that prunes, and the steps that choose anew.

Steps count from 0; the stage has `total` of them. `begin` and `end` are rounded to whole steps, and `end` to the
stage's last step at the latest, so that the model trains at least once with the final share.
"""

import math

from trainables.parts.pruning.settings import PruningSettings, ScheduleKind

SLOPE = 10.0  # of the logistic curve: before it is stretched, it goes from 0.7 % to 99.3 %


def span(settings: PruningSettings, total: int) -> tuple[int, int]:
    """The first and the last step at which the share may change."""
    latest = max(0, total - 1)
    return min(latest, round(settings.begin * total)), min(latest, round(settings.end * total))


def sparsity_at(settings: PruningSettings, step: int, total: int) -> float:
    """The share that is pruned at a step: 0 before the first, exactly `sparsity` from the last on."""
    first, last = span(settings, total)
    if step < first:
        return 0.0
    if step >= last or settings.schedule == "one_shot":
        return settings.sparsity
    if settings.schedule == "steps":
        risen = (step - first) * settings.steps // (last - first) / settings.steps
    else:
        risen = _risen(settings.schedule, (step - first) / (last - first))
    share = settings.initial_sparsity + (settings.sparsity - settings.initial_sparsity) * risen
    return min(share, settings.sparsity)  # rounding may carry the sum one bit too far


def due(settings: PruningSettings, step: int, total: int) -> bool:
    """Whether what is pruned is chosen anew at a step.

    That is every `every` steps from the first to the last, and at the last; without regrowth, one_shot chooses once
    and steps where a step begins.
    """
    first, last = span(settings, total)
    if not first <= step <= last:
        return False
    if settings.regrow == "none" and settings.schedule in ("one_shot", "steps"):
        return step == first or sparsity_at(settings, step, total) > sparsity_at(settings, step - 1, total)
    return step == last or (step - first) % settings.every == 0


def regrow_share_at(settings: PruningSettings, step: int, total: int) -> float:
    """The share of the kept weights that is exchanged at a step: falls as a cosine to 0 at the last one.

    RigL, Evci and others 2020, https://arxiv.org/abs/1911.11134.
    """
    first, last = span(settings, total)
    if settings.regrow == "none" or not first <= step < last:
        return 0.0
    return settings.regrow_share / 2 * (1 + math.cos(math.pi * (step - first) / (last - first)))


def _risen(kind: ScheduleKind, progress: float) -> float:
    """How much of the rise is done, 0 to 1, at a progress of 0 to 1 between the first and the last step.

    cubic: Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878. sigmoid: a logistic curve, stretched to reach 0 and 1.
    """
    if kind == "cubic":
        left = 1 - progress
        return 1 - left * left * left
    if kind == "sigmoid":
        return (1 + math.tanh(SLOPE / 2 * (progress - 0.5)) / math.tanh(SLOPE / 4)) / 2
    assert kind == "linear", kind
    return progress
