"""Expressions of `when:` and `constraints:`, parsed against a whitelist and evaluated here; Python never runs them.

They know `and or not`, comparisons (also chained), `in`, `+ - * / // %`, literals, lists and dotted names of settings.
One rule for settings that are inactive, such as those of a branch not taken: a comparison that involves one is false.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from raysweep.problems import UserError
from raysweep.validation import shown
from raysweep.yaml_file import Spot

WORDS = {"true": True, "false": False, "null": None}  # as YAML writes them
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
ALLOWED = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BinOp, *ARITHMETIC),
    *(ast.Compare, ast.Eq, ast.NotEq, *ORDER, ast.In, ast.NotIn, ast.Constant, ast.List, ast.Tuple, ast.Load),
)
SYNTAX = "`==` compares; `and`, `or`, `not` join conditions; text stands in quotes"
INACTIVE = object()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an expression comes to, and which inactive settings were involved."""

    holds: bool
    inactive: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed condition; `names` are the settings it speaks of."""

    text: str
    tree: ast.expr
    names: frozenset[str]
    spot: Spot

    def __str__(self) -> str:
        return self.text

    def judge(self, config: Mapping[str, Any]) -> Verdict:
        """The condition for a flat configuration. Raises UserError when it cannot be computed."""
        evaluation = _Evaluation(config)
        try:
            return Verdict(evaluation.truth(self.tree), tuple(dict.fromkeys(evaluation.inactive)))
        except (ExpressionError, ArithmeticError) as error:
            values = ", ".join(f"{name} = {shown(config[name])}" for name in sorted(self.names & config.keys()))
            message = f"`{self.text}` cannot be computed: {error}"
            raise UserError([self.spot.problem(message, f"with {values}" if values else None)]) from None

    def holds(self, config: Mapping[str, Any]) -> bool:
        return self.judge(config).holds

    def compared(self) -> Iterator[tuple[str, Any]]:
        """Each setting that is compared for equality with a literal, and the literal."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq, ast.In, ast.NotIn)):
                sides = [node.left, node.comparators[0]]
                names = [name for side in sides if (name := _dotted(side)) and name not in WORDS]
                literals = [leaf.value for side in sides for leaf in _leaves(side) if isinstance(leaf, ast.Constant)]
                yield from ((name, literal) for name in names for literal in literals)


class ExpressionError(ValueError):
    """An expression that cannot be computed for some configuration."""


def parse_expression(text: Any, spot: Spot) -> Expression:
    """Parse one condition. Raises UserError when it is none."""
    if not isinstance(text, str):
        raise UserError([spot.problem(f"expected a condition such as `train.epochs > 1`, found {shown(text)}")])
    source = text.strip().replace("\n", " ")
    try:
        tree = ast.parse(source, mode="eval").body
        names = frozenset(_names(tree, source))
    except SyntaxError as error:
        raise UserError([spot.problem(f"`{source}` is no condition: {error.msg}", SYNTAX)]) from None
    except (ValueError, RecursionError, MemoryError):
        raise UserError([spot.problem(f"`{source[:60]}` is no condition: unreadable or nested too deeply")]) from None
    return Expression(source, tree, names, spot)


def _names(node: ast.AST, source: str) -> Iterator[str]:
    """Dotted names below a node. Raises SyntaxError at whatever is not on the whitelist."""
    if name := _dotted(node):
        if name not in WORDS:
            yield name
        return
    constant = not isinstance(node, ast.Constant) or isinstance(node.value, (bool, int, float, str, type(None)))
    if not isinstance(node, ALLOWED) or not constant:
        found = ast.get_source_segment(source, node) if hasattr(node, "lineno") else None
        what = f"'{found}' ({type(node).__name__})" if found else type(node).__name__
        raise SyntaxError(f"{what} is not allowed")
    for child in ast.iter_child_nodes(node):
        yield from _names(child, source)


def _dotted(node: ast.AST) -> str | None:
    """`train.lr` for a chain of attributes that begins with a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (group := _dotted(node.value)):
        return f"{group}.{node.attr}"
    return None


def _leaves(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node]


class _Evaluation:
    """One walk over an expression's tree."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.inactive: list[str] = []

    def truth(self, node: ast.expr) -> bool:
        value = self._value(node)
        if value is INACTIVE:
            return False
        if not isinstance(value, bool):
            raise ExpressionError(f"`{ast.unparse(node)}` is {shown(value)}, neither true nor false; compare it")
        return value

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name() | ast.Attribute():
                return self._setting(_dotted(node) or "")
            case ast.BoolOp(op=ast.And(), values=parts):
                return all(self.truth(part) for part in parts)
            case ast.BoolOp(values=parts):
                return any(self.truth(part) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return not self.truth(part)
            case ast.UnaryOp(op=ast.USub(), operand=part):
                return self._arithmetic(operator.sub, 0, self._value(part))
            case ast.UnaryOp(operand=part):
                return self._arithmetic(operator.add, 0, self._value(part))
            case ast.BinOp(left=left, op=op, right=right):
                return self._arithmetic(ARITHMETIC[type(op)], self._value(left), self._value(right))
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                values = [self._value(part) for part in parts]
                return INACTIVE if any(value is INACTIVE for value in values) else values
            case ast.Compare():
                return self._compare(node)
        raise AssertionError(f"{type(node).__name__} passed the whitelist")

    def _setting(self, name: str) -> Any:
        if name in WORDS:
            return WORDS[name]
        if name not in self._config:
            self.inactive.append(name)
            return INACTIVE
        return self._config[name]

    def _arithmetic(self, operation: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
        if left is INACTIVE or right is INACTIVE:
            return INACTIVE
        for value in (left, right):
            if not _is_number(value):
                raise ExpressionError(f"{shown(value)} is no number")
        return operation(left, right)

    def _compare(self, node: ast.Compare) -> bool:
        values = [self._value(part) for part in (node.left, *node.comparators)]
        if any(value is INACTIVE for value in values):
            return False
        return all(_related(op, left, right) for op, left, right in zip(node.ops, values, values[1:], strict=False))


def _related(op: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(op, (ast.Eq, ast.NotEq)):
        return bool(left == right) is isinstance(op, ast.Eq)
    if isinstance(op, (ast.In, ast.NotIn)):
        if not isinstance(right, list) and not (isinstance(left, str) and isinstance(right, str)):
            raise ExpressionError(f"{shown(right)} is no list to look for {shown(left)} in")
        return (left in right) is isinstance(op, ast.In)
    both_text = isinstance(left, str) and isinstance(right, str)
    if not both_text and not (_is_number(left) and _is_number(right)):
        raise ExpressionError(f"{shown(left)} and {shown(right)} have no order")
    return ORDER[type(op)](left, right)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
