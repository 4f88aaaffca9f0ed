"""`--set key=value` on top of a sweep file: the value is YAML, the key a path of blocks or a setting of the space."""

from collections.abc import Sequence
from typing import Any

from raysweep.problems import Problem, UserError
from raysweep.space.form import is_domain, is_mistyped
from raysweep.validation import shown
from raysweep.yaml_file import KeyPath, Place, YamlFile, parse_yaml


def apply_overrides(file: YamlFile, overrides: Sequence[str]) -> list[Problem]:
    """Change the file's data, and note which override set what; what was wrong with them."""
    problems: list[Problem] = []
    for text in overrides:
        try:
            _Override(f"--set {text}", file.place).apply(file.data, *_parsed(text))
        except UserError as error:
            problems += [Problem(problem.message, f"--set {text}", hint=problem.hint) for problem in error.problems]
    return problems


def _parsed(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise UserError([Problem("expected key=value", hint="such as budget.trials=8 or space.train.lr=1e-4")])
    parsed = parse_yaml(value, None)
    if parsed.problems:
        raise UserError(parsed.problems)
    return path, parsed.data


class _Override:
    """One override."""

    def __init__(self, text: str, place: Place) -> None:
        self._text, self._place = text, place

    def apply(self, data: dict[Any, Any], path: list[str], value: Any) -> None:
        # A setting's name is one dotted key: `space.train.lr`, `references.dense.train.lr`.
        blocks = {"space": 1, "references": 2}.get(path[0], len(path))
        if len(path) <= blocks:
            self._set(self._inside(data, path[:-1], ()), path[-1], tuple(path[:-1]), value)
        else:
            self._set_setting(self._inside(data, path[:blocks], ()), path[blocks:], tuple(path[:blocks]), value)

    def _inside(self, entries: Any, path: list[str], keys: KeyPath) -> Any:
        """The mapping or list that the path leads to; made where nothing stands yet."""
        if not path:
            return entries
        key = self._key(entries, path[0], keys)
        if isinstance(entries, dict) and entries.get(key) is None:
            self._set(entries, key, keys, {})
        return self._inside(entries[key], path[1:], (*keys, key))

    def _set_setting(self, entries: Any, path: list[str], keys: KeyPath, value: Any) -> None:
        """Set a setting where the file has it, nested or dotted; each one of them, if the value is a group."""
        if isinstance(value, dict) and value and not is_domain(value) and not is_mistyped(value):
            for name, inner in value.items():
                self._set_setting(entries, [*path, *str(name).split(".")], keys, inner)
            return
        found = _where(entries, path, keys) if isinstance(entries, dict) else None
        inner, key, above = found or (entries, ".".join(path), keys)
        self._set(inner, key, above, value)

    def _set(self, entries: Any, key: Any, keys: KeyPath, value: Any) -> None:
        key = self._key(entries, key, keys)
        entries[key] = value
        self._place.override((*keys, key), self._text)

    def _key(self, entries: Any, key: Any, keys: KeyPath) -> Any:
        """The key as `entries` has it: a position in a list. Raises UserError when nothing can stand there."""
        if isinstance(entries, dict):
            return key
        where = ".".join(map(str, keys))
        if not isinstance(entries, list):
            raise UserError(f"{where} holds no other keys: it is {shown(entries)}")
        if not str(key).isdecimal() or int(key) >= len(entries):
            raise UserError(f"{where} is a list with positions 0 to {len(entries) - 1}, found '{key}'")
        return int(key)


def _where(entries: dict[Any, Any], path: list[str], keys: KeyPath) -> tuple[dict[Any, Any], str, KeyPath] | None:
    """The mapping and key under which a dotted name stands."""
    for length in range(len(path), 0, -1):
        key, rest = ".".join(path[:length]), path[length:]
        if key in entries and not rest:
            return entries, key, keys
        inner = entries.get(key)
        if isinstance(inner, dict) and not is_domain(inner) and (found := _where(inner, rest, (*keys, key))):
            return found
    return None
