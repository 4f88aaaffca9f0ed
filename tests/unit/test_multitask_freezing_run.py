"""What is frozen while the multi-task recipe trains: weights, dropout, moments, stored states, and what is resumed."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raysweep.trial import Trial
from tests.multitask_runs import (
    TURNS,
    Flat,
    Watched,
    changed,
    ended,
    felt,
    flat_of,
    metrics,
    prepare,
    states,
    through_a_file,
    trial_of,
    weights_of,
)
from trainables import multitask
from trainables.parts import optim
from trainables.parts.multitask import inputs as task_inputs
from trainables.parts.multitask import model as task_model
from trainables.parts.state import tensors

LAYERS = 3
GRADUAL: Flat = {"freezing.kind": "gradual", "train.epochs": 4, "train.weight_decay": 0.3}
TWO_PHASE: Flat = {"freezing.kind": "two_phase", "freezing.start_epoch": 2, "train.epochs": 4}
KEPT: Flat = TWO_PHASE | {"freezing.keep_bottom": 1, "pooling.projection": 6, "train.weight_decay": 0.3}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frozen")
    prepare(path, LAYERS)
    return path


def trial(place: Path, folder: Path, flat: Flat, *names: str, **changes: Any) -> Trial:
    """With dropout; `place` has the data, `folder` is the trial's own."""
    return trial_of(folder, flat_of(place, *(names or ("mood", "likeness")), lively=True) | flat, **changes)


