"""The form of one setting: a mapping with exactly one domain key and that domain's options."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.space.expressions import Expression, parse_expression
from raysweep.validation import shown
from raysweep.yaml_file import KeyPath, Place

# The options that each domain takes. `branches` is how a journal holds a choice whose branches are named by numbers or
# true/false, since JSON has only text for keys: [[true, {sub-space}], ...].
OPTIONS = {
    "choice": {"when"},
    "branches": {"when"},
    "ordinal": {"when"},
    "uniform": {"when", "step"},
    "loguniform": {"when"},
    "int": {"when", "step", "log"},
    "grid": set(),
    "value": {"when"},
}
KINDS = [kind for kind in OPTIONS if kind != "branches"]  # those that users write
Branch: TypeAlias = tuple[Any, Any, KeyPath]  # name, sub-space, and where that stands


@dataclass(frozen=True, slots=True)
class Form:
    """A mapping that stands for one setting, its path, and where it stands."""

    path: str
    entries: Mapping[Any, Any]
    keys: KeyPath
    place: Place

    def problem(self, message: str, hint: str | None = None, below: KeyPath = ()) -> Problem:
        return self.place.problem((*self.keys, *below), f"{self.path}: {message}", hint)

    def error(self, message: str, hint: str | None = None, below: KeyPath = ()) -> UserError:
        return UserError([self.problem(message, hint, below)])

    @property
    def kind(self) -> str:
        return next(str(key) for key in self.entries if key in OPTIONS)

    @property
    def content(self) -> Any:
        return self.entries[self.kind]


def is_domain(entries: Mapping[Any, Any]) -> bool:
    """Whether a mapping has a domain key, and so is no group of settings."""
    return any(key in OPTIONS for key in entries)


def is_mistyped(entries: Mapping[Any, Any]) -> bool:
    """Whether a mapping was meant as a domain: it has an option's key, or a list under a key much like a domain's."""
    lists = [str(key) for key, value in entries.items() if isinstance(value, list)]
    return any(key in ("when", "step", "log") for key in entries) or any(
        get_close_matches(key, KINDS, cutoff=0.7) for key in lists
    )


def unknown_domain(form: Form) -> UserError:
    """The complaint about a mapping that holds no domain key where one must stand."""
    if not form.entries:
        return form.error("no settings here", "{value: {}} is an empty mapping")
    words = [str(key) for key in form.entries if key not in ("when", "step", "log")]
    if not words:
        return form.error("no domain here", f"known: {', '.join(KINDS)}")
    hint = f"known: {', '.join(KINDS)}; {{value: ...}} holds a mapping as a value"
    if get_close_matches(words[0], KINDS, n=1):
        hint = did_you_mean(words[0], KINDS) or hint
    return form.error(f"unknown domain '{words[0]}'", hint)


def read_when(form: Form) -> Expression | None:
    """The condition under which the setting is active. Raises UserError."""
    if "when" not in form.entries or "when" not in OPTIONS[form.kind]:
        return None
    return parse_expression(form.entries["when"], form.place.at((*form.keys, "when")))


def read_branches(form: Form) -> list[Branch]:
    """The branches of a choice given as a mapping; none for any other form."""
    if form.kind == "choice" and isinstance(form.content, dict):
        return [(name, content, (*form.keys, "choice", name)) for name, content in form.content.items()]
    if form.kind == "branches" and _is_pairs(form.content):
        return [(name, content, (*form.keys, "branches", at)) for at, (name, content) in enumerate(form.content)]
    return []


def _is_pairs(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(item, list) and len(item) == 2 for item in content)


def check_literal(value: Any, form: Form, below: KeyPath = ()) -> None:
    """Raises UserError when a mapping within a value has keys other than text: JSON could not hold it."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise form.error(f"keys within a value are text, found {shown(key)}", "quotes make it text", below)
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        check_literal(child, form, (*below, key))


def wrong_keys(form: Form) -> Iterator[Problem]:
    """Keys that do not belong beside the domain's."""
    kind, allowed = form.kind, OPTIONS[form.kind]
    for key in form.entries:
        if key == kind or key in allowed:
            continue
        if key in OPTIONS:
            yield form.problem(f"two domains, '{kind}' and '{key}'; expected one", None, (key,))
        elif kind == "grid" and key == "when":
            yield form.problem("a grid takes no 'when': its values are crossed with every point", None, (key,))
        elif key in ("step", "log"):
            yield form.problem(f"'{kind}' takes no '{key}'", _other_domain(kind, key), (key,))
        else:
            hint = did_you_mean(str(key), sorted({kind, *allowed}))
            yield form.problem(f"unknown key {shown(key)} beside '{kind}'", hint, (key,))


def _other_domain(kind: str, key: str) -> str | None:
    if key == "log" and kind == "uniform":
        return "loguniform is the logarithmic range"
    return "a logarithmic range has no steps; uniform takes one" if kind == "loguniform" and key == "step" else None
