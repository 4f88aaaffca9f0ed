"""The JSON Schema of a sweep file, for editors: completion, descriptions, and marks at wrong keys and values.

Put `# yaml-language-server: $schema=sweep.schema.json` at the top of a sweep. The settings of a recipe are not in it:
an editor takes any name there, and `load_sweep` checks names, types and bounds.
"""

from collections.abc import Sequence
from typing import Any

from raysweep.space.form import KINDS
from raysweep.spec import SweepSpec

DRAFT = "http://json-schema.org/draft-07/schema#"  # the one that every editor knows
Schema = dict[str, Any]

ANYTHING: Schema = {"type": ["string", "number", "boolean", "null", "array"]}
NUMBER: Schema = {"type": "number"}
CONDITION: Schema = {
    "type": "string",
    "description": "a condition: and or not, comparisons, in, + - * / // %, literals, dotted names of settings;"
    " a comparison with an inactive setting is false",
}
WHEN = {"when": {"$ref": "#/$defs/condition"}}
STEP = {"step": {"type": "number", "exclusiveMinimum": 0, "description": "divides the range"}}


def sweep_schema(recipes: Sequence[str]) -> Schema:
    """The schema of the whole file; `recipes` are suggested as values of `recipe`, which takes others too."""
    schema = SweepSpec.model_json_schema(by_alias=True)
    blocks, definitions = schema["properties"], schema["$defs"]
    definitions |= {"settings": _settings(), "setting": _setting(), "condition": CONDITION, "constraint": _constraint()}
    definitions |= {f"{kind}_domain": form for kind, form in _domains().items()}
    recipe = {key: value for key, value in blocks["recipe"].items() if key != "type"}
    blocks["recipe"] = {**recipe, "anyOf": [{"enum": sorted(recipes)}, {"type": "string"}]}
    blocks["space"] = _like(blocks["space"], {"$ref": "#/$defs/settings"})
    blocks["constraints"]["items"] = {"$ref": "#/$defs/constraint"}
    blocks["references"]["additionalProperties"] = {"type": "object", "description": "plain values by setting"}
    return {"$schema": DRAFT, **schema}


def _like(block: Schema, content: Schema) -> Schema:
    """`content` with the block's description; draft 7 ignores what stands beside a `$ref`, so it is wrapped."""
    return {"description": block["description"], "allOf": [content]}


def _settings() -> Schema:
    """A group of settings: a space, a branch, or a nested group; the words of domains are no names of settings."""
    return {
        "type": "object",
        "propertyNames": {"not": {"enum": [*KINDS, "when", "step", "log"]}},
        "additionalProperties": {"$ref": "#/$defs/setting"},
    }


def _setting() -> Schema:
    forms = [{"$ref": f"#/$defs/{kind}_domain"} for kind in KINDS]
    group = {"allOf": [{"$ref": "#/$defs/settings"}, {"minProperties": 1}]}
    return {"anyOf": [{**ANYTHING, "description": "a fixed value"}, *forms, group]}


def _domains() -> dict[str, Schema]:
    """One schema for each domain's form."""
    values, pair = {"type": "array", "minItems": 2}, {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
    whole = {**pair, "items": {"type": "integer"}}
    branch = {"anyOf": [{"$ref": "#/$defs/settings"}, {"type": "null"}]}
    branches = {"type": "object", "minProperties": 2, "additionalProperties": branch}
    log = {"log": {"type": "boolean", "description": "even on a logarithmic scale; excludes step"}}
    integer_step = {"step": {"type": "integer", "minimum": 1, "description": "divides the range"}}
    choice = {"anyOf": [values, branches]}
    return {
        "choice": _form("unordered values, or branches with settings of their own", "choice", choice, WHEN),
        "ordinal": _form("numbers in order", "ordinal", {**values, "items": NUMBER}, WHEN),
        "uniform": _form("a range of numbers: [low, high]", "uniform", pair, WHEN | STEP),
        "loguniform": _form("a range of positive numbers on a logarithmic scale", "loguniform", pair, WHEN),
        "int": _form("a range of whole numbers: [low, high]", "int", whole, WHEN | integer_step | log),
        "grid": _form("values crossed with every sampled point", "grid", {"type": "array", "minItems": 1}, {}),
        "value": _form("a fixed value that may be a mapping", "value", {}, WHEN),
    }


def _form(description: str, kind: str, content: Schema, options: Schema) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": {kind: content, **options},
        "required": [kind],
        "additionalProperties": False,
    }


def _constraint() -> Schema:
    condition = {"$ref": "#/$defs/condition"}
    why = {"why": {"type": "string", "description": "the reason, shown with the constraint"}}
    implication = {"properties": {"if": condition, "then": condition, **why}, "required": ["if", "then"]}
    ban = {"properties": {"not": condition, **why}, "required": ["not"]}
    closed = {"type": "object", "additionalProperties": False}
    return {"anyOf": [condition, {**closed, **implication}, {**closed, **ban}]}
