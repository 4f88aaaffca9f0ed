"""What is told of a space that is wrong: the words, the line, and all of it at once."""

import pytest

from raysweep.problems import UserError
from raysweep.space import Space, compile_space
from raysweep.yaml_file import parse_yaml


def compiled(text: str) -> Space:
    file = parse_yaml(text, "f.yaml")
    return compile_space(file.data["space"], file.data.get("constraints", []), file.place)


def problems(text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        compiled(text)
    return [str(problem) for problem in caught.value.problems]


def problem(setting: str) -> str:
    """The one problem of a space that holds `x` and an innocent neighbour."""
    (found,) = problems(f"space:\n  a: {{choice: [1, 2]}}\n  x: {setting}\n")
    return found


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("{logunifrom: [1e-5, 1e-3]}", "f.yaml:3: x: unknown domain 'logunifrom' (did you mean 'loguniform'?)"),
        ("{choise: [a, b]}", "f.yaml:3: x: unknown domain 'choise' (did you mean 'choice'?)"),
        ("{when: a == 1}", "f.yaml:3: x: no domain here"),
        ("{}", "f.yaml:3: x: no settings here ({value: {}} is an empty mapping)"),
        ("{choice: [1, 2], grid: [3]}", "f.yaml:3: x: two domains, 'choice' and 'grid'; expected one"),
        ("{choice: [1, 2], wen: a == 1}", "f.yaml:3: x: unknown key \"wen\" beside 'choice' (did you mean 'when'?)"),
        ("{uniform: [0, 1], log: true}", "'uniform' takes no 'log' (loguniform is the logarithmic range)"),
        ("{loguniform: [1, 2], step: 1}", "'loguniform' takes no 'step'"),
        ("{int: [1, 8], log: true, step: 2}", "log and step exclude each other"),
        ("{int: [1, 8], log: 1}", "log is true or false, found 1"),
        ("{uniform: [1, 0]}", "the low end must be less than the high end, found [1, 0] (write the smaller one first)"),
        ("{int: [3, 3]}", "the low end must be less than the high end, found [3, 3] (a plain value is fixed)"),
        ("{uniform: [0, 1, 2]}", "'uniform' takes [low, high], found [0, 1, 2]"),
        ("{uniform: {min: 0, max: 1}}", '\'uniform\' takes [low, high], found {"min": 0, "max": 1}'),
        ("{loguniform: [0, 1]}", "a logarithmic range begins above 0, found 0"),
        ("{int: [0, 9], log: true}", "a logarithmic range begins above 0, found 0"),
        ('{loguniform: ["2e-5", 1e-3]}', 'x: "2e-5" is text, not a number (leave the quotes out)'),
        ("{uniform: [zero, 1]}", 'expected a number, found "zero"'),
        ("{uniform: [0, .inf]}", "expected a finite number, found inf"),
        ("{uniform: [0, .nan]}", "expected a finite number, found nan"),
        ("{int: [true, 3]}", "expected a number, found true"),
        ("{int: [1, 1e3]}", "expected a whole number, found 1000.0 (write 1000)"),
        ("{int: [0.5, 3]}", "expected a whole number, found 0.5 (uniform is the range of any numbers)"),
        ("{uniform: [0.1, 0.2], step: 0.03}", "steps of 0.03 from 0.1 do not reach 0.2 (it could end at 0.19 or 0.22)"),
        ("{int: [1, 10], step: 4}", "steps of 4 from 1 do not reach 10 (it could end at 9 or 13)"),
        ("{int: [1, 3], step: 4}", "steps of 4 from 1 do not reach 3 (it could end at 5)"),
        ("{uniform: [0, 1], step: 0}", "a step is more than 0, found 0.0"),
        ("{uniform: [0, 1], step: null}", "expected a number, found null"),
        ("{ordinal: [1, 4, 2]}", "an ordinal is in order, found [1, 4, 2] (in order: [1, 2, 4])"),
        ("{ordinal: [a, b]}", 'expected a number, found "a"'),
        ("{ordinal: [1]}", "an ordinal needs at least two values, found 1"),
        ("{choice: [a]}", 'a choice of one value is no choice: found ["a"] (a plain value is fixed)'),
        ("{choice: {a: {b: 1}}}", 'a choice of one value is no choice: found ["a"] (a plain value is fixed)'),
        ("{choice: []}", "a choice of one value is no choice: found []"),
        ("{choice: a}", "'choice' takes a list of values, found \"a\" (choice: [a, b])"),
        ("{choice: [1, 2, 1.0]}", "1 and 1.0 are the same value"),
        ("{choice: [[1], [1]]}", "[1] and [1] are the same value"),
        ("{grid: []}", "a grid needs at least one value, found none"),
        ("{grid: [1], when: a == 1}", "a grid takes no 'when'"),
        ("{choice: {p: {y: {grid: [1, 2]}}, q: {}}}", "y: a grid cannot stand in a branch"),
        ("{choice: {p: 5, q: {}}}", 'the branch "p" takes settings, found 5 ({} for a branch without any)'),
        ("{choice: [{1: a}, b]}", "keys within a value are text, found 1 (quotes make it text)"),
        ("{value: {a: {true: b}}}", "keys within a value are text, found true"),
        ("{branches: 3}", "'branches' takes [[name, sub-space], ...], found 3"),
        ("{int: [1, 2], when: b == 1}", "`b == 1`: the space has no setting 'b'"),
        ("{int: [1, 2], when: x == 1}", "settings depend on each other in a circle: x -> x"),
        ("{int: [1, 2], when: a = 1}", "`a = 1` is no condition"),
        ("{int: [1, 2], when: true}", "expected a condition"),
    ],
)
def test_each_mistake_has_its_words_and_line(setting: str, message: str) -> None:
    found = problem(setting)
    assert message in found
    assert found.startswith("f.yaml:3: ")


