"""The settings of a recipe's Config as flat dotted names, and whether a value or a domain suits one of them."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from raysweep.problems import Problem, did_you_mean
from raysweep.space.domains import Int
from raysweep.space.expressions import Expression
from raysweep.space.reader import Found
from raysweep.validation import expectation, group_model, shown, suggestion


class Fields:
    """What a Config knows. Nested models are groups; every other field is a leaf."""

    def __init__(self, config: type[BaseModel]) -> None:
        self._fields = dict(_flat(config, ""))
        self._validators: dict[str, type[BaseModel]] = {}

    @cached_property
    def leaves(self) -> list[str]:
        return [path for path, field in self._fields.items() if group_model(field.annotation) is None]

    @cached_property
    def groups(self) -> list[str]:
        return [path for path, field in self._fields.items() if group_model(field.annotation) is not None]

    def problems(self, found: Iterable[Found]) -> Iterator[Problem]:
        """What is wrong with settings and domains as they stand in a file."""
        for setting in found:
            yield from self._misfits(setting)

    def literals(self, condition: Expression) -> Iterator[Problem]:
        """Texts that a condition compares a setting with, although the setting can never be that text."""
        for path, literal in condition.compared():
            wrong = self.complaint(path, literal) if isinstance(literal, str) and path in self.leaves else None
            if wrong:
                message, hint = wrong
                yield condition.spot.problem(f"`{condition}`: {message}", hint)

    def complaint(self, path: str, value: Any) -> tuple[str, str | None] | None:
        """What is wrong with a value for a leaf, and a hint; None when it suits."""
        try:
            self._validator(path).model_validate({"value": value})
        except ValidationError as error:
            details = error.errors(include_url=False)
            expected = " or ".join(dict.fromkeys(expectation(detail) for detail in details))
            hints = [suggestion(detail) for detail in details]
            description = self._fields[path].description
            return f"{path}: expected {expected}, found {shown(value)}", next(filter(None, hints), description)
        return None

    def _misfits(self, setting: Found) -> Iterator[Problem]:
        if setting.path in self.leaves:
            yield from self._wrong_values(setting)
        elif setting.path in self.groups:
            inner = ", ".join(leaf for leaf in self.leaves if leaf.startswith(f"{setting.path}."))
            yield setting.spot.problem(f"{setting.path} is a group of settings, not one", f"it holds {inner}")
        else:
            hint = did_you_mean(setting.path, self.leaves)
            yield setting.spot.problem(f"unknown setting '{setting.path}'", hint)

    def _wrong_values(self, setting: Found) -> Iterator[Problem]:
        """One problem for each kind of misfit, however many values share it."""
        told: set[str] = set()
        for value in setting.domain.extremes():
            wrong = self.complaint(setting.path, value)
            if wrong and (kind := wrong[0].partition(", found")[0]) not in told:
                told.add(kind)
                whole = isinstance(value, float) and "whole number" in kind and not isinstance(setting.domain, Int)
                yield setting.spot.problem(wrong[0], "the domain `int` gives whole numbers" if whole else wrong[1])

    def _validator(self, path: str) -> type[BaseModel]:
        """A strict model with this one field, made once."""
        if path not in self._validators:
            field = self._fields[path]
            strict = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)
            one: Any = (field.annotation, field)
            self._validators[path] = create_model("Setting", __config__=strict, value=one)
        return self._validators[path]


def _flat(config: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in config.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield path, field
        if model := group_model(field.annotation):
            yield from _flat(model, f"{path}.")
