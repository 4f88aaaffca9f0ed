"""Walks the nested data of a space: groups, branches and dotted names all become flat settings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.space.domains import Domain, Fixed, Grid
from raysweep.space.expressions import Expression, parse_expression
from raysweep.space.form import Form, check_literal, is_domain, is_mistyped, read_branches, read_when, unknown_domain
from raysweep.space.grammar import read_domain
from raysweep.space.space import Constraint
from raysweep.validation import shown
from raysweep.yaml_file import KeyPath, Place, Spot

Chain = tuple[tuple[str, Any], ...]  # (path of a choice, branch taken), outermost first


@dataclass(frozen=True, slots=True)
class Found:
    """One setting as it stands in the file."""

    path: str
    domain: Domain | Fixed
    when: Expression | None
    chain: Chain
    spot: Spot

    @property
    def needs(self) -> set[str]:
        return {path for path, _ in self.chain} | (set(self.when.names) if self.when else set())


class Known(Protocol):
    """What a recipe knows of its settings, where the recipe is known."""

    def is_group(self, path: str) -> bool | None:
        """Whether a path is a group of settings, or one setting; None where it is neither."""

    def problems(self, found: Iterable[Found]) -> Iterator[Problem]:
        """Names and values that do not suit."""

    def literals(self, condition: Expression) -> Iterator[Problem]:
        """Texts that a condition compares a setting with in vain."""


class SpaceReader:
    """Walks the nested data; groups, branches and dotted names all become flat settings."""

    def __init__(self, place: Place, known: Known | None = None) -> None:
        self._place, self._known = place, known
        self.found: list[Found] = []
        self.failed: set[str] = set()  # settings with a problem: their names are no unknown names
        self.problems: list[Problem] = []

    def group(self, entries: Mapping[Any, Any], prefix: str, keys: KeyPath, chain: Chain) -> None:
        """Read a group of settings whose names continue `prefix`."""
        for key, value in entries.items():
            if not isinstance(key, str) or not all(key.split(".")):
                message = f"expected the name of a setting, found {shown(key)}"
                self.problems.append(self._place.problem((*keys, key), message))
                continue
            inner = value if isinstance(value, dict) else {}
            self._setting(Form(f"{prefix}{key}", inner, (*keys, key), self._place), value, chain)

    def constraints(self, entries: Sequence[Any]) -> list[Constraint]:
        """Read every constraint that can be read."""
        rules = []
        for index, entry in enumerate(entries):
            try:
                rules.append(read_constraint(entry, ("constraints", index), self._place))
            except UserError as error:
                self.problems += error.problems
        return rules

    def _setting(self, form: Form, value: Any, chain: Chain) -> None:
        try:
            if self._is_group(form, value):
                self.group(value, f"{form.path}.", form.keys, chain)
            elif not isinstance(value, dict):
                check_literal(value, form)
                self._add(form, Fixed(value), None, chain)
            elif is_domain(value):
                self._domain(form, chain)
            elif not value and self._known and self._known.is_group(form.path):
                raise form.error("no settings here", "a group has at least one of its settings, or is left out")
            else:
                raise unknown_domain(form)
        except UserError as error:
            self.failed.add(form.path)
            self.problems += error.problems

    def _is_group(self, form: Form, value: Any) -> bool:
        if not isinstance(value, dict) or not value or is_domain(value):
            return False
        group = self._known.is_group(form.path) if self._known else None
        return not is_mistyped(value) if group is None else group

    def _domain(self, form: Form, chain: Chain) -> None:
        try:
            self._add(form, *_read(form, chain), chain)
        finally:  # the branches of a choice are read although the choice itself has a problem
            for name, content, keys in read_branches(form):
                self._branch(form, name, content, keys, chain)

    def _branch(self, form: Form, name: Any, content: Any, keys: KeyPath, chain: Chain) -> None:
        if isinstance(content, dict):
            self.group(content, "", keys, (*chain, (form.path, name)))
        elif content is not None:
            message = f"the branch {shown(name)} takes settings, found {shown(content)}"
            self.problems.append(self._place.problem(keys, f"{form.path}: {message}", "{} for a branch without any"))

    def _add(self, form: Form, domain: Domain | Fixed, when: Expression | None, chain: Chain) -> None:
        self.found.append(Found(form.path, domain, when, chain, self._place.at(form.keys)))


def _read(form: Form, chain: Chain) -> tuple[Domain | Fixed, Expression | None]:
    """Domain and condition of a setting. Raises UserError with the problems of both."""
    problems: list[Problem] = []
    when, domain = None, None
    try:
        domain = read_domain(form)
    except UserError as error:
        problems += error.problems
    try:
        when = read_when(form)
    except UserError as error:
        problems += error.problems
    if isinstance(domain, Grid) and chain:
        message = "a grid cannot stand in a branch: it is crossed with every point"
        problems.append(form.problem(message, "take a choice"))
    if domain is None or problems:
        raise UserError(problems)
    return domain, when


def read_constraint(entry: Any, keys: KeyPath, place: Place) -> Constraint:
    """A constraint: a condition, `{if, then, why}` or `{not, why}`. Raises UserError."""
    if not isinstance(entry, dict):
        return Constraint(parse_expression(entry, place.at(keys)))
    names = entry.keys() - {"why"}
    why = entry.get("why")
    if names not in ({"if", "then"}, {"not"}) or not isinstance(why, (str, type(None))):
        unknown = sorted(str(name) for name in names - {"if", "then", "not"})
        hint = did_you_mean(unknown[0], ["if", "then", "not", "why"]) if unknown else None
        message = f"expected a condition, {{if, then, why}} or {{not, why}}, found {shown(entry)}"
        raise UserError([place.problem(keys, message, hint)])
    parts = {str(name): parse_expression(entry[name], place.at((*keys, name))) for name in entry if name != "why"}
    if "not" in parts:
        return Constraint(parts["not"], negated=True, why=why)
    return Constraint(parts["then"], parts["if"], why=why)
