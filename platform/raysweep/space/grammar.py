"""The grammar of one setting: a mapping with exactly one domain key, such as `{uniform: [0, 1], step: 0.1}`."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, TypeAlias

from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.space.domains import Choice, Domain, Fixed, Grid, Int, LogUniform, Ordinal, Uniform
from raysweep.space.expressions import Expression, parse_expression
from raysweep.validation import is_number_text, shown
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
    likely = (
        isinstance(value, list) and get_close_matches(str(key), KINDS, cutoff=0.7) for key, value in entries.items()
    )
    return any(key in ("when", "step", "log") for key in entries) or any(likely)


def unknown_domain(form: Form) -> UserError:
    """The complaint about a mapping that holds no domain key where one must stand."""
    words = [str(key) for key in form.entries if key not in ("when", "step", "log")]
    if not words:
        return form.error("no domain here", f"known: {', '.join(KINDS)}")
    near = get_close_matches(words[0], KINDS, n=1)
    hint = (
        did_you_mean(words[0], KINDS)
        if near
        else f"known: {', '.join(KINDS)}; {{value: ...}} holds a mapping as a value"
    )
    return form.error(f"unknown domain '{words[0]}'", hint)


def read_when(form: Form) -> Expression | None:
    """The condition under which the setting is active. Raises UserError."""
    if "when" not in form.entries or "when" not in OPTIONS[form.kind]:
        return None
    return parse_expression(form.entries["when"], form.place.at((*form.keys, "when")))


def read_domain(form: Form) -> Domain | Fixed:
    """The domain of a setting; of a choice with branches, their names. Raises UserError with all its problems."""
    problems = list(_wrong_keys(form))
    try:
        domain = READERS[form.kind](form)
    except UserError as error:
        raise UserError([*problems, *error.problems]) from None
    if problems:
        raise UserError(problems)
    return domain


def read_branches(form: Form) -> list[Branch]:
    """The branches of a choice given as a mapping; none for any other form."""
    if form.kind == "choice" and isinstance(form.content, dict):
        return [(name, content, (*form.keys, "choice", name)) for name, content in form.content.items()]
    if form.kind == "branches" and _is_pairs(form.content):
        return [(name, content, (*form.keys, "branches", at)) for at, (name, content) in enumerate(form.content)]
    return []


def _is_pairs(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(item, list) and len(item) == 2 for item in content)


def portable(value: Any) -> Any:
    """A space that survives JSON, whose keys are text: other names of branches are written as `branches` pairs."""
    if isinstance(value, list):
        return [portable(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: portable(item) for key, item in value.items()}
    branches = plain.get("choice")
    if isinstance(branches, dict) and not all(isinstance(name, str) for name in branches):
        plain = {"branches": [list(item) for item in branches.items()], **plain}
        del plain["choice"]
    return plain


def check_literal(value: Any, form: Form, below: KeyPath = ()) -> None:
    """Raises UserError when a mapping within a value has keys other than text: JSON could not hold it."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise form.error(f"keys within a value are text, found {shown(key)}", "quotes make it text", below)
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        check_literal(child, form, (*below, key))


def _wrong_keys(form: Form) -> Iterator[Problem]:
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


def _read_choice(form: Form) -> Choice:
    names = [name for name, _, _ in read_branches(form)]
    if form.kind == "branches" and not names:
        raise form.error(f"'branches' takes [[name, sub-space], ...], found {shown(form.content)}")
    values = _distinct(form, names) if names else _values(form)
    if len(values) < 2:
        raise form.error(f"a choice of one value is no choice: found {shown(list(values))}", "a plain value is fixed")
    return Choice(values)


def _read_grid(form: Form) -> Grid:
    if not (values := _values(form)):
        raise form.error("a grid needs at least one value, found none")
    return Grid(values)


def _read_ordinal(form: Form) -> Ordinal:
    values = [_number(form, value, ("ordinal", at)) for at, value in enumerate(_values(form))]
    pairs = list(itertools.pairwise(values))
    if not pairs:
        raise form.error(f"an ordinal needs at least two values, found {len(values)}", "a plain value is fixed")
    if not (all(left < right for left, right in pairs) or all(left > right for left, right in pairs)):
        raise form.error(f"an ordinal is in order, found {shown(values)}", f"in order: {shown(sorted(values))}")
    return Ordinal(tuple(values))


