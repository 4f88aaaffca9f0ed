"""The JSON Schema for editors takes what `load_sweep` takes, and refuses wrong keys and values."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema.validators import validator_for
from pydantic import BaseModel

from raysweep.schema import sweep_schema
from raysweep.spec import Block, SweepSpec
from raysweep.yaml_file import parse_yaml

SWEEP = """
schema: sweep/v1
name: nexus
description: which dendrites help?
recipe: nexus
seed: 3
space:
  data.source: synthetic
  train: {lr: {loguniform: [1e-5, 2e-4]}, layers: [1, 2], batch: {ordinal: [16, 32]}}
  train.warmup: {uniform: [0.0, 0.2], step: 0.02, when: train.schedule != 'constant'}
  train.seed: {grid: [0, 1]}
  train.tags: {value: {a: 1}}
  dendrites.count: {int: [1, 5], log: true, when: dendrites.enabled}
  pruning.method:
    choice:
      none:
      magnitude: {pruning: {sparsity: {uniform: [0.3, 0.95]}}}
      2:4: {pruning.sparsity: 0.5}
  quant: {choice: [none, int8, [4, 8]]}
constraints:
  - train.batch <= 32
  - {if: pruning.method == '2:4', then: quant == 'none', why: no kernel}
  - {not: dendrites.count > 4}
objectives: [{metric: spearman, goal: maximize, primary: true}, {metric: parameters, goal: minimize}]
searcher: {type: tpe, startup_trials: 12}
scheduler: {type: asha, min: 1, max: 9, eta: 3, brackets: 1}
budget: {trials: 64, wall_minutes: 30}
resources: {cpu: 2, gpu: 0.5, max_parallel: null}
references: {plain: {dendrites.enabled: false, train: {lr: 1e-4}}}
confirm: {top: 2, seeds: [1, 2], alpha: 0.05}
failures: {retries: 1, same_error: 3}
checkpoints: {every: 2}
tracking: {mlflow: {enabled: true, uri: null, experiment: e}, wandb: {mode: offline, project: p}}
registry: {model: m, alias: champion}
"""


def errors(data: Any) -> list[str]:
    schema = sweep_schema(["nexus", "other"])
    validator = validator_for(schema)
    validator.check_schema(schema)
    return [error.message for error in validator(schema).iter_errors(data)]


def changed(**blocks: Any) -> Any:
    return {**parse_yaml(SWEEP, None).data, **blocks}


def test_a_full_sweep_passes() -> None:
    assert errors(changed()) == []


def test_what_the_schema_takes_is_what_the_spec_takes() -> None:
    SweepSpec.model_validate(changed())


def test_the_smallest_sweep_passes() -> None:
    assert errors({"name": "a", "recipe": "my.own", "space": {}, "objectives": [{"metric": "loss"}]}) == []


@pytest.mark.parametrize("missing", ["name", "recipe", "space", "objectives"])
def test_required_keys(missing: str) -> None:
    data = changed()
    del data[missing]
    assert errors(data) == [f"'{missing}' is a required property"]


@pytest.mark.parametrize(
    "blocks",
    [
        {"bugdet": {}},
        {"schema": "sweep/v2"},
        {"name": "with space"},
        {"recipe": 5},
        {"budget": {"trails": 5}},
        {"budget": {"trials": 0}},
        {"searcher": {"type": "bayes"}},
        {"tracking": {"wandb": {"mode": "of"}}},
        {"objectives": []},
        {"objectives": [{"metric": "a", "goal": "up"}]},
        {"references": {"dense": 5}},
        {"constraints": [{"if": "a"}]},
        {"constraints": [{"if": "a", "then": "b", "wy": "c"}]},
        {"constraints": [5]},
        {"space": {"x": {"uniform": [0, 1], "stepp": 0.1}}},
        {"space": {"x": {"uniform": [0]}}},
        {"space": {"x": {"uniform": [0, "1"]}}},
        {"space": {"x": {"loguniform": [0.1, 1], "step": 0.1}}},
        {"space": {"x": {"int": [0.5, 1]}}},
        {"space": {"x": {"choice": [1]}}},
        {"space": {"x": {"choice": {"a": 5, "b": {}}}}},
        {"space": {"x": {"choice": {"a": {"y": {"unifrom": [0, 1], "step": 1}}, "b": {}}}}},
        {"space": {"x": {"grid": [1, 2], "when": "a"}}},
        {"space": {"x": {"choice": [1, 2], "grid": [1]}}},
        {"space": {"x": {"when": "a"}}},
        {"space": {"x": {}}},
    ],
)
def test_wrong_files_fail(blocks: dict[str, Any]) -> None:
    assert errors(changed(**blocks))


def test_recipes_are_suggested() -> None:
    recipe = sweep_schema(["b", "a"])["properties"]["recipe"]
    assert recipe["anyOf"][0] == {"enum": ["a", "b"]}


def test_every_setting_is_described() -> None:
    def fields(model: type[BaseModel]) -> dict[str, Any]:
        return {f"{model.__name__}.{name}": field for name, field in model.model_fields.items()}

    every = {name: field for model in Block.__subclasses__() for name, field in fields(model).items()}
    leaves = {name: field for name, field in every.items() if not isinstance(field.default, Block)}
    assert [name for name, field in leaves.items() if not field.description] == []
    schema = sweep_schema([])
    assert [
        name for name, block in schema["properties"].items() if "$ref" not in block and "description" not in block
    ] == []
    assert all("description" in block for block in schema["$defs"].values() if block.get("title"))


SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_sweeps_pass(path: Path) -> None:
    assert errors(parse_yaml(path.read_text(), str(path)).data) == []
