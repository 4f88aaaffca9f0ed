"""Dotted names in which a star stands for any one name: `tasks.*.weight` of settings, `select.*.score` of metrics."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raysweep.problems import did_you_mean, nearest


class Fit(NamedTuple):
    """The pattern that a name fits, and what the name has in place of its stars."""

    pattern: str
    names: tuple[str, ...]


def fit(patterns: Iterable[str], name: str) -> Fit | None:
    """The pattern with the fewest stars that a name fits, if any. No star stands for a star, a dot, or nothing."""
    fits = (Fit(pattern, names) for pattern in patterns if (names := _names(pattern, name)) is not None)
    return min(fits, key=lambda found: len(found.names), default=None)


def suggested(name: str, patterns: Sequence[str]) -> str | None:
    """A hint for a name that fits none of these: the nearest one, with the name's own parts in place of stars."""
    if fit(patterns, name.replace("*", "any")):
        return "put a name in place of the star"
    near = nearest(name, [_filled(pattern, name) for pattern in patterns])
    return f"did you mean '{near}'?" if near else did_you_mean(name, patterns)


def _names(pattern: str, name: str) -> tuple[str, ...] | None:
    wanted, parts = pattern.split("."), name.split(".")
    if len(wanted) != len(parts) or not all(parts) or "*" in parts:
        return None
    pairs = list(zip(wanted, parts, strict=True))
    if any(want not in ("*", part) for want, part in pairs):
        return None
    return tuple(part for want, part in pairs if want == "*")


def _filled(pattern: str, name: str) -> str:
    """The pattern with the name's parts for its stars; a last part that more should follow is no such name."""
    wanted, parts = pattern.split("."), name.split(".")
    usable = parts if len(parts) == len(wanted) else parts[:-1]
    return ".".join(usable[at] if want == "*" and at < len(usable) else want for at, want in enumerate(wanted))
