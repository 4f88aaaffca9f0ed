"""YAML 1.2 (core schema) read into plain Python data that knows its lines; every duplicate key is an error.

The core schema keeps `2:4`, `no`, `on` and `12:00:00` as text and reads `1e-5` as a number; older YAML does neither.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

from raysweep.problems import Problem, UserError, did_you_mean

KeyPath = tuple[Any, ...]  # keys and list positions from the top of a file
TAG = "tag:yaml.org,2002:"
# https://yaml.org/spec/1.2.2/#1032-tag-resolution
CORE = {
    TAG + "null": re.compile(r"null|Null|NULL|~|"),
    TAG + "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    TAG + "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    TAG + "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}
SCALARS: dict[str, Callable[[str], Any]] = {
    TAG + "null": lambda text: None,
    TAG + "bool": lambda text: text.lower() == "true",
    TAG + "int": lambda text: int(text, 0) if text[:2] in ("0o", "0x") else int(text),
    TAG + "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    TAG + "str": lambda text: text,
}


@dataclass(frozen=True, slots=True)
class Spot:
    """One place in a file, or an override; nowhere, for data that no file holds."""

    file: str | None = None
    line: int | None = None

    def problem(self, message: str, hint: str | None = None) -> Problem:
        return Problem(message, self.file, self.line, hint)


@dataclass(slots=True)
class Place:
    """Where data stands: lines of a file by key path, and key paths that an override has set."""

    file: str | None = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    overrides: dict[KeyPath, str] = field(default_factory=dict)

    def at(self, keys: KeyPath) -> Spot:
        """The spot of a key path, or of the nearest mapping or list around it."""
        for length in range(len(keys), -1, -1):
            if (path := keys[:length]) in self.overrides:
                return Spot(self.overrides[path])
            if path in self.lines:
                return Spot(self.file, self.lines[path])
        return Spot(self.file)

    def problem(self, keys: KeyPath, message: str, hint: str | None = None) -> Problem:
        return self.at(keys).problem(message, hint)

    def override(self, keys: KeyPath, text: str) -> None:
        """Note that an override has set `keys`: the file's lines below it hold no more."""
        for known in (self.lines, self.overrides):
            for path in [path for path in known if path[: len(keys)] == keys]:
                del known[path]
        self.overrides[keys] = text


@dataclass(slots=True)
class YamlFile:
    """A file's data, where each part of it stands, and what is wrong although the rest can be read."""

    data: Any
    place: Place
    text: str
    problems: list[Problem] = field(default_factory=list)


class CoreResolver(VersionedResolver):  # type: ignore[misc, unused-ignore]
    """Types of plain scalars as the core schema has them, whatever `%YAML` says."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is ScalarNode:
            tags = (tag for tag, pattern in CORE.items() if implicit[0] and pattern.fullmatch(value))
            return Tag(suffix=next(tags, TAG + "str"))
        return self.DEFAULT_SEQUENCE_TAG if kind is SequenceNode else self.DEFAULT_MAPPING_TAG

    @property
    def processing_version(self) -> Any:
        return (1, 2)


def read_yaml(path: Path) -> YamlFile:
    """Read a file whose top is a mapping. Raises UserError when it cannot be used at all."""
    text = _read_text(path)
    file = parse_yaml(text, str(path))
    if file.data is None:
        raise UserError([Problem("the file is empty", str(path))])
    if not isinstance(file.data, dict):
        found = "a list" if isinstance(file.data, list) else f"only {file.data!r}"
        raise UserError([Problem(f"expected a mapping (`key: value` lines), found {found}", str(path), 1)])
    return file


def parse_yaml(text: str, file: str | None) -> YamlFile:
    """Read any one YAML value. Raises UserError on a syntax error."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver = CoreResolver
    try:
        node = yaml.compose(text)
        return _Reader(file).read(node, text)
    except MarkedYAMLError as error:
        raise UserError([_syntax(error, file)]) from None
    except YAMLError as error:
        raise UserError([Problem(f"no YAML: {' '.join(str(error).split())}", file)]) from None
    except RecursionError:
        raise UserError([Problem("nested too deeply", file)]) from None


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        beside = [str(other) for other in path.parent.glob("*.yaml")]
        raise UserError([Problem("no such file", str(path), hint=did_you_mean(str(path), beside))]) from None
    except OSError as error:
        raise UserError([Problem(f"cannot be read: {error.strerror}", str(path))]) from None
    except UnicodeDecodeError:
        raise UserError([Problem("expected text in UTF-8, found other bytes", str(path))]) from None


def _syntax(error: MarkedYAMLError, file: str | None) -> Problem:
    said = [str(part) for part in (error.problem, error.context) if part]
    mark = error.problem_mark or error.context_mark
    hint = {
        "mapping values are not allowed here": "text that contains ': ' needs quotes",
        "found character '\\t' that cannot start any token": "indent with spaces",
    }.get(said[0])
    return Problem(f"YAML syntax: {', '.join(said)}", file, mark.line + 1 if mark else None, hint)


class _Reader:
    """Turns nodes into plain data, collecting lines and problems."""

    def __init__(self, file: str | None) -> None:
        self._place = Place(file)
        self._problems: list[Problem] = []
        self._open: set[int] = set()  # nodes around the current one, to see an alias of itself

    def read(self, node: Node | None, text: str) -> YamlFile:
        data = None if node is None else self._value(node, ())
        return YamlFile(data, self._place, text, self._problems)

    def _value(self, node: Node, path: KeyPath) -> Any:
        self._place.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._open:
            return self._wrong(node, "an alias (*) may not stand inside its own anchor (&)")
        self._open.add(id(node))
        try:
            return self._plain(node, path)
        finally:
            self._open.remove(id(node))

    def _plain(self, node: Node, path: KeyPath) -> Any:
        if str(node.tag) not in (*SCALARS, TAG + "map", TAG + "seq"):
            return self._wrong(node, f"the tag {node.tag} is not known here")
        if isinstance(node, MappingNode):
            return dict(self._items(node, path))
        if isinstance(node, SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return SCALARS[str(node.tag)](node.value)
        except ValueError:
            return self._wrong(node, f"'{node.value[:40]}' is no {str(node.tag).removeprefix(TAG)}")

    def _items(self, node: MappingNode, path: KeyPath) -> Iterator[tuple[Any, Any]]:
        first: dict[Any, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._wrong(key_node, "a key is text, a number or true/false")
                continue
            key = self._plain(key_node, path)
            if key in first:
                self._wrong(key_node, f"duplicate key '{key_node.value}' (first on line {first[key]})")
                continue
            first[key] = self._place.lines[(*path, key)] = line
            yield key, self._value(value_node, (*path, key))

    def _wrong(self, node: Node, message: str) -> None:
        self._problems.append(Problem(message, self._place.file, node.start_mark.line + 1))
