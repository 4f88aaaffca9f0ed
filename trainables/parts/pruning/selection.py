"""What stays and what goes by scores: exact counts, and of equal scores the first stay.

What stays is True. Scores are finite; nothing here knows what they mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # exported models use this module, and do without raysweep
    from trainables.parts.pruning.settings import Scope

BLOCK = 4  # neighbours, of which two_of_four keeps 2


def share_of(count: int, share: float) -> int:
    """How many of `count` weights a share is: the nearest whole number, of two the even one."""
    return round(share * count)


def units_of(count: int, share: float) -> int:
    """How many of `count` units a share is, rounded down: 0.3 of 264 heads are 79."""
    return int(share * count + 1e-9)  # 0.29 * 100 is 28.999... in binary


def most_units(units: Iterable[int], least: int) -> int:
    """How many units can go from groups of these sizes if each keeps `least`."""
    return sum(max(0, size - least) for size in units)


def too_many(units: Sequence[int], share: float, scope: "Scope", least: int) -> str | None:
    """Why this share of the units of groups of these sizes cannot go; None if it can."""
    for sizes in [[size] for size in units] if scope == "layer" else [units]:
        gone, most = units_of(sum(sizes), share), most_units(sizes, least)
        if gone > most:
            return f"{share:g} of {sum(sizes)} are {gone}, but only {most} can go if every layer keeps {least}"
    return None


def keep_largest(scores: Tensor, pruned: int, allowed: Tensor | None = None) -> Tensor:
    """What stays when exactly `pruned` go, those with the least scores: bool, of the shape of `scores`.

    With `allowed`, also bool, only what it marks is counted, chosen from and kept: all else is False.
    """
    if allowed is None:
        return _largest(scores.flatten(), pruned).view(scores.shape)
    kept = allowed.clone()
    kept[allowed] = _largest(scores[allowed], pruned)
    return kept


def keep_weights(
    scores: Mapping[str, Tensor], share: float, scope: "Scope", allowed: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """What stays of matrices when a share goes: of each one, or of all together.

    With `allowed`, the share is one of what it marks, and all else is False.
    """
    kept: dict[str, Tensor] = {}
    for names in _together(scores, scope):
        marked = None if allowed is None else _joined(allowed, names)
        joined = _joined(scores, names)
        count = len(joined) if marked is None else int(marked.count_nonzero())
        kept |= _apart(keep_largest(joined, share_of(count, share), marked), scores, names)
    return kept


def keep_units(scores: Mapping[str, Tensor], share: float, scope: "Scope", least: int = 1) -> dict[str, Tensor]:
    """What stays of groups of units, by name, [units] each, when a share goes: of each one, or of all together.

    Each group keeps its best `least`; in one ranking of all, the next ones go instead. Raises ValueError where that
    leaves too few.
    """
    assert least >= 1, least
    if problem := too_many([len(units) for units in scores.values()], share, scope, least):
        raise ValueError(problem)
    best = {name: keep_largest(units, max(0, len(units) - least)) for name, units in scores.items()}
    kept: dict[str, Tensor] = {}
    for names in _together(scores, scope):
        joined, safe = _joined(scores, names), _joined(best, names)
        kept |= _apart(safe | keep_largest(joined, units_of(len(joined), share), ~safe), scores, names)
    return kept


def two_of_four(scores: Tensor, inputs: int) -> Tensor:
    """What stays of a matrix when, of each 4 neighbours along the axis of its inputs, the 2 largest do.

    Raises ValueError if the inputs are no multiple of 4.
    """
    moved = scores.movedim(inputs, -1)
    if moved.shape[-1] % BLOCK:
        raise ValueError(f"{moved.shape[-1]} inputs are no multiple of {BLOCK}")
    assert _finite(scores)
    one, two, three, four = (moved[..., place::BLOCK] for place in range(BLOCK))
    # Whoever beats two of the three others stays; the first beats its equals.
    against = one >= two, one >= three, one >= four, two >= three, two >= four, three >= four
    kept = [
        _two_of_three(against[0], against[1], against[2]),
        _two_of_three(~against[0], against[3], against[4]),
        _two_of_three(~against[1], ~against[3], against[5]),
        _two_of_three(~against[2], ~against[4], ~against[5]),
    ]
    return torch.stack(kept, dim=-1).flatten(-2).movedim(-1, inputs).contiguous()


def exchange(kept: Tensor, scores: Tensor, growth: Tensor, count: int) -> Tensor:
    """What stays when the `count` least of what was kept go, and as many come back, those with the largest growth.

    What goes does not come back at once. Fewer are exchanged where fewer are kept, or gone.
    """
    gone = ~kept
    missing = int(gone.count_nonzero())
    count = min(count, missing, kept.numel() - missing)
    return keep_largest(scores, count, kept) | keep_largest(growth, missing - count, gone)


def _largest(scores: Tensor, pruned: int) -> Tensor:
    """[n] -> bool [n]. Selects the largest that goes, and sorts nothing: models have 10^8 weights."""
    assert 0 <= pruned <= len(scores), f"{pruned} of {len(scores)}"
    assert _finite(scores)
    if pruned == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    last = scores.kthvalue(pruned).values
    kept = scores > last
    missing = len(scores) - pruned - int(kept.count_nonzero())
    kept[(scores == last).nonzero().flatten()[:missing]] = True
    return kept


def _finite(scores: Tensor) -> bool:
    """One pass without a copy; NaN is its own least and largest."""
    return scores.numel() == 0 or all(bool(end.isfinite()) for end in scores.aminmax())


def _two_of_three(one: Tensor, two: Tensor, three: Tensor) -> Tensor:
    return (one & two) | (three & (one | two))


def _together(scores: Iterable[str], scope: "Scope") -> list[list[str]]:
    """The names that share one ranking."""
    return [[name] for name in scores] if scope == "layer" else [list(scores)]


def _joined(tensors: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    return torch.cat([tensors[name].flatten() for name in names])


def _apart(joined: Tensor, like: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """The inverse of `_joined`, in the shapes of `like`."""
    pieces = torch.split(joined, [like[name].numel() for name in names])
    return {name: piece.view(like[name].shape) for name, piece in zip(names, pieces, strict=True)}
