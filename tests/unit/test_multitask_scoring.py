"""From known logits to each task's answers and scores, and to the one score of all tasks, which is also the proof's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raysweep.evidence.scores import score
from raysweep.trial import Scored, Stretch
from tests.multitask_inputs import inputs_of, model_of, new_encoder
from trainables.parts.multitask.inputs import TaskInputs, batch_vectors, stored_pools
from trainables.parts.multitask.scoring import chance, joint, joint_value, own_score, predict_all, task_scores
from trainables.parts.multitask.settings import HeadSettings
from trainables.parts.task_settings import TaskDataSettings
from trainables.parts.text_inputs import scores


def settings_of(task: Any, loss: Any = None, **data: Any) -> HeadSettings:
    return HeadSettings(data=TaskDataSettings(task=task, **data), loss=loss)


TASKS = {
    "grammar": settings_of("cola"),
    "likeness": settings_of("stsb"),
    "logic": settings_of("mnli"),
    "paraphrase": settings_of("mrpc", "binary"),
    "topic": settings_of("classification", labels=("a", "b", "c", "d")),
}


def class_logits(classes: list[int], labels: int) -> Tensor:
    return torch.eye(labels)[classes] * 3 - 1


@pytest.mark.parametrize(
    ("task", "loss", "logits", "expected"),
    [  # targets: 0 1 0 1 0; 0 1 2 0 1; 0 .2 .4 .6 .8
        ("sst2", None, class_logits([0, 1, 1, 1, 0], 2), {"accuracy": 0.8, "macro_f1": 0.8}),
        ("sst2", "binary", torch.tensor([[-1.0], [0.1], [7.0], [2.0], [0.0]]), {"accuracy": 0.8, "macro_f1": 0.8}),
        ("mnli", None, class_logits([0, 1, 2, 1, 1], 3), {"accuracy": 0.8, "macro_f1": (2 / 3 + 4 / 5 + 1) / 3}),
        ("stsb", None, torch.tensor([[0.1], [0.2], [0.3], [0.5], [0.4]]), {"spearman": 0.9, "pearson": 0.9}),
        ("stsb", "squared", torch.tensor([[0.9], [9], [9], [9], [17.1]]), {"spearman": 0.8**0.5, "pearson": 0.8**0.5}),
    ],
)
def test_a_task_is_scored_by_its_own_score_first(
    tmp_path: Path, task: str, loss: Any, logits: Tensor, expected: dict[str, float]
) -> None:
    inputs = inputs_of(tmp_path, task, loss)
    found = task_scores(inputs, logits)
    assert [one.statistic for one in found.values()] == list(found) == list(expected)
    assert all(one.targets is inputs.examples.targets for one in found.values())
    values = scores(found)
    assert values["score"] == values[own_score(inputs.settings)] == next(iter(values.values()))
    assert {name: values[name] for name in expected} == pytest.approx(expected)


def test_the_own_score_is_the_tasks() -> None:
    assert {name: own_score(task) for name, task in TASKS.items()} == {
        "grammar": "matthews", "likeness": "spearman", "logic": "accuracy", "paraphrase": "f1", "topic": "accuracy"
    }  # fmt: skip


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("task", "loss"), [("sst2", None), ("sst2", "binary"), ("mnli", None), ("stsb", None)])
def test_a_model_that_diverged_is_seen(tmp_path: Path, task: str, loss: Any, broken: float) -> None:
    inputs = inputs_of(tmp_path, task, loss)
    logits = torch.linspace(-1, 1, 5 * max(inputs.settings.outputs, 1)).view(5, -1)
    logits[3, -1] = broken
    found = task_scores(inputs, logits)
    for one in found.values():
        assert np.flatnonzero(~np.isfinite(one.predictions)).tolist() == [3]
    values = scores(found)
    assert all(np.isnan(value) for value in values.values())
    assert np.isnan(
        joint_value({"first": 0.5, "second": values["score"]}, {"first": TASKS["logic"], "second": inputs.settings})
    )


def test_what_guessing_scores() -> None:
    assert {name: chance(task) for name, task in TASKS.items()} == {
        "grammar": 0.0, "likeness": 0.0, "logic": 1 / 3, "paraphrase": 0.0, "topic": 1 / 4
    }  # fmt: skip


def test_the_joint_score_written_out() -> None:
    tasks = {"topic": TASKS["topic"], "likeness": TASKS["likeness"]}
    assert joint_value({"topic": 0.625, "likeness": 0.9}, tasks) == pytest.approx((0.5 + 0.9) / 2)
    assert joint_value({"topic": 0.25, "likeness": 0.0}, tasks) == 0.0
    assert joint_value({"topic": 1.0, "likeness": 1.0}, tasks) == 1.0
    assert joint_value({"topic": 0.0}, tasks) == pytest.approx(-1 / 3), "worse than guessing"


CLASSES = {own: st.integers(0, 3 if own == "accuracy" else 1).map(float) for own in ("accuracy", "f1", "matthews")}


@st.composite
def answers(draw: Callable[..., Any]) -> dict[str, dict[str, Scored]]:
    """What some tasks' models might answer to a few examples each."""
    found = {}
    for name in draw(st.lists(st.sampled_from(sorted(TASKS)), min_size=1, unique=True)):
        size, own = draw(st.integers(1, 8)), own_score(TASKS[name])
        value = st.integers(0, 100).map(lambda number: number / 100) if own == "spearman" else CLASSES[own]
        sides = [np.array(draw(st.lists(value, min_size=size, max_size=size))) for _ in range(2)]
        found[name] = {own: Scored(*sides, own), "macro_f1": Scored(sides[0] * 0, sides[1], "macro_f1")}
    return found