def test_all_mistakes_come_at_once() -> None:
    text = """
space:
  a: {loguniform: [-1, 2]}
  b: {choice: [x]}
  c: {int: [1, 2], when: a > 1 and bb == 'x' and d == 1}
  "": 1
  train..lr: 2
  7: 3
constraints:
  - {if: c == 1, thn: a > 1}
  - {not: a > 1, if: c > 1}
  - {if: c == 1, then: a > 1, why: 5}
  - c = 1
  - f(c)
  - c < e
  - 5
"""
    found = problems(text)
    lines = [int(problem.split(":")[1]) for problem in found]
    assert sorted(lines) == [3, 4, 5, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16]


def test_names_that_are_near() -> None:
    (found,) = problems("space: {train.lr: {uniform: [0, 1]}}\nconstraints: [train.lrr < 1]")
    assert found == "f.yaml:2: `train.lrr < 1`: the space has no setting 'train.lrr' (did you mean 'train.lr'?)"


def test_conditions_in_a_circle() -> None:
    text = "space:\n  a: {int: [1, 2], when: b > 1}\n  b: {int: [1, 2], when: c > 1}\n  c: {int: [1, 2], when: a > 1}\n"
    (found,) = problems(text)
    assert found.startswith("f.yaml:4: settings depend on each other in a circle: ")
    assert set(found.rpartition(": ")[2].split(" -> ")) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "text",
    [
        "space:\n  a.b: 1\n  a:\n    b: 2\n",
        "space:\n  m: {choice: {x: {a.b: 1}, y: {}}}\n  c: 1\n  a: {b: 2}\n",
        "space:\n  m: {choice: {x: {a.b: 1}, y: {}}}\n  n: 3\n  k: {choice: {x: {a.b: 1}, y: {}}}\n",
    ],
)
def test_a_setting_cannot_stand_twice(text: str) -> None:
    (found,) = problems(text)
    assert found.startswith("f.yaml:4: a.b is set twice, first on line 2")


def test_a_branch_cannot_set_its_own_choice() -> None:
    assert "m is set twice" in problems("space: {m: {choice: {x: {m: 1}, y: {}}}}")[0]
