"""A sweep file from text to a checked sweep, and everything that is told when it is wrong."""

import pytest

from raysweep.problems import UserError
from raysweep.recipe import DataFacts
from tests.toy_sweep import GOOD, Config, Toy, load, problems, with_lines


def test_a_good_file() -> None:
    sweep = load(GOOD)
    assert (sweep.spec.name, sweep.spec.primary.metric, sweep.text) == ("toy-sweep", "accuracy", GOOD)
    assert sweep.space.fixed == {"flag": False}
    assert sweep.spec.references == {"dense": {"pruning.method": "none", "train.lr": 1e-4}}
    assert sweep.spec.space["train"] == {"lr": {"loguniform": [1e-5, 1e-3]}, "epochs": {"int": [1, 4]}}
    assert sweep.space.violated(sweep.first_config()) is None
    assert sweep.first_config() == load(GOOD).first_config()


def test_a_useful_file_is_short() -> None:
    spec = load(
        "name: a\nrecipe: toy\nspace: {train.lr: {uniform: [0.1, 0.2]}}\nobjectives: [{metric: loss, goal: minimize}]"
    ).spec
    assert (spec.scheduler.type, spec.searcher.type, spec.budget.trials, spec.confirm.seeds) == (
        "asha",
        "tpe",
        16,
        [101, 102, 103],
    )


