"""Pydantic's errors in this project's words: what was expected, what was found."""

import json
from collections.abc import Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from raysweep.problems import nearest

EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "none_required": "null",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "at least {min_length} in the list",
    "too_long": "at most {max_length} in the list",
}


def shown(value: Any) -> str:
    """A value as a YAML file would hold it, shortened."""
    text = json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def expectation(error: ErrorDetails) -> str:
    """What should have stood there, as words behind 'expected'."""
    wanted = EXPECTED.get(error["type"])
    if wanted is None:
        return error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return wanted.format(**error.get("ctx", {}))


def suggestion(error: ErrorDetails) -> str | None:
    """What to do about a wrong value, where that is clear."""
    found = error["input"]
    if error["type"] == "literal_error" and isinstance(found, str):
        near = nearest(found, error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", "))
        return f"did you mean '{near}'?" if near else None
    if error["type"] in ("int_type", "float_type") and is_number_text(found):
        return f"{found} in quotes is text: leave the quotes out"
    if error["type"] == "string_type" and isinstance(found, (bool, int, float)):
        return "quotes make it text"
    return None


def is_number_text(value: Any) -> bool:
    """Whether this is text that reads like a number."""
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False


def place_of(error: ErrorDetails) -> tuple[Any, ...]:
    """The keys and list positions that lead to what is wrong; a wrong key counts as what stands under it."""
    return tuple(key for key in error["loc"] if key != "[key]")


def dotted(keys: Sequence[Any]) -> str:
    """`objectives[0].goal` for the path of an error."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def group_model(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds: the annotation itself, or the one model of `Model | None`."""
    given = _given(annotation)
    plain = isinstance(given, type) and get_origin(given) is None
    return given if plain and issubclass(given, BaseModel) else None


def entry_model(annotation: Any) -> type[BaseModel] | None:
    """The model of each entry of an open group, `dict[str, Model]`, whose names the sweep file chooses."""
    given = _given(annotation)
    parts = get_args(given) if get_origin(given) is dict else ()
    return group_model(parts[1]) if parts else None


def _given(annotation: Any) -> Any:
    """What a field holds unless it is null: the one other part of `... | None`."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return parts[0] if len(parts) == 1 else None


def model_at(model: type[BaseModel], keys: Sequence[Any]) -> type[BaseModel] | None:
    """The model below `model` that the keys lead to; list positions are passed over."""
    found: type[BaseModel] | None = model
    for key in keys:
        if found is None or isinstance(key, int):
            continue
        annotation = {field.alias or name: field.annotation for name, field in found.model_fields.items()}.get(key)
        found = group_model(get_args(annotation)[0] if get_origin(annotation) is list else annotation)
    return found
