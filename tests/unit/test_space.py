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
    assert [space.suggest(FixedTrial(point))["layers"] for point in space.points()] == [
        [1, 2],
        [3],
        None,
        "a",
        {"b": [True]},
    ]


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


def test_the_grid_is_an_outer_product_in_the_files_order() -> None:
    space = compiled("space: {seed: {grid: [0, 1, 2]}, x: {choice: [5, 6]}, task: {grid: [a, b]}}")
    assert space.grid_size == 6
    cells = [space.suggest(FixedTrial({"x": 5}), cell) for cell in range(6)]
    assert [(cell["seed"], cell["task"]) for cell in cells] == [
        (0, "a"),
        (0, "b"),
        (1, "a"),
        (1, "b"),
        (2, "a"),
        (2, "b"),
    ]
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
    assert len(configs) == 9
    assert set(configs) == {(*a, *b) for a in [(True, 1), (True, 2), (False,)] for b in branches}


def test_points_name_the_first_range() -> None:
    with pytest.raises(UserError, match=r"f.yaml:3: b: a grid search cannot try all of a range"):
        compiled(
            "space:\n  a: {uniform: [0, 1], step: 0.5}\n  b: {uniform: [0, 1]}\n  c: {loguniform: [1, 2]}"
        ).points()


def test_points_beyond_counting_are_refused() -> None:
    with pytest.raises(UserError, match="more than 100,000 points"):
        compiled("space: {a: {int: [1, 1000000000]}, b: {int: [1, 9]}}").points()


CONFIG = {
    "train.batch_size": 64,
    "train.accumulate": 4,
    "train.schedule": "linear",
    "pruning.method": "none",
    "dendrites.enabled": True,
}


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
    space = compiled(
        "space: {a: {choice: {x: {s: 1}, y: {}}}}\nconstraints: [{not: s > 5}, {if: s > 0, then: s < 3}, s < 3]"
    )
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
    space = compiled(
        "space: {a: {int: [1, 100], log: true}, b: {loguniform: [1e-4, 1]}, c: {uniform: [0, 1], step: 0.25}}"
    )
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
        subprocess.run(
            [sys.executable, "-c", ORDER], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert outputs[0].stdout.startswith("['n0', 'n1', 'n2'")