@pytest.mark.parametrize("names", [("mood", "sense"), ("likeness",)])
def test_where_all_is_frozen_there_is_one_report_of_the_start(
    place: Path, tmp_path: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, given = Watched(monkeypatch), trial(place, tmp_path, {"freezing.kind": "all"}, *names)
    reports = [(report.step, report.metrics, report.state()) for report in multitask.train(given)]
    ((step, told, state),) = reports
    assert (step, told["open.layers"], told["open.parameters"]) == (0, 0, 0)
    assert told["select.score"] == told["epoch.score"]
    assert not changed(weights_of(watched.runs[0]), watched.starts[0])
    assert (state["weights"], state["optimizer"], state["progress"]["kept"]) == ({}, {}, {})
    resumed = trial(place, tmp_path, {"freezing.kind": "all"}, *names, restored=through_a_file(state, tmp_path))
    assert list(multitask.train(resumed)) == []
    monkeypatch.setattr(multitask.build, "served_costs", lambda *_: {})
    evaluation = multitask.evaluate(given, through_a_file(state, tmp_path))
    assert len(evaluation.predictions) == 7 * len(names)
    assert np.isfinite(evaluation.metrics["report.score"])


def test_an_encoder_that_rests_is_asked_once_for_all_epochs_and_trials(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = [], task_model.token_states
    for module in (task_inputs, task_model):
        monkeypatch.setattr(module, "token_states", lambda *given: asked.append(1) or real(*given))
    watched = Watched(monkeypatch)
    flat = {"freezing.kind": "backbone", "pooling.projection": 4}
    ended(trial(place, tmp_path, flat))
    assert len(asked) == 4, "train and select of two tasks, less than 64 texts each"
    ended(trial(place, tmp_path, flat | {"train.lr": 1e-2}))
    assert len(asked) == 4
    assert len(list((tmp_path / "shared").glob("*.npy"))) == 4
    for run, start in zip(watched.runs, watched.starts, strict=True):
        found = changed(weights_of(run), start)
        assert found == {name for name in start if ".encoder." not in name}
        assert all(one.pools is not None for split in run.inputs.values() for one in split.values())


@pytest.mark.parametrize("sharing", ["hard", "none"])
def test_a_frozen_encoder_changes_in_no_tower_and_stands_in_no_state(
    place: Path, tmp_path: Path, sharing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    flat = {"freezing.kind": "backbone", "sharing": sharing, "pooling.projection": 4, "train.weight_decay": 0.5}
    state = ended(trial(place, tmp_path, flat))
    found = changed(weights_of(watched.runs[0]), watched.starts[0])
    assert found == {name for name in watched.starts[0] if ".encoder." not in name}
    for weights in (state["weights"], state["progress"]["kept"]):
        assert weights.keys() == found


def part_of(name: str) -> str:
    """`embeddings`, the number of a layer, or `behind` the encoder."""
    inner = name.partition(".encoder.")[2]
    if not inner:
        return "behind"
    return inner.split(".")[2] if inner.startswith("encoder.layer.") else "embeddings"


EVERY = {"embeddings", "0", "1", "2", "behind"}
OPENED: dict[str, tuple[Flat, list[int], list[set[str]]]] = {
    "gradual": (GRADUAL, [0, 1, 2, 3], [{"behind"}, {"2", "behind"}, {"1", "2", "behind"}, EVERY]),
    "gradual by two": (
        GRADUAL | {"freezing.layers_per_epoch": 2, "freezing.start_epoch": 0},
        [2, 3, 3, 3],
        [{"1", "2", "behind"}, EVERY, EVERY, EVERY],
    ),
    "two phases": (TWO_PHASE, [0, 0, 3, 3], [{"behind"}, {"behind"}, EVERY, EVERY]),
    "two phases above the bottom": (
        KEPT, [0, 0, 2, 2], [{"behind"}, {"behind"}, {"1", "2", "behind"}, {"1", "2", "behind"}]
    ),
    "a head": ({"freezing.kind": "head", "freezing.head": "mood"}, [3, 3, 3], [EVERY - {"behind"}] * 3),
}  # fmt: skip


@pytest.mark.parametrize("case", OPENED)
def test_in_each_epoch_exactly_what_is_open_changes(
    place: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat, layers, parts = OPENED[case]
    watched, found, told = Watched(monkeypatch), [], []
    before: dict[str, torch.Tensor] = {}
    for report in multitask.train(trial(place, tmp_path, flat)):
        (run,) = watched.runs
        before, now = before or watched.starts[0], weights_of(run)
        names = changed(now, before)
        found.append({part_of(name) for name in names})
        open_now = {name for name, weight in run.model.named_parameters() if weight.requires_grad}
        assert felt(open_now) <= names <= open_now, "what learns has a gradient, and nothing else moves or decays"
        told.append((report.metrics["open.layers"], report.metrics["open.parameters"]))
        assert told[-1][1] == sum(now[name].numel() for name in open_now)
        before = now
    assert [layer for layer, _ in told] == layers
    assert found == parts


@pytest.mark.parametrize(
    ("flat", "thaws"),
    [(GRADUAL, [True, True, True]), (KEPT, [False, True, False])],
    ids=["gradual", "two phases"],
)
@pytest.mark.parametrize("balance", ["fixed", "uncertainty"])
def test_what_learned_before_keeps_its_moments_when_more_is_thawed(
    place: Path, tmp_path: Path, flat: Flat, thaws: list[bool], balance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, left = Watched(monkeypatch), [{}]
    real = multitask.train_epoch

    def train_epoch(run: multitask.Run) -> dict[str, float]:
        """Moments are looked at behind the thaw, which comes first in an epoch, and at the epoch's end."""
        found = optim.state(run.optimizer)
        assert_equal(found, left[-1])
        behind = [moments["step"] for name, moments in found.items() if ".projection." in name]
        assert behind == [3 * run.progress.epoch] * len(behind)
        measured = real(run)
        left.append(optim.state(run.optimizer))
        return measured

    monkeypatch.setattr(multitask, "train_epoch", train_epoch)
    ended(trial(place, tmp_path, flat | TURNS | {"balance.kind": balance, "pooling.projection": 6}))
    sizes = list(map(len, left))
    assert [more > fewer for fewer, more in pairwise(sizes)] == [True, *thaws]
    learning = {f"model.{name}" for name, weight in watched.runs[0].model.named_parameters() if weight.requires_grad}
    assert left[-1].keys() == learning | {f"balance.{name}" for name, _ in watched.runs[0].balance.named_parameters()}


def assert_equal(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name, moments in one.items():
        assert moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(np.array_equal(value, other[name][key]) for key, value in moments.items()), name


@pytest.mark.parametrize(("flat", "balance"), [(GRADUAL, "pcgrad"), (KEPT, "gradnorm"), (TWO_PHASE, "uncertainty")])
def test_a_trial_resumed_beside_a_thaw_has_the_weights_of_one_that_went_through(
    place: Path, tmp_path: Path, flat: Flat, balance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = flat | TURNS | {"balance.kind": balance, "train.schedule": "linear", "train.grad_clip": 1.0}
    watched, kept = Watched(monkeypatch), []
    for number, state in enumerate(states(trial(place, tmp_path, flat))):
        (tmp_path / str(number)).mkdir()
        kept.append(through_a_file(state, tmp_path / str(number)))
    for state in kept[:-1]:
        last = ended(trial(place, tmp_path, flat, restored=state))
        assert not changed(weights_of(watched.runs[-1]), weights_of(watched.runs[0]))
        assert_equal(last["optimizer"], kept[-1]["optimizer"])
        assert last["balance"] == kept[-1]["balance"]
        best, expected = last["progress"]["kept"], tensors(kept[-1]["progress"]["kept"])
        assert best.keys() == expected.keys()
        assert not changed(best, expected)


def test_what_is_frozen_is_in_eval_mode_while_the_rest_trains(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lively: list[set[str]] = []
    real = multitask.backward

    def backward(run: multitask.Run, task: str, rows: Any) -> float:
        drops = {name for name, part in run.model.named_modules() if isinstance(part, nn.Dropout) and part.training}
        lively.append({part_of(name) for name in drops})
        return real(run, task, rows)

    monkeypatch.setattr(multitask, "backward", backward)
    ended(trial(place, tmp_path, GRADUAL, "mood"))
    assert lively[::3] == OPENED["gradual"][2], "three batches in an epoch"
    assert lively[::3] == lively[1::3] == lively[2::3]


@pytest.mark.parametrize("kind", ["gradual", "two_phase"])
@pytest.mark.parametrize("more", [{}, {"balance.kind": "uncertainty"}], ids=["fixed", "uncertainty"])
def test_a_task_without_a_head_waits_until_the_encoder_learns(
    place: Path, tmp_path: Path, kind: str, more: Flat, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    flat = {"freezing.kind": kind, "train.grad_clip": 0.5, "train.epochs": 2} | more
    moved = []
    for _ in multitask.train(trial(place, tmp_path, flat, "likeness")):
        moved.append({part_of(name) for name in changed(weights_of(watched.runs[0]), watched.starts[0])})
    assert moved == [set(), {"2"} if kind == "gradual" else EVERY - {"behind"}]


def test_more_layers_learn_more_parameters(place: Path, tmp_path: Path) -> None:
    found = metrics(trial(place, tmp_path, GRADUAL), "open.parameters")
    assert found[0] == 17, "a head of one output for 16 numbers, and its bias"
    assert found == sorted(set(found))
