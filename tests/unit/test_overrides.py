"""`--set key=value`: what it changes, and that its mistakes are told as its own."""

from collections.abc import Callable

import pytest

from raysweep.sweep_file import SweepFile
from tests.toy_sweep import GOOD, load, problems


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("budget.trials=4", lambda sweep: sweep.spec.budget.trials == 4),
        ("budget={trials: 5}", lambda sweep: sweep.spec.budget.trials == 5),
        ("tracking.mlflow.uri=sqlite:////a.db", lambda sweep: sweep.spec.tracking.mlflow.uri == "sqlite:////a.db"),
        ("objectives.0.metric=loss", lambda sweep: sweep.spec.primary.metric == "loss"),
        ("confirm.seeds=[1, 2]", lambda sweep: sweep.spec.confirm.seeds == [1, 2]),
        ("space.train.lr=1e-4", lambda sweep: sweep.space.fixed["train.lr"] == 1e-4),
        ("space.train.limit=7", lambda sweep: sweep.space.fixed["train.limit"] == 7),
        ("space.pruning.method=2:4", lambda sweep: sweep.space.fixed["pruning.method"] == "2:4"),
        ("space.train={lr: 1e-4, epochs: 2}", lambda sweep: {"train.lr", "train.epochs"} <= sweep.space.fixed.keys()),
        ("references.dense.train.lr=2e-4", lambda sweep: sweep.spec.references["dense"]["train.lr"] == 2e-4),
        ("references.linear.train.schedule=linear", lambda sweep: "linear" in sweep.spec.references),
        ("description=a = b", lambda sweep: sweep.spec.description == "a = b"),
    ],
)
def test_overrides(override: str, read: Callable[[SweepFile], bool]) -> None:
    assert read(load(GOOD, override))


def test_an_override_replaces_a_setting_wherever_it_stands() -> None:
    sweep = load(
        GOOD, "space.train.schedule={choice: [linear, constant], when: train.epochs > 2}", "space.train.lr=1e-4"
    )
    assert "train.lr" not in sweep.spec.space
    assert sweep.spec.space["train"]["lr"] == 1e-4
    assert next(setting for setting in sweep.space.settings if setting.path == "train.schedule").when is not None


def test_the_last_override_wins() -> None:
    assert load(GOOD, "budget.trials=4", "budget.trials=5").spec.budget.trials == 5


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("budget.trials", "expected key=value"),
        ("=3", "expected key=value"),
        ("budget..trials=3", "expected key=value"),
        ("budget.trials=[1", "YAML syntax"),
        ("budget={trials: 1, trials: 2}", "duplicate key 'trials'"),
        ("budget.trails=3", "unknown key 'trails' in budget (did you mean 'trials'?)"),
        ("bugdet.trials=3", "unknown key 'bugdet' (did you mean 'budget'?)"),
        ("budget.trials=many", 'budget.trials: expected a whole number, found "many"'),
        ("name.first=x", 'name holds no other keys: it is "toy-sweep"'),
        ("objectives.3.metric=loss", "objectives is a list with positions 0 to 0, found '3'"),
        ("objectives.first.metric=loss", "objectives is a list with positions 0 to 0, found 'first'"),
        ("space.train.lrr=1", "unknown setting 'train.lrr' (did you mean 'train.lr'?)"),
        ("space.train.lr={unifrom: [0.1, 0.2]}", "unknown domain 'unifrom'"),
        ("space.train=3", "train is a group of settings"),
        ("space.pruning.sparsity=0.5", "pruning.sparsity is set twice, first on line 9"),
        ("references.dense.train.lr=2", "train.lr: expected less than 1.0, found 2"),
        ("constraints=[train.lr > 1]", "reject all"),
    ],
)
def test_a_bad_override_is_told_as_such(override: str, words: str) -> None:
    found = [problem for problem in problems(GOOD, override) if problem.startswith(f"--set {override}: ")]
    assert any(words in problem for problem in found)
