"""The domain that a form stands for, such as `{uniform: [0, 1], step: 0.1}`, with all that can be wrong in it."""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from raysweep.problems import UserError
from raysweep.space.domains import Choice, Domain, Fixed, Grid, Int, LogUniform, Ordinal, Uniform
from raysweep.space.form import Form, check_literal, read_branches, wrong_keys
from raysweep.validation import is_number_text, shown
from raysweep.yaml_file import KeyPath


def read_domain(form: Form) -> Domain | Fixed:
    """The domain of a setting; of a choice with branches, their names. Raises UserError with all its problems."""
    problems = list(wrong_keys(form))
    try:
        domain = READERS[form.kind](form)
    except UserError as error:
        raise UserError([*problems, *error.problems]) from None
    if problems:
        raise UserError(problems)
    return domain


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
