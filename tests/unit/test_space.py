"""The grammar of a space: what it means, and what is told when it is wrong."""

import subprocess
import sys
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial

from raysweep.problems import UserError
from raysweep.space import Space, compile_space
from raysweep.space.domains import Choice, Fixed, Int, LogUniform, Ordinal, Uniform
from raysweep.yaml_file import parse_yaml

FULL = """
space:
  data.task: sst2
  data.columns: [first, second]
  train:
    lr: {loguniform: [1e-5, 2e-4]}
    weight_decay: {uniform: [0.0, 0.1], step: 0.01}
    batch_size: {ordinal: [16, 32, 64, 128]}
    schedule: {choice: [linear, cosine, constant]}
    warmup: {uniform: [0.0, 0.2], step: 0.02, when: train.schedule != 'constant'}
  train.accumulate: {choice: [1, 2, 4]}
  train.data_seed: {grid: [0, 1]}
  dendrites.enabled: {choice: [false, true]}
  dendrites.count: {int: [1, 5], when: dendrites.enabled}
  dendrites.patience: {int: [2, 20], log: true, when: dendrites.enabled and dendrites.count > 1}
  pruning.method:
    choice:
      none:
      magnitude: {pruning: {sparsity: {uniform: [0.30, 0.95], step: 0.05}}}
      head: {pruning.heads: {choice: [0.1, 0.25, 0.5]}}
      2:4: {pruning.sparsity: 0.5}
      no: {pruning.sparsity: {uniform: [0.5, 0.97]}}
  quant.samples: {int: [128, 512], step: 128, when: pruning.heads > 0.2}
constraints:
  - train.batch_size * train.accumulate <= 256
  - {if: pruning.method == '2:4', then: train.schedule == 'linear', why: no other was tried}
  - {not: pruning.method == 'head' and dendrites.enabled}
"""


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


def by_name(space: Space) -> dict[str, Any]:
    return {dimension.name: dimension for dimension in space.settings}


def test_domains_are_what_was_written() -> None:
    found = {name: dimension.domain for name, dimension in by_name(compiled(FULL)).items()}
    assert found["train.lr"] == LogUniform(1e-5, 2e-4)
    assert found["train.weight_decay"] == Uniform(0.0, 0.1, 0.01)
    assert found["train.batch_size"] == Ordinal((16, 32, 64, 128))
    assert found["dendrites.patience"] == Int(2, 20, log=True)
    assert found["quant.samples"] == Int(128, 512, 128)
    assert found["pruning.method"] == Choice(("none", "magnitude", "head", "2:4", "no"))
    assert found["pruning.sparsity@2:4"] == Fixed(0.5)
    assert found["pruning.sparsity@magnitude"] == Uniform(0.3, 0.95, 0.05)
    assert found["pruning.sparsity@no"] == Uniform(0.5, 0.97)


def test_nested_and_dotted_names_are_the_same() -> None:
    assert compiled(FULL).fixed == {"data.task": "sst2", "data.columns": ["first", "second"]}
    assert compiled("space: {a: {b: {c: 1}}, a.d: 2, a.b.e: 3}").fixed == {"a.b.c": 1, "a.d": 2, "a.b.e": 3}


def test_every_setting_follows_what_it_depends_on() -> None:
    space = compiled("space: {c: {int: [1, 2], when: b > 1}, b: {int: [1, 2], when: a > 1}, a: {int: [1, 2]}}")
    assert [setting.path for setting in space.settings] == ["a", "b", "c"]
    assert list(space.suggest(FixedTrial({"a": 2, "b": 2, "c": 1}))) == ["c", "b", "a"]  # the file's order


def test_a_condition_on_a_setting_of_a_branch_not_taken_is_false() -> None:
    space = compiled(FULL)
    config = {"train.schedule": "linear", "pruning.method": "magnitude", "pruning.sparsity": 0.5}
    assert not by_name(space)["quant.samples"].active(config)
    assert by_name(space)["quant.samples"].active({"pruning.method": "head", "pruning.heads": 0.25})


def test_a_branch_gives_its_fixed_value() -> None:
    params = {"train.lr": 1e-4, "train.weight_decay": 0.0, "train.batch_size": 0, "train.schedule": "linear"}
    params |= {"train.accumulate": 1, "train.warmup": 0.1, "dendrites.enabled": False, "pruning.method": "2:4"}
    config = compiled(FULL).suggest(FixedTrial(params), 1)
    assert config["pruning.sparsity"] == 0.5
    assert config["train.batch_size"] == 16
    assert config["train.data_seed"] == 1
    assert "dendrites.count" not in config


