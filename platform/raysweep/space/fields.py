"""The settings of a recipe's Config as flat dotted names, and whether a value or a domain suits one of them."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from raysweep.patterns import Fit, fit, suggested
from raysweep.problems import Problem
from raysweep.space.domains import Int
from raysweep.space.expressions import Expression
from raysweep.space.reader import Found
from raysweep.validation import entry_model, expectation, group_model, shown, suggestion


class Fields:
    """What a Config knows, by dotted name. Nested models are groups; every other field is a leaf.

    A field `dict[str, Model]` is an open group: `tasks`, `tasks.*` for an entry of any name, `tasks.*.weight` in it.
    """

    def __init__(self, config: type[BaseModel]) -> None:
        self._patterns = dict(_flat(config, ""))
        self._leaves = {pattern: field for pattern, field in self._patterns.items() if field is not None}
        self._validators: dict[str, type[BaseModel]] = {}

    def is_group(self, path: str) -> bool | None:
        """Whether a path is a group of settings, or one setting; None where it is neither."""
        found = fit(self._patterns, path)
        return found.pattern not in self._leaves if found else None

    def chosen(self, paths: Iterable[str]) -> set[str]:
        """The names that settings give to entries of open groups: `topic` of `tasks.topic.weight`."""
        return {name for path in paths if (found := fit(self._patterns, path)) for name in found.names}

    def problems(self, found: Iterable[Found]) -> Iterator[Problem]:
        """What is wrong with settings and domains as they stand in a file."""
        for setting in found:
            yield from self._misfits(setting)

    def literals(self, condition: Expression) -> Iterator[Problem]:
        """Texts that a condition compares a setting with, although the setting can never be that text."""
        for path, literal in condition.compared():
            leaf = isinstance(literal, str) and self.is_group(path) is False
            if leaf and (wrong := self.complaint(path, literal)):
                message, hint = wrong
                yield condition.spot.problem(f"`{condition}`: {message}", hint)

    def complaint(self, path: str, value: Any) -> tuple[str, str | None] | None:
        """What is wrong with a value for a leaf, and a hint; None when it suits."""
        found = fit(self._leaves, path)
        assert found, path
        try:
            self._validator(found.pattern).model_validate({"value": value})
        except ValidationError as error:
            details = error.errors(include_url=False)
            expected = " or ".join(dict.fromkeys(expectation(detail) for detail in details))
            hints = [suggestion(detail) for detail in details]
            description = self._leaves[found.pattern].description
            return f"{path}: expected {expected}, found {shown(value)}", next(filter(None, hints), description)
        return None

    def _misfits(self, setting: Found) -> Iterator[Problem]:
        found = fit(self._patterns, setting.path)
        if found is None:
            hint = suggested(setting.path, list(self._leaves))
            yield setting.spot.problem(f"unknown setting '{setting.path}'", hint)
        elif found.pattern in self._leaves:
            yield from self._wrong_values(setting)
        else:
            hint = self._content(setting.path, found)
            yield setting.spot.problem(f"{setting.path} is a group of settings, not one", hint)

    def _content(self, path: str, group: Fit) -> str:
        """What a group holds."""
        below = f"{group.pattern}."
        inner = ", ".join(f"{path}.{leaf.removeprefix(below)}" for leaf in self._leaves if leaf.startswith(below))
        if f"{below}*" in self._patterns:
            return f"names in {path} are free; it holds {inner}"
        around = path.rpartition(".")[0] if group.pattern.endswith(".*") else None
        return f"names in {around} are free; it holds {inner}" if around else f"it holds {inner}"

    def _wrong_values(self, setting: Found) -> Iterator[Problem]:
        """One problem for each kind of misfit, however many values share it."""
        told: set[str] = set()
        for value in setting.domain.extremes():
            wrong = self.complaint(setting.path, value)
            if wrong and (kind := wrong[0].partition(", found")[0]) not in told:
                told.add(kind)
                whole = isinstance(value, float) and "whole number" in kind and not isinstance(setting.domain, Int)
                yield setting.spot.problem(wrong[0], "the domain `int` gives whole numbers" if whole else wrong[1])

    def _validator(self, pattern: str) -> type[BaseModel]:
        """A strict model with this one field, made once."""
        if pattern not in self._validators:
            field = self._leaves[pattern]
            strict = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)
            one: Any = (field.annotation, field)
            self._validators[pattern] = create_model("Setting", __config__=strict, value=one)
        return self._validators[pattern]


def _flat(config: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo | None]]:
    """Each leaf with its field; each group with None."""
    for name, field in config.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        group, entry = group_model(field.annotation), entry_model(field.annotation)
        yield path, None if group or entry else field
        if entry:
            yield f"{path}.*", None
            yield from _flat(entry, f"{path}.*.")
        elif group:
            yield from _flat(group, f"{path}.")