def _read_uniform(form: Form) -> Uniform:
    low, high = (float(end) for end in _range(form))
    if "step" not in form.entries:
        return Uniform(low, high)
    step = float(_number(form, form.entries["step"], ("step",)))
    _check_step(form, low, high, step)
    return Uniform(low, high, step)


def _read_loguniform(form: Form) -> LogUniform:
    low, high = _range(form)
    _check_positive(form, low)
    return LogUniform(float(low), float(high))


def _read_int(form: Form) -> Int:
    low, high = (_whole(form, end, ("int", at)) for at, end in enumerate(_range(form)))
    log = form.entries.get("log", False)
    if not isinstance(log, bool):
        raise form.error(f"log is true or false, found {shown(log)}", None, ("log",))
    if log and "step" in form.entries:
        raise form.error("log and step exclude each other", "leave one of them out", ("step",))
    if log:
        _check_positive(form, low)
    step = _whole(form, form.entries.get("step", 1), ("step",))
    _check_step(form, low, high, step)
    return Int(low, high, step, log)


def _read_value(form: Form) -> Fixed:
    check_literal(form.content, form, ("value",))
    return Fixed(form.content)


READERS: dict[str, Callable[[Form], Domain | Fixed]] = {
    "choice": _read_choice,
    "branches": _read_choice,
    "ordinal": _read_ordinal,
    "uniform": _read_uniform,
    "loguniform": _read_loguniform,
    "int": _read_int,
    "grid": _read_grid,
    "value": _read_value,
}


def _values(form: Form) -> tuple[Any, ...]:
    if not isinstance(form.content, list):
        raise form.error(f"'{form.kind}' takes a list of values, found {shown(form.content)}", f"{form.kind}: [a, b]")
    check_literal(form.content, form, (form.kind,))
    return _distinct(form, form.content)


def _distinct(form: Form, values: Sequence[Any]) -> tuple[Any, ...]:
    """The values, none of which equals another; 1, 1.0 and true are equal."""
    first: dict[Any, Any] = {}
    for at, value in enumerate(values):
        same = ("JSON", shown(value), str(value)) if isinstance(value, (list, dict)) else value
        if same in first:
            message = f"{shown(first[same])} and {shown(value)} are the same value"
            raise form.error(message, "leave one of them out", (form.kind, at))
        first[same] = value
    return tuple(values)


def _range(form: Form) -> tuple[Any, Any]:
    if not (isinstance(form.content, list) and len(form.content) == 2):
        raise form.error(f"'{form.kind}' takes [low, high], found {shown(form.content)}")
    low, high = (_number(form, end, (form.kind, at)) for at, end in enumerate(form.content))
    if low >= high:
        hint = "write the smaller one first" if low > high else "a plain value is fixed"
        raise form.error(f"the low end must be less than the high end, found {shown([low, high])}", hint)
    return low, high


def _number(form: Form, value: Any, below: KeyPath) -> Any:
    if is_number_text(value):
        raise form.error(f"{shown(value)} is text, not a number", "leave the quotes out", below)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise form.error(f"expected a number, found {shown(value)}", None, below)
    if not math.isfinite(value):
        raise form.error(f"expected a finite number, found {value}", None, below)
    return value


def _whole(form: Form, value: Any, below: KeyPath) -> int:
    number = _number(form, value, below)
    if not isinstance(number, int):
        hint = f"write {int(number)}" if number == int(number) else "uniform is the range of any numbers"
        raise form.error(f"expected a whole number, found {shown(number)}", hint, below)
    return number


def _check_positive(form: Form, low: float) -> None:
    if low <= 0:
        raise form.error(f"a logarithmic range begins above 0, found {shown(low)}")


def _check_step(form: Form, low: float, high: float, step: float) -> None:
    if step <= 0:
        raise form.error(f"a step is more than 0, found {shown(step)}", None, ("step",))
    exact_low, exact_high, exact_step = (Fraction(repr(number)) for number in (low, high, step))
    count, rest = divmod(exact_high - exact_low, exact_step)
    if rest:
        ends = [exact_low + steps * exact_step for steps in (count, count + 1) if steps]
        hint = f"it could end at {' or '.join(shown(type(low)(end)) for end in ends)}"
        raise form.error(f"steps of {shown(step)} from {shown(low)} do not reach {shown(high)}", hint, ("step",))
