"""From the `space:` and `constraints:` of a file to a `Space`; every problem is found before any is told."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.space.domains import Domain, Fixed, Grid
from raysweep.space.expressions import Expression, parse_expression
from raysweep.space.grammar import (
    Form,
    check_literal,
    is_domain,
    is_mistyped,
    read_branches,
    read_domain,
    read_when,
    unknown_domain,
)
from raysweep.space.space import Constraint, Dimension, Space
from raysweep.validation import shown
from raysweep.yaml_file import KeyPath, Place, Spot

Chain = tuple[tuple[str, Any], ...]  # (path of a choice, branch taken), outermost first


class Known(Protocol):
    """The settings that a recipe has, where the recipe is known."""

    @property
    def leaves(self) -> Sequence[str]: ...

    @property
    def groups(self) -> Sequence[str]: ...


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


def compile_space(
    space: Mapping[Any, Any], constraints: Sequence[Any], place: Place, known: Known | None = None
) -> Space:
    """The space of a file with these top-level `space` and `constraints`. Raises UserError with all problems."""
    reader = SpaceReader(place, known)
    reader.group(space, "", ("space",), ())
    rules = reader.constraints(constraints)
    problems = reader.problems + _conflicts(reader.found)
    paths = {found.path for found in reader.found} | reader.failed
    conditions = [found.when for found in reader.found if found.when]
    conditions += [expression for rule in rules for expression in rule.expressions()]
    problems += [problem for condition in conditions for problem in _unknown_names(condition, paths)]
    ranks = _ranks(reader.found, problems)
    if problems:
        raise UserError(problems)
    ordered = sorted(_named(reader.found), key=lambda setting: ranks[setting.path])
    return Space(tuple(ordered), tuple(rules), tuple(dict.fromkeys(found.path for found in reader.found)))


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
            else:
                raise (
                    unknown_domain(form) if value else form.error("no settings here", "{value: {}} is an empty mapping")
                )
        except UserError as error:
            self.failed.add(form.path)
            self.problems += error.problems

    def _is_group(self, form: Form, value: Any) -> bool:
        if not isinstance(value, dict) or not value or is_domain(value):
            return False
        if self._known is not None and form.path in (*self._known.leaves, *self._known.groups):
            return form.path in self._known.groups
        return not is_mistyped(value)

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
        problems.append(
            form.problem("a grid cannot stand in a branch: it is crossed with every point", "take a choice")
        )
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


def _conflicts(found: Sequence[Found]) -> list[Problem]:
    """Settings that stand twice, but for those in different branches of one choice."""
    problems: list[Problem] = []
    seen: dict[str, list[Found]] = defaultdict(list)
    for setting in found:
        rival = next((other for other in seen[setting.path] if not _exclusive(setting.chain, other.chain)), None)
        if rival:
            problems.append(_conflict(rival, setting))
        seen[setting.path].append(setting)
    return problems


def _conflict(first: Found, second: Found) -> Problem:
    spot = first.spot
    where = f" on line {spot.line}" if spot.line else f" by {spot.file}" if spot.file else ""
    branch = next((chain[-1] for chain in (second.chain, first.chain) if chain), None)
    hint = (
        f"once in the branch {shown(branch[1])} of {branch[0]}; a branch's settings stand nowhere else"
        if branch
        else None
    )
    return second.spot.problem(f"{second.path} is set twice, first{where}", hint)


def _exclusive(left: Chain, right: Chain) -> bool:
    taken = dict(left)
    return any(path in taken and taken[path] != value for path, value in right)


def _unknown_names(condition: Expression, paths: set[str]) -> list[Problem]:
    unknown = sorted(condition.names - paths)
    message = "`{}`: the space has no setting '{}'"
    return [
        condition.spot.problem(message.format(condition, name), did_you_mean(name, sorted(paths))) for name in unknown
    ]


def _ranks(found: Sequence[Found], problems: list[Problem]) -> dict[str, int]:
    """An order of paths in which each follows what it needs; adds a problem when there is none."""
    graph: dict[str, set[str]] = {setting.path: set() for setting in found}
    for setting in found:
        graph[setting.path] |= setting.needs
    try:
        return {path: rank for rank, path in enumerate(TopologicalSorter(graph).static_order())}
    except CycleError as error:
        cycle = error.args[1]
        spot = max((setting.spot for setting in found if setting.path in cycle), key=lambda spot: spot.line or 0)
        problems.append(spot.problem(f"settings depend on each other in a circle: {' -> '.join(cycle)}"))
        return {}


def _named(found: Sequence[Found]) -> list[Dimension]:
    """Dimensions under names that no two share."""
    taken: set[str] = set()
    dimensions = []
    for setting in found:
        name = setting.path + "".join(f"@{_key(value)}" for _, value in setting.chain)
        while name in taken:  # choices may have branches of the same name
            name += "'"
        taken.add(name)
        dimensions.append(Dimension(setting.path, setting.domain, setting.when, setting.chain, name, setting.spot))
    return dimensions


def _key(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)
