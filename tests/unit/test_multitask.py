"""What is particular to the multi-task recipe: whose gradient a step takes, which weights are kept, what is told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from raysweep.recipe import configure, find
from raysweep.trial import Trial, World
from tests.multitask_runs import (
    TURNS,
    Flat,
    Watched,
    changed,
    ended,
    felt,
    flat_of,
    metrics,
    precise,
    prepare,
    states,
    trial_of,
    weights_of,
)
from trainables import multitask
from trainables.parts import optim

KINDS = {
    "fixed": {},
    "uncertainty": {"balance.kind": "uncertainty"},
    "gradnorm": TURNS | {"balance.kind": "gradnorm"},
    "pcgrad": TURNS | {"balance.kind": "pcgrad"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("multitask")
    prepare(path)
    return path


def gradients(trial: Trial, *tasks: str) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Of a first step with a batch of each of these tasks; and its losses."""
    run = multitask.begin(trial)
    losses = multitask.gradients(run, {task: np.arange(3, 11) for task in tasks}, np.random.default_rng(0))
    found = {name: weight.grad for name, weight in run.model.named_parameters() if weight.grad is not None}
    return found, losses


def test_a_tasks_weight_multiplies_its_gradient_and_not_its_loss(place: Path, tmp_path: Path) -> None:
    flat = flat_of(place, "mood", "sense") | TURNS
    whole, told = gradients(trial_of(tmp_path, flat), "mood")
    half, halved = gradients(trial_of(tmp_path, flat | {"tasks.mood.weight": 0.5}), "mood")
    other, _ = gradients(trial_of(tmp_path, flat | {"tasks.sense.weight": 0.5}), "mood")
    assert halved == told
    assert whole.keys() == half.keys() == other.keys()
    assert all(torch.equal(half[name], gradient / 2) for name, gradient in whole.items())
    assert all(torch.equal(other[name], gradient) for name, gradient in whole.items())
    assert any(gradient.abs().max() > 1e-3 for gradient in whole.values())