def test_branches_may_be_flags_and_numbers() -> None:
    space = compiled("space: {flag: {choice: {true: {a: 1}, false: {}}}, rate: {choice: {0.5: {b: 1}, 2: {b: 2}}}}")
    assert space.suggest(FixedTrial({"flag": True, "rate": 2})) == {"flag": True, "a": 1, "rate": 2, "b": 2}
    assert {"a@true", "b@0.5", "b@2"} <= by_name(space).keys()


def test_branches_may_hold_choices() -> None:
    text = "space: {m: {choice: {x: {n: {choice: {p: {s: 1}, q: {s: {int: [2, 3]}}}}}, y: {s: 4}}}}"
    space = compiled(text)
    assert {"s@x@p", "s@x@q", "s@y"} <= by_name(space).keys()
    assert space.suggest(FixedTrial({"m": "x", "n@x": "q", "s@x@q": 3})) == {"m": "x", "n": "q", "s": 3}
    assert space.suggest(FixedTrial({"m": "y"})) == {"m": "y", "s": 4}


def test_choices_of_lists_and_mappings_come_back_as_such() -> None:
    space = compiled("space: {layers: {choice: [[1, 2], [3], null, a, {b: [true]}]}}")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = {str(space.suggest(study.ask())["layers"]) for _ in range(60)}
    assert found == {"[1, 2]", "[3]", "None", "a", "{'b': [True]}"}
    assert [space.suggest(FixedTrial(point))["layers"] for point in space.points()] == [[1, 2], [3], None, "a", {"b": [True]}]


def test_literal_mappings() -> None:
    assert compiled("space: {x: {value: {uniform: [0, 1]}}}").fixed == {"x": {"uniform": [0, 1]}}


def test_a_space_may_be_all_fixed_or_empty() -> None:
    assert compiled("space: {a: 1}").suggest(FixedTrial({})) == {"a": 1}
    assert compiled("space: {}").points() == [{}]


def test_steps_have_no_rounding_noise() -> None:
    space = compiled("space: {x: {uniform: [0.3, 0.95], step: 0.05}}")
    values = [space.suggest(FixedTrial(point))["x"] for point in space.points()]
    assert values == [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert space.suggest(FixedTrial({"x": 0.35000000000000003})) == {"x": 0.35}  # as Optuna computes it


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
        ("{uniform: {min: 0, max: 1}}", "'uniform' takes [low, high], found {\"min\": 0, \"max\": 1}"),
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
        ("{choice: {p: 5, q: {}}}", "the branch \"p\" takes settings, found 5 ({} for a branch without any)"),
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


def test_the_grid_is_an_outer_product_in_the_files_order() -> None:
    space = compiled("space: {seed: {grid: [0, 1, 2]}, x: {choice: [5, 6]}, task: {grid: [a, b]}}")
    assert space.grid_size == 6
    cells = [space.suggest(FixedTrial({"x": 5}), cell) for cell in range(6)]
    assert [(cell["seed"], cell["task"]) for cell in cells] == [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert space.points() == [{"x": 5}, {"x": 6}]


def test_a_condition_may_depend_on_the_grid() -> None:
    space = compiled("space: {task: {grid: [a, b]}, x: {choice: [5, 6], when: task == 'b'}}")
    assert space.points() == [{"x": 5}, {"x": 6}]
    assert [space.suggest(FixedTrial({"x": 6}), cell) for cell in (0, 1)] == [{"task": "a"}, {"task": "b", "x": 6}]


def test_a_grid_of_ten_thousand_points_is_quickly_there() -> None:
    space = compiled(f"space: {{a: {{grid: {list(range(10_000))}}}, x: {{int: [1, 2]}}}}")
    assert space.suggest(FixedTrial({"x": 1}), 9_999) == {"a": 9_999, "x": 1}
    points = compiled("space: {a: {int: [1, 100]}, b: {uniform: [0, 99], step: 1}}").points()
    assert len({tuple(point.values()) for point in points}) == 10_000


def test_points_of_branches_and_conditions() -> None:
    text = """
space:
  flag: {choice: [true, false]}
  count: {int: [1, 2], when: flag}
  m: {choice: {x: {s: {ordinal: [1, 4]}}, y: {s: 0}}}
"""
    space = compiled(text)
    configs = [tuple(space.suggest(FixedTrial(point)).values()) for point in space.points()]
    branches = [("x", 1), ("x", 4), ("y", 0)]
    assert configs == [(*a, *b) for a in [(True, 1), (True, 2), (False,)] for b in branches]


def test_points_name_the_first_range() -> None:
    with pytest.raises(UserError, match=r"f.yaml:3: b: a grid search cannot try all of a range"):
        compiled("space:\n  a: {uniform: [0, 1], step: 0.5}\n  b: {uniform: [0, 1]}\n  c: {loguniform: [1, 2]}").points()


def test_points_beyond_counting_are_refused() -> None:
    with pytest.raises(UserError, match="more than 100,000 points"):
        compiled("space: {a: {int: [1, 1000000000]}, b: {int: [1, 9]}}").points()


CONFIG = {"train.batch_size": 64, "train.accumulate": 4, "train.schedule": "linear", "pruning.method": "none", "dendrites.enabled": True}


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, None),
        ({"train.batch_size": 128}, "train.batch_size * train.accumulate <= 256"),
        ({"pruning.method": "2:4"}, None),
        (
            {"pruning.method": "2:4", "train.schedule": "cosine"},
            "if pruning.method == '2:4' then train.schedule == 'linear': no other was tried",
        ),
        ({"pruning.method": "head"}, "not (pruning.method == 'head' and dendrites.enabled)"),
    ],
)
def test_constraints(changes: dict[str, Any], broken: str | None) -> None:
    assert compiled(FULL).violated(CONFIG | changes) == broken