@settings(deadline=None)
@given(found=answers())
def test_the_search_goes_by_what_the_proof_computes(found: dict[str, dict[str, Scored]]) -> None:
    values = {name: scores(scored)["score"] for name, scored in found.items()}
    one = joint(found, TASKS)
    proven = score(one.statistic, one.predictions[None], one.targets).item()
    assert joint_value(values, TASKS) == pytest.approx(proven, abs=1e-9)


@settings(deadline=None)
@given(found=answers())
def test_tasks_come_in_the_order_of_their_names(found: dict[str, dict[str, Scored]]) -> None:
    one, other = joint(found, TASKS), joint(dict(reversed(found.items())), TASKS)
    assert one.statistic == other.statistic
    assert np.array_equal(one.targets, other.targets)
    assert np.array_equal(one.predictions, other.predictions)
    own = {name: found[name][own_score(TASKS[name])] for name in sorted(found)}
    assert one.statistic == tuple(
        Stretch(own_score(TASKS[name]), len(part.targets), chance(TASKS[name])) for name, part in own.items()
    )
    ends = np.cumsum([len(part.targets) for part in own.values()])[:-1]
    for whole, side in ((one.predictions, "predictions"), (one.targets, "targets")):
        for stretch, part in zip(np.split(whole, ends), own.values(), strict=True):
            assert np.array_equal(stretch, getattr(part, side))


def alone(model: Any, inputs: TaskInputs) -> Tensor:
    """Logits of each example by itself."""
    with torch.no_grad():
        rows = [np.array([row]) for row in range(len(inputs.examples))]
        return torch.cat([model.answer(inputs.name, *batch_vectors(model, inputs, row, "cpu")) for row in rows])


@pytest.mark.parametrize(("task", "loss"), [("sst2", "binary"), ("mnli", None), ("stsb", None), ("stsb", "squared")])
@pytest.mark.parametrize("size", [1, 2, 64])
def test_all_examples_are_answered_in_their_order(tmp_path: Path, task: str, loss: Any, size: int) -> None:
    inputs, encoder = inputs_of(tmp_path, task, loss), new_encoder()
    model = model_of(inputs, encoder)
    expected = alone(model, inputs)
    assert expected.shape == (5, max(inputs.settings.outputs, 1))
    kept = replace(inputs, pools=stored_pools(inputs, encoder, ("mean",), tmp_path, "cpu"))
    for taken in (inputs, kept):
        found = predict_all(model.train(), taken, size, "cpu")
        assert not model.training
        assert not found.requires_grad
        assert torch.allclose(found, expected, atol=1e-5)


def test_an_encoder_that_rests_is_not_asked_again(tmp_path: Path) -> None:
    inputs, encoder = inputs_of(tmp_path, "sst2"), new_encoder()
    model = model_of(inputs, encoder)
    kept = replace(inputs, pools=stored_pools(inputs, encoder, ("mean",), tmp_path, "cpu"))
    asked: list[int] = []
    encoder.model.register_forward_hook(lambda *_: asked.append(1))
    predict_all(model, kept, 2, "cpu")
    assert asked == []
    predict_all(model, inputs, 2, "cpu")
    assert len(asked) == 3
