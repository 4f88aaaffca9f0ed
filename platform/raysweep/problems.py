"""Mistakes of users: what was expected, what was found, where, and what to do. Never a traceback."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake; `file` and `line` (from 1) say where, `hint` what to do."""

    message: str
    file: str | None = None
    line: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.message}" + (f" ({self.hint})" if self.hint else "")


class UserError(Exception):
    """The user's input cannot be used; carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = [Problem(problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that a word was meant as, if one is near."""
    return next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Sequence[str]) -> str | None:
    """A hint that names the nearest known word, or lists the known words when none is near and they are few."""
    if near := nearest(word, known):
        return f"did you mean '{near}'?"
    return f"known: {', '.join(sorted(known))}" if 0 < len(known) <= 12 else None