def test_a_step_of_all_tasks_has_the_sum_of_their_gradients(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precise(monkeypatch)
    trial = trial_of(tmp_path, flat_of(place, "mood", "sense", "likeness") | TURNS | {"tasks.sense.weight": 3.0})
    alone = {task: gradients(trial, task) for task in trial.config.tasks}
    together, losses = gradients(trial, *alone)
    assert losses == {task: told[task] for task, (_, told) in alone.items()}
    zero = torch.zeros((), dtype=torch.float64)
    expected = {name: sum((one.get(name, zero) for one, _ in alone.values()), zero) for name in together}
    torch.testing.assert_close(together, expected, rtol=1e-9, atol=1e-12)
    heads = {task: {name for name in one if name.startswith("heads.")} for task, (one, _) in alone.items()}
    assert all(name.startswith(f"heads.{task}.") for task, names in heads.items() for name in names)
    assert [len(names) for names in heads.values()] == [2, 2, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_in_parts_trains_the_same_weights(
    place: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    precise(monkeypatch)
    watched = Watched(monkeypatch)
    flat = flat_of(place, "mood", "degree") | KINDS[kind] | {"train.grad_clip": 0.5, "train.epochs": 2}
    told = [metrics(trial_of(tmp_path, flat, accumulate=parts), "train.loss") for parts in (1, 2, 4)]
    whole, *parted = [weights_of(run) for run in watched.runs]
    for losses, weights in zip(told[1:], parted, strict=True):
        assert losses == pytest.approx(told[0], rel=1e-9)
        torch.testing.assert_close(weights, whole, rtol=0, atol=1e-9)
    assert changed(whole, watched.starts[0]) >= felt(whole)


@pytest.mark.parametrize(("world", "accumulate", "sizes"), [(1, 1, [8]), (1, 2, [4, 4]), (2, 1, [4]), (2, 4, [1] * 4)])
def test_each_processs_share_goes_through_in_so_many_parts(
    place: Path, tmp_path: Path, world: int, accumulate: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(tmp_path, flat_of(place, "mood"), accumulate=accumulate, world=World(0, world))
    run, found, real = multitask.begin(trial), [], multitask.batch_vectors
    monkeypatch.setattr(multitask, "batch_vectors", lambda *given: found.append(len(given[2])) or real(*given))
    multitask.backward(run, "mood", np.arange(8))
    assert found == sizes


def test_towers_of_their_own_are_two_trainings_of_one_task(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, real, drawn = Watched(monkeypatch), multitask.epoch_steps, []
    more = TURNS | {
        "train.schedule": "linear",
        "train.weight_decay": 0.1,
        "pooling.projection": 4,
        "train.head_lr": 0.01,
    }
    monkeypatch.setattr(multitask, "epoch_steps", lambda *given: drawn.append(real(*given)) or drawn[-1])
    ended(trial_of(tmp_path, flat_of(place, "mood", "likeness") | more | {"sharing": "none"}))
    both = weights_of(watched.runs[0])
    for task in ("mood", "likeness"):
        steps = iter([[{task: step[task]} for step in epoch] for epoch in drawn])
        monkeypatch.setattr(multitask, "epoch_steps", lambda *_, steps=steps: next(steps))
        ended(trial_of(tmp_path, flat_of(place, task) | more))
        alone = {name.replace(".shared.", f".{task}."): w for name, w in weights_of(watched.runs[-1]).items()}
        assert alone.keys() == {name for name in both if f".{task}." in name}
        assert not changed(alone, both)
        assert changed(both, watched.starts[0]) >= felt(both)


def test_each_epoch_has_batches_of_its_own(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, drawn = multitask.epoch_steps, []
    monkeypatch.setattr(multitask, "epoch_steps", lambda *given: drawn.append(real(*given)) or drawn[-1])
    ended(trial_of(tmp_path, flat_of(place, "mood", "sense")))
    ended(trial_of(tmp_path, flat_of(place, "mood", "sense"), seed=2))
    orders = [[(task, *rows) for step in epoch for task, rows in step.items()] for epoch in drawn]
    assert len(orders) == 6
    assert all(one != other for place, one in enumerate(orders) for other in orders[:place])
    assert all(sorted(one[0] for one in order) == ["mood"] * 3 + ["sense"] * 3 for order in orders)


def test_losses_are_told_as_means_over_examples_without_weights(place: Path, tmp_path: Path) -> None:
    """At a rate so low that the weights stay, each batch has the loss that its rows have in the end."""
    flat = flat_of(place, "mood", "sense") | {"train.lr": 1e-30, "train.epochs": 1, "tasks.sense.weight": 3.0}
    trial = trial_of(tmp_path, flat | {"tasks.sense.data.train_rows": 9})
    run = multitask.begin(trial)
    sizes = {name: len(one.examples) for name, one in run.inputs["train"].items()}
    assert sizes == {"mood": 17, "sense": 9}
    losses = {}
    for name, inputs in run.inputs["train"].items():
        answers = multitask.predict_all(run.model, inputs, 5, "cpu")
        losses[name] = multitask.task_loss(inputs.settings.loss_name, answers, inputs.targets).item()
    (report,) = multitask.train(trial)
    told = {name: report.metrics[f"train.{name}.loss"] for name in sizes}
    assert told == pytest.approx(losses, rel=1e-5)
    assert report.metrics["train.loss"] == pytest.approx(
        sum(losses[name] * sizes[name] for name in sizes) / 26, rel=1e-5
    )


def test_rates_rise_and_fall_over_the_steps_of_all_epochs(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates, real = [], multitask.update

    def update(run: multitask.Run, step: int, total: int) -> None:
        real(run, step, total)
        encoder, head = sorted({group["lr"] for group in run.optimizer.param_groups})
        assert head == pytest.approx(5 * encoder)
        rates.append(encoder)

    monkeypatch.setattr(multitask, "update", update)
    warm = {"train.schedule": "linear", "train.warmup_ratio": 1 / 6, "train.lr": 0.01, "train.head_lr": 0.05}
    ended(trial_of(tmp_path, flat_of(place, "mood", "sense") | warm))
    whole = 3 * (3 + 3)
    assert rates == pytest.approx([0.01 * optim.lr_factor(step, whole, "linear", 1 / 6) for step in range(whole)])
    assert rates[:4] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01, 0.01])


@pytest.mark.parametrize(("clip", "least", "most"), [(0.01, 0.00999, 0.01), (0.0, 0.05, 9.0), (50.0, 0.05, 9.0)])
def test_a_steps_gradient_is_clipped_as_a_whole(
    place: Path, tmp_path: Path, clip: float, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = multitask.begin(trial_of(tmp_path, flat_of(place, "mood", "sense") | {"train.grad_clip": clip}))
    taken: list[float] = []

    def step() -> None:
        given = [weight.grad.flatten() for weight in run.model.parameters() if weight.grad is not None]
        taken.append(torch.cat(given).norm().item())

    monkeypatch.setattr(run.optimizer, "step", step)
    multitask.gradients(run, {task: np.arange(8) for task in ("mood", "sense")}, np.random.default_rng(0))
    multitask.update(run, 0, 1)
    assert least <= taken[0] <= most + 1e-6
    assert all(weight.grad is None for weight in run.model.parameters())


def test_a_trial_ends_when_no_score_has_risen_for_so_long(place: Path, tmp_path: Path) -> None:
    still = {"train.lr": 1e-12, "train.epochs": 9, "train.patience": 2}
    assert len(list(states(trial_of(tmp_path, flat_of(place, "mood") | still)))) == 3
    assert len(list(states(trial_of(tmp_path, flat_of(place, "mood") | still | {"train.patience": 0})))) == 9


LIKENESS: Flat = {"tasks.likeness.data.task": "stsb", "tasks.likeness.data.train_rows": 400}
LEARNED: dict[str, tuple[Flat, dict[str, float]]] = {
    "frozen": (
        {"freezing.kind": "backbone", "train.epochs": 8, "train.lr": 0.03},
        {"topic": 0.27, "feeling": 0.6},
    ),
    "joint": (
        LIKENESS | {"train.epochs": 3, "train.lr": 2e-3},
        {"topic": 0.4, "feeling": 0.65, "likeness": 0.25},
    ),
}


@pytest.mark.parametrize("case", LEARNED)
def test_made_up_tasks_are_learned_well_beyond_chance(case: str, tmp_path: Path) -> None:
    """On 400 examples guessing scores 1/6, 1/2 and 0, give or take 0.025 and, for the last, 0.05."""
    more, expected = LEARNED[case]
    flat = {f"tasks.{name}.data.task": task for name, task in {"topic": "trec", "feeling": "sst2"}.items()}
    flat |= {f"tasks.{name}.data.train_rows": 400 for name in ("topic", "feeling")}
    trial = Trial("t0000", configure(find("multitask"), flat | more), 1, tmp_path, tmp_path / "shared")
    *_, last = multitask.train(trial)
    for name, least in expected.items():
        assert last.metrics[f"select.{name}.score"] > least, name
