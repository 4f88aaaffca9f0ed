"""Conditions: the whitelist, the arithmetic against Python's own, and the rule for inactive settings."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raysweep.problems import UserError
from raysweep.space.expressions import parse_expression
from raysweep.yaml_file import Spot

HERE = Spot("f.yaml", 7)


def holds(text: str, **config: object) -> bool:
    return parse_expression(text, HERE).holds({name.replace("__", "."): value for name, value in config.items()})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a * b <= 6", True),
        ("1 < a < b < 4", True),
        ("1 < a < a", False),
        ("a in [1, 2] and b not in (1, 2)", True),
        ("'ag' in t", True),
        ("t == 'magnitude' or a / 0 > 1", True),  # `or` does not look further
        ("t != '2:4'", True),
        ("not flag", True),
        ("flag == false and t != null", True),
        ("-a < +b", True),
        ("b // a == 1 and b % a == 1 and b / a == 1.5", True),
        ("a + b - 1 == 4", True),
        ("train.lr < 1e-3", True),
        ("a == 2\nand b == 3", True),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    assert holds(text, a=2, b=3, t="magnitude", flag=False, train__lr=1e-4) is expected


@st.composite
def arithmetic(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(["x", "y.z"]) | st.integers(-9, 9).map(lambda number: f"({number})"))
    operation = draw(st.sampled_from(["+", "-", "*", "/", "//", "%"]))
    return f"({draw(arithmetic(depth - 1))} {operation} {draw(arithmetic(depth - 1))})"


@given(
    arithmetic(),
    arithmetic(),
    st.sampled_from(["<", "<=", "==", "!=", ">", ">="]),
    st.integers(-9, 9),
    st.integers(-9, 9),
)
def test_arithmetic_is_pythons(left: str, right: str, order: str, x: int, y: int) -> None:
    text = f"{left} {order} {right}"
    try:
        expected = eval(text.replace("y.z", "y"), {"x": x, "y": y})
    except ZeroDivisionError:
        assume(False)
    assert parse_expression(text, HERE).holds({"x": x, "y.z": y}) is expected


@pytest.mark.parametrize(
    "text",
    [
        "count < 3",
        "count >= 3",
        "count == count",
        "count != 3",
        "3 in [count]",
        "count + 1 > 0",
        "1 < 2 < count",
        "count",
    ],
)
def test_a_comparison_with_an_inactive_setting_is_false(text: str) -> None:
    verdict = parse_expression(text, HERE).judge({})
    assert not verdict.holds
    assert verdict.inactive == ("count",)
    assert holds(f"not ({text})")


def test_inactive_settings_count_only_where_they_are_looked_at() -> None:
    assert parse_expression("enabled and count < 3", HERE).judge({"enabled": False}).inactive == ()
    assert holds("enabled == false or count < 3", enabled=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__import__('os').system('x')", r"\(Call\) is not allowed"),
        ("a == 1 and len(b) > 1", r"'len\(b\)' \(Call\) is not allowed"),
        ("a[0] == 1", "Subscript"),
        ("(lambda: 1) == 1", "Lambda"),
        ("1 if a else 2", "IfExp"),
        ("a ** 9 > 1", "Pow"),
        ("a is b", "Is is not allowed"),
        ("{1: 2} == a", "Dict"),
        ("[x for x in a] == a", "ListComp"),
        ("f'{a}' == 'x'", "JoinedStr"),
        ("b'x' == a", "Constant"),
        ("1j == a", "Constant"),
        ("(a := 1) == 1", "NamedExpr"),
        ("a & b", "BitAnd"),
        ("~a == 1", "Invert"),
        ("'x'.join == a", "Attribute"),
        ("a = 1", "`==` compares"),
        ("a == 1 && b == 2", "`and`, `or`, `not` join"),
        ("", "no condition"),
        ("a ==", "no condition"),
        ("a == '\x00'", "no condition"),
        ("(" * 300 + "a" + ")" * 300, "no condition"),
        ("not " * 100_000 + "a", "no condition"),
    ],
)
def test_all_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse_expression(text, HERE)
    assert str(caught.value).startswith("f.yaml:7: ")


@pytest.mark.parametrize("value", [True, 5, None, ["a"]])
def test_a_condition_is_text(value: object) -> None:
    with pytest.raises(UserError, match="expected a condition"):
        parse_expression(value, HERE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / (a - 2) > 0", "division by zero"),
        ("a % 0 == 1", "modulo"),
        ("t < a", '"none" and 2 have no order'),
        ("t * 1000000 == a", '"none" is no number'),
        ("flag + 1 == 2", "true is no number"),
        ("flag < 2", "true and 2 have no order"),
        ("a in a", "2 is no list"),
        ("t", '"none", neither true nor false; compare it'),
        ("a and flag", "2, neither true nor false"),
        ("not a", "neither true nor false"),
    ],
)
def test_what_cannot_be_computed_says_with_which_values(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        holds(text, a=2, t="none", flag=True)
    assert "cannot be computed" in str(caught.value)
    assert str(caught.value).startswith("f.yaml:7: ")


def test_names_and_comparisons_are_known() -> None:
    expression = parse_expression("train.lr < 1 and method in ['a', 'b'] and 'c' != kind and flag == true", HERE)
    assert expression.names == {"train.lr", "method", "kind", "flag"}
    assert set(expression.compared()) == {("method", "a"), ("method", "b"), ("kind", "c")}
