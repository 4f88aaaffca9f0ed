"""From the `space:` and `constraints:` of a file to a `Space`; every problem is found before any is told."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.space.domains import Fixed
from raysweep.space.expressions import Expression
from raysweep.space.reader import Chain, Found, Known, SpaceReader
from raysweep.space.space import Dimension, Space
from raysweep.validation import shown
from raysweep.yaml_file import KeyPath, Place


def compile_space(
    space: Mapping[Any, Any], constraints: Sequence[Any], place: Place, known: Known | None = None
) -> Space:
    """The space of a file with these top-level `space` and `constraints`. Raises UserError with all problems."""
    reader = SpaceReader(place, known)
    reader.group(space, "", ("space",), ())
    rules = reader.constraints(constraints)
    problems = reader.problems + _conflicts(reader.found)
    conditions = [found.when for found in reader.found if found.when]
    conditions += [expression for rule in rules for expression in rule.expressions()]
    paths = {found.path for found in reader.found} | reader.failed
    problems += [problem for condition in conditions for problem in _unknown_names(condition, paths)]
    if known:
        problems += known.problems(reader.found)
        problems += [problem for condition in conditions for problem in known.literals(condition)]
    ranks = _ranks(reader.found, problems)
    if problems:
        raise UserError(problems)
    ordered = sorted(_named(reader.found), key=lambda setting: ranks[setting.path])
    return Space(tuple(ordered), tuple(rules), tuple(dict.fromkeys(found.path for found in reader.found)))


def read_values(entries: Mapping[Any, Any], keys: KeyPath, place: Place, known: Known | None) -> dict[str, Any]:
    """Settings with plain values, as a reference has them, by dotted name. Raises UserError."""
    reader = SpaceReader(place, known)
    reader.group(entries, "", keys, ())
    problems = reader.problems + _conflicts(reader.found)
    values: dict[str, Any] = {}
    for found in reader.found:
        if isinstance(found.domain, Fixed) and found.when is None:
            values[found.path] = found.domain.content
        else:
            problems.append(found.spot.problem(f"{found.path}: expected a plain value, found something to search"))
    if known:
        problems += known.problems(reader.found)
    if problems:
        raise UserError(problems)
    return values


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
    hint = f"the settings of the branch {shown(branch[1])} of {branch[0]} stand nowhere else" if branch else None
    return second.spot.problem(f"{second.path} is set twice, first{where}", hint)


def _exclusive(left: Chain, right: Chain) -> bool:
    taken = dict(left)
    return any(path in taken and taken[path] != value for path, value in right)


def _unknown_names(condition: Expression, paths: set[str]) -> list[Problem]:
    problems = []
    for name in sorted(condition.names - paths):
        message = f"`{condition}`: the space has no setting '{name}'"
        problems.append(condition.spot.problem(message, did_you_mean(name, sorted(paths))))
    return problems


def _ranks(found: Sequence[Found], problems: list[Problem]) -> dict[str, int]:
    """An order of paths in which each follows what it needs; adds a problem when there is none."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for setting in found:  # all in the file's order first, so that the result is the same in every process
        sorter.add(setting.path)
    for setting in found:
        sorter.add(setting.path, *sorted(setting.needs))
    try:
        return {path: rank for rank, path in enumerate(sorter.static_order())}
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