def test_everything_wrong_is_told_at_once() -> None:
    text = """\
name: my sweep
recipe: toy
schema: sweep/v2
space:
  trian: {lr: {loguniform: [1e-5, 1e-3]}}
  train.schedul: {choice: [linear, constant]}
  train.epochs: {uniform: [0, 4]}
  train.lr: {choice: ["1e-5", 2]}
  pruning.method: {choice: [magnitud, none]}
  flag: {logunifrom: [1, 2]}
constraints: [train.lr * train.lrr < 0.01, pruning.method != 'magnitud', train.lr = 1]
objectives: [{metric: acuracy, gaol: maximize}, {metric: loss, goal: minimise}]
scheduler: {min: 9, max: 3}
budget: {trials: "16", wal: 3}
bugdet: 3
resources: {cpu: 1.5, gpu: -1}
confirm: {seeds: [1, 2, 1], alpha: 1}
tracking: {mlflow: {uri: 5}}
references: {dense: {pruning.method: [none], train.lr: {choice: [1, 2]}, train.lrate: 1}}
seed: 1
seed: 2
"""
    assert problems(text, "budget.trails=3") == [
        's.yaml:1: name: expected text that matches ^[A-Za-z0-9][A-Za-z0-9._-]*$, found "my sweep"'
        " (name of the sweep: letters, digits, . _ -)",
        "s.yaml:3: schema: expected 'sweep/v1', found \"sweep/v2\" (did you mean 'sweep/v1'?)",
        "s.yaml:5: unknown setting 'trian.lr' (did you mean 'train.lr'?)",
        "s.yaml:6: unknown setting 'train.schedul' (did you mean 'train.schedule'?)",
        "s.yaml:7: train.epochs: expected a whole number, found 0.0 (the domain `int` gives whole numbers)",
        's.yaml:8: train.lr: expected a number, found "1e-5" (1e-5 in quotes is text: leave the quotes out)',
        "s.yaml:8: train.lr: expected less than 1.0, found 2 (peak learning rate)",
        "s.yaml:9: pruning.method: expected 'none', 'magnitude' or '2:4', found \"magnitud\""
        " (did you mean 'magnitude'?)",
        "s.yaml:10: flag: unknown domain 'logunifrom' (did you mean 'loguniform'?)",
        "s.yaml:11: `train.lr = 1` is no condition: invalid syntax"
        " (`==` compares; `and`, `or`, `not` join conditions; text stands in quotes)",
        "s.yaml:11: `train.lr * train.lrr < 0.01`: the space has no setting 'train.lrr' (did you mean 'train.lr'?)",
        "s.yaml:11: `pruning.method != 'magnitud'`: pruning.method: expected 'none', 'magnitude' or '2:4',"
        " found \"magnitud\" (did you mean 'magnitude'?)",
        "s.yaml:12: unknown key 'gaol' in objectives[0] (did you mean 'goal'?)",
        "s.yaml:12: objectives[1].goal: expected 'maximize' or 'minimize', found \"minimise\""
        " (did you mean 'minimize'?)",
        "s.yaml:12: the recipe toy reports no metric 'acuracy' (did you mean 'accuracy'?)",
        "s.yaml:13: scheduler: min, the first rung, is at most max, found min 9 and max 3",
        's.yaml:14: budget.trials: expected a whole number, found "16" (16 in quotes is text: leave the quotes out)',
        "s.yaml:14: unknown key 'wal' in budget (known: trials, wall_minutes)",
        "s.yaml:15: unknown key 'bugdet' (did you mean 'budget'?)",
        "s.yaml:16: resources.cpu: expected a whole number, found 1.5"
        " (processor cores of a trial, and its torch threads)",
        "s.yaml:16: resources.gpu: expected 0.0 or more, found -1 (GPUs of a trial; a fraction shares one)",
        "s.yaml:17: confirm.seeds: seeds differ from each other, found 1 twice",
        "s.yaml:17: confirm.alpha: expected less than 1.0, found 1 (level of the intervals and tests, Holm-corrected)",
        "s.yaml:18: tracking.mlflow.uri: expected text, found 5 (quotes make it text)",
        "s.yaml:19: train.lr: expected a plain value, found something to search",
        "s.yaml:19: pruning.method: expected 'none', 'magnitude' or '2:4', found [\"none\"]",
        "s.yaml:19: train.lr: expected less than 1.0, found 1 (peak learning rate)",
        "s.yaml:19: unknown setting 'train.lrate' (did you mean 'train.lr'?)",
        "s.yaml:21: duplicate key 'seed' (first on line 20)",
        "--set budget.trails=3: unknown key 'trails' in budget (did you mean 'trials'?)",
    ]


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"recipe": "tyo"}, "unknown recipe 'tyo' (did you mean 'toy'?)"),
        ({"recipe": "5"}, "recipe: expected text, found 5 (quotes make it text)"),
        ({"name": ""}, "name: expected text, found null"),
        ({"name": "2024"}, "name: expected text, found 2024 (quotes make it text)"),
        ({"space": "5"}, "space: expected a mapping, found 5"),
        ({"space": ""}, "space: expected a mapping, found null"),
        ({"space": "{3: 4}"}, "expected the name of a setting, found 3"),
        ({"constraints": "train.lr < 1"}, 'constraints: expected a list, found "train.lr < 1"'),
        ({"objectives": "[]"}, "objectives: expected at least 1 in the list, found []"),
        ({"objectives": "[accuracy]"}, 'objectives[0]: expected a mapping, found "accuracy"'),
        ({"objectives": "[{goal: minimize}]"}, "'objectives[0].metric' is missing"),
        (
            {"objectives": "[{metric: loss}, {metric: loss, goal: minimize}]"},
            "each metric is one objective, found loss twice",
        ),
        (
            {"objectives": "[{metric: loss, primary: true}, {metric: accuracy, primary: true}]"},
            "one objective is primary, found several",
        ),
        ({"references": "{finalist-1: {}}"}, "a reference cannot be named 'finalist-1', as finalists are"),
        (
            {"references": "{dense: {train: 5}}"},
            "train is a group of settings, not one (it holds train.lr, train.epochs,",
        ),
        ({"references": "{dense: {train.lr: 1e-4, train: {lr: 1e-4}}}"}, "train.lr is set twice"),
        ({"references": "{1: {}}"}, "references[1]: expected text, found 1 (quotes make it text)"),
        ({"confirm": "{per: train.schedul}"}, "confirm.per: the space has no setting 'train.schedul' (did you mean"),
        ({"confirm": "{per: train}"}, "confirm.per: the space has no setting 'train' (did you mean 'train.lr'?)"),
        (
            {"confirm": "{per: train.lr}"},
            "train.lr is searched in a range, so each trial would be a finalist for its own value (name a setting",
        ),
        ({"confirm": "{per: 3}"}, "confirm.per: expected a list"),
        ({"space": "{tags: {a: 1}}"}, "tags: unknown domain 'a' (known: choice,"),
        (
            {"space": "{train: {lr: {unifrom: [1e-5, 1e-4]}}}"},
            "train.lr: unknown domain 'unifrom' (did you mean 'uniform'?)",
        ),
        ({"space": "{train.limit: {choice: [null, 0]}}"}, "train.limit: expected 1 or more, found 0"),
        ({"space": "{train.lr: {loguniform: [1e-5, 1e-3]}, train.epochs: 2.0}"}, "expected a whole number, found 2.0"),
        ({"space": "{flag: no}"}, 'flag: expected true or false, found "no"'),
        ({"space": "{pruning.method: {choice: {none: {}, 2:8: {}}}}"}, "found \"2:8\" (did you mean '2:4'?)"),
        ({"space": "{train.layers: {choice: [[1], [a]]}}"}, 'train.layers: expected a whole number, found ["a"]'),
    ],
)
def test_mistakes_and_their_line(blocks: dict[str, str], words: str) -> None:
    text = with_lines(constraints=blocks.pop("constraints", "[]"), references=blocks.pop("references", "{}"), **blocks)
    (found,) = problems(text)
    assert words in found
    line = int(found.split(":")[1])
    assert any(text.split("\n")[line - 1].startswith(block) for block in (*blocks, "constraints", "references"))