def test_constraints_over_inactive_settings() -> None:
    space = compiled("space: {a: {choice: {x: {s: 1}, y: {}}}}\nconstraints: [{not: s > 5}, {if: s > 0, then: s < 3}, s < 3]")
    assert space.violated({"a": "x", "s": 1}) is None
    assert space.violated({"a": "y"}) == "s < 3"  # the comparison is false
    assert [rule.inactive({"a": "y"}) for rule in space.constraints] == [(), (), ("s",)]


def test_the_share_that_constraints_reject() -> None:
    space = compiled("space: {x: {int: [1, 4]}, y: {int: [1, 10]}}\nconstraints: [x > 1, y > 5]")
    # 1 - 3/4 * 1/2; the standard deviation of 4000 draws is 0.008
    assert space.rejected_share(draws=4000, seed=1) == pytest.approx(0.625, abs=0.04)
    rule, share = space.strictest(draws=4000, seed=1)
    assert (str(rule), share) == ("y > 5", pytest.approx(0.5, abs=0.04))


def test_a_constraint_that_cannot_be_computed() -> None:
    space = compiled("space: {x: {int: [0, 1]}}\nconstraints:\n  - 1 / x > 0")
    with pytest.raises(UserError, match=r"f.yaml:3: `1 / x > 0` cannot be computed: division by zero \(with x = 0\)"):
        space.violated({"x": 0})


def test_draws_are_uniform_over_their_domain() -> None:
    space = compiled("space: {a: {int: [1, 100], log: true}, b: {loguniform: [1e-4, 1]}, c: {uniform: [0, 1], step: 0.25}}")
    rng = np.random.default_rng(0)
    drawn = [space.draw(rng) for _ in range(4000)]
    assert np.mean([config["b"] < 1e-2 for config in drawn]) == pytest.approx(0.5, abs=0.04)
    # P(a <= 10) = log(10.5 / 0.5) / log(100.5 / 0.5) on the scale Optuna uses too
    assert np.mean([config["a"] <= 10 for config in drawn]) == pytest.approx(0.574, abs=0.04)
    assert [np.mean([config["c"] == value for config in drawn]) for value in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(
        [0.2] * 5, abs=0.04
    )


def test_replaced_settings_take_what_depends_on_them_along() -> None:
    space = compiled(FULL)
    winner = {"data.task": "sst2", "dendrites.enabled": True, "dendrites.count": 3, "dendrites.patience": 5}
    winner |= {"pruning.method": "magnitude", "pruning.sparsity": 0.7, "recipe.own": 1}
    plain = space.replaced(winner, {"dendrites.enabled": False, "pruning.method": "none"})
    assert {"dendrites.enabled", "pruning.method", "recipe.own"} <= plain.keys()
    assert not {"dendrites.count", "dendrites.patience", "pruning.sparsity"} & plain.keys()
    assert space.replaced(winner, {"pruning.method": "2:4"})["pruning.sparsity"] == 0.5
    assert "pruning.sparsity" not in space.replaced(winner, {"pruning.method": "no"})  # another branch's 0.7
    assert space.replaced(winner, {"pruning.method": "no", "pruning.sparsity": 0.6})["pruning.sparsity"] == 0.6


ORDER = """
from raysweep.space import compile_space
from raysweep.yaml_file import Place
names = [f"n{i}" for i in range(12)]
space = {"first": {"int": [1, 2], "when": " or ".join(f"{name} > 1" for name in names)}}
space |= {name: {"int": [1, 3]} for name in names}
print([setting.path for setting in compile_space(space, [], Place()).settings])
"""


def test_the_order_is_the_same_in_every_process() -> None:
    outputs = [
        subprocess.run([sys.executable, "-c", ORDER], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        for seed in ("1", "2")
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert outputs[0].stdout.startswith("['n0', 'n1', 'n2'")