@pytest.mark.parametrize("per", ["train.schedule", "train.warmup", "train.epochs", "pruning.method", "flag"])
def test_the_proof_may_compare_the_values_of_any_discrete_setting(per: str) -> None:
    assert load(with_lines(confirm=f"{{per: {per}}}")).spec.confirm.per == [per]


def test_a_missing_key_is_described() -> None:
    found = problems("recipe: toy\nspace: {}\n")
    assert found == [
        "s.yaml:1: 'name' is missing (name of the sweep: letters, digits, . _ -)",
        "s.yaml:1: 'objectives' is missing (what to make large or small)",
    ]


def test_wrong_blocks_do_not_hide_the_recipes_problems() -> None:
    found = problems(with_lines(space="{train.epochs: 13}", budget="{trials: 0}", constraints="[]", references="{}"))
    assert len(found) == 3
    assert "budget.trials: expected 1 or more, found 0" in found[0]
    assert found[1:] == ["data.csv: no data", "no encoder (train one)"]


def test_settings_that_do_not_go_together_show_the_configuration() -> None:
    (found,) = problems(GOOD, "space.flag=true")
    assert found.startswith("s.yaml: a flag needs a schedule (in the configuration ")
    assert 'train.schedule="constant"' in found
    assert "flag=" not in found  # as it is in all configurations


def test_field_validators_of_the_recipe_speak_too() -> None:
    (found,) = problems(GOOD, "space.train.layers=[2, 1]")
    assert found == "--set space.train.layers=[2, 1]: train.layers: layers are in order"


def test_references_are_built_and_inspected() -> None:
    found = problems(GOOD, "references.long={train.epochs: 13}")
    assert found == ["data.csv: no data", "no encoder (train one)"]


def test_missing_data_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def inspect(self: Toy, config: Config) -> DataFacts:
        looked.append(config)
        raise UserError("no data")

    monkeypatch.setattr(Toy, "inspect", inspect)
    assert problems(GOOD) == ["no data"]
    assert len(looked) == 1


def test_constraints_that_reject_everything_name_the_worst() -> None:
    (found,) = problems(with_lines(constraints="\n  - train.epochs > 2\n  - train.lr > 1\n"))
    assert "the constraints reject all of 200 random configurations; `train.lr > 1` alone rejects 100%" in found


def test_a_constraint_must_not_reject_for_an_inactive_setting() -> None:
    (found,) = problems(with_lines(constraints="[pruning.sparsity < 0.99]"))
    assert "because pruning.sparsity is inactive" in found
    assert "{if: ..., then: ...}" in found


def test_the_same_constraint_with_its_condition_is_fine() -> None:
    load(with_lines(constraints="[{if: pruning.method != 'none', then: pruning.sparsity < 0.99}]"))


def test_constraints_and_conditions_that_cannot_be_computed() -> None:
    (found,) = problems(with_lines(constraints="[1 / (train.epochs - 2) != 5]"))
    assert "`1 / (train.epochs - 2) != 5` cannot be computed: division by zero (with train.epochs = 2)" in found
    (found,) = problems(GOOD, "space.train.limit={value: 3, when: train.schedule}")
    assert "neither true nor false" in found


def test_a_grid_search_needs_values() -> None:
    (found,) = problems(GOOD, "searcher.type=grid", "space.pruning.method=none")
    assert found.startswith("s.yaml:5: train.lr: a grid search cannot try all of a range")
    load(GOOD, "searcher.type=grid", "space.pruning.method=none", "space.train.lr=1e-4")


def test_dictionaries_and_lists_as_values() -> None:
    sweep = load(
        GOOD, "space.tags={value: {a: 1}}", "space.train.layers={choice: [[1], [1, 2]]}", "space.train.limit=null"
    )
    assert sweep.space.fixed["tags"] == {"a": 1}
    assert sweep.first_config()["train.layers"] in ([1], [1, 2])
