"""How tasks are weighed: the papers' formulas by hand, a reference by double backward, checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.engine import checkpoint
from tests.balanced_tasks import INPUTS, NAMES, SHARED, TOPIC, SmallModel, balance, combined, rng, vectors_of
from trainables.parts.multitask.balance import Balance, taken, weight_gradients
from trainables.parts.multitask.settings import BalanceSettings, HeadSettings
from trainables.parts.task_settings import TaskDataSettings

BINARY = HeadSettings(data=TaskDataSettings(task="sst2"), loss="binary")
SQUARED = HeadSettings(data=TaskDataSettings(task="stsb"), loss="squared")
COSINE = HeadSettings(data=TaskDataSettings(task="stsb"))


def test_fixed_weights_multiply_the_losses() -> None:
    tasks = {"topic": TOPIC.model_copy(update={"weight": 0.25}), "mood": BINARY}
    fixed = Balance(BalanceSettings(), tasks)
    assert [float(fixed.weighted(task, torch.tensor(3.0))) for task in tasks] == [0.75, 3.0]
    assert fixed.weights() == {"topic": 0.25, "mood": 1.0}
    assert list(fixed.parameters()) == []


@pytest.mark.parametrize(
    ("kind", "apart"), [("fixed", False), ("uncertainty", False), ("gradnorm", True), ("pcgrad", True)]
)
def test_tasks_are_kept_apart_where_their_gradients_are_compared(kind: str, apart: bool) -> None:
    assert balance(kind).apart is apart
    assert balance(kind).weighted("topic", torch.tensor(2.5)).item() == 2.5, "all kinds begin with the loss itself"


TASKS = {"topic": TOPIC, "mood": BINARY, "closeness": COSINE, "grade": SQUARED}


def test_uncertainty_weighs_by_the_likelihood_of_each_kind_of_target() -> None:
    uncertain = Balance(BalanceSettings(kind="uncertainty"), TASKS)
    for number, task in enumerate(TASKS):
        uncertain.log_variances[task].data.fill_(np.log(2.0**number))
    found = {task: uncertain.weighted(task, torch.tensor(6.0)).item() for task in TASKS}
    half = np.log(2) / 2
    assert found == pytest.approx(
        {"topic": 6, "mood": 3 + half, "closeness": 0.75 + 2 * half, "grade": 0.375 + 3 * half}
    )
    assert uncertain.weights() == pytest.approx({"topic": 1, "mood": 1 / 2, "closeness": 1 / 8, "grade": 1 / 16})


@pytest.mark.parametrize("loss", [0.05, 0.7, 4.0])
def test_variances_learn_the_optimum_of_a_constant_loss(loss: float) -> None:
    """The slope -exp(-s) L + 1/2 of a cross entropy is 0 at exp(s) = 2 L; that of a squared error, at exp(s) = L."""
    uncertain = Balance(BalanceSettings(kind="uncertainty"), TASKS)
    optimizer = torch.optim.Adam(uncertain.parameters(), lr=0.05)
    for _ in range(1000):
        optimizer.zero_grad()
        torch.stack([uncertain.weighted(task, torch.tensor(loss)) for task in TASKS]).sum().backward()
        optimizer.step()
    variances = {task: log_variance.exp().item() for task, log_variance in uncertain.log_variances.items()}
    assert variances == pytest.approx({"topic": 2 * loss, "mood": 2 * loss, "closeness": loss, "grade": loss}, rel=1e-3)


def test_a_task_moves_its_own_variance_alone() -> None:
    uncertain = Balance(BalanceSettings(kind="uncertainty"), TASKS)
    uncertain.weighted("mood", torch.tensor(2.0)).backward()
    gradients = {task: log_variance.grad for task, log_variance in uncertain.log_variances.items()}
    assert gradients == {"topic": None, "mood": torch.tensor(0.5 - 2.0), "closeness": None, "grade": None}
    assert {name for name, _ in uncertain.named_parameters()} == {f"log_variances.{task}" for task in TASKS}


def step(balanced: Balance, model: SmallModel, shared: tuple[str, ...] = SHARED) -> None:
    """The gradient of one step on all tasks, as a recipe makes it."""
    gradients, losses = {}, {}
    for task in model.heads:
        loss = model.loss(task, INPUTS[task])
        balanced.weighted(task, loss).backward()
        gradients[task], losses[task] = taken(model), loss.item()
    balanced.combine(model, gradients, losses, shared, rng())


def test_gradnorm_moves_its_weights_as_by_hand() -> None:
    moved = balance("gradnorm", alpha=1.0, lr=0.1)
    combined(moved, {"topic": [3, 0], "mood": [0, 1]}, {"topic": 8.0, "mood": 2.0})
    # G = (3, 1), both targets are 2, as no loss has fallen yet; the slopes are 3 and -1.
    assert moved.weights() == pytest.approx({"topic": 0.7 * 2 / 1.8, "mood": 1.1 * 2 / 1.8})
    combined(moved, {"topic": [3 * 0.7 / 0.9, 0], "mood": [0, 1.1 / 0.9]}, {"topic": 6.0, "mood": 0.5})
    # Of the losses 3/4 and 1/4 remain, r = (1.5, 0.5); G = (2.1, 1.1) / 0.9, targets (2.4, 0.8) / 0.9: slopes -3 and 1.
    topic, mood = 0.7 / 0.9 + 0.3, 1.1 / 0.9 - 0.1
    assert moved.weights() == pytest.approx({"topic": 2 * topic / (topic + mood), "mood": 2 * mood / (topic + mood)})


@pytest.mark.parametrize(("alpha", "way"), [(0.0, -1), (1.0, -1), (1.5, 1)])
def test_alpha_says_how_strongly_a_task_that_lags_is_pulled(alpha: float, way: int) -> None:
    """G = (3, 1), r = (1.4, 0.6): the first task's target is 2, 2.8 or 3.3, so that its weight falls, falls, rises."""
    moved = balance("gradnorm", alpha=alpha, lr=0.1)
    combined(moved, {"topic": [1, 0], "mood": [0, 1]}, {"topic": 1.0, "mood": 1.0})
    combined(moved, {"topic": [3, 0], "mood": [0, 1]}, {"topic": 1.4, "mood": 0.6})
    topic, mood = 1 + way * 0.3, 1 - way * 0.1
    assert moved.weights() == pytest.approx({"topic": 2 * topic / (topic + mood), "mood": 2 * mood / (topic + mood)})


def test_losses_of_zero_are_all_alike() -> None:
    moved = balance("gradnorm")
    for losses in ({"topic": 2.0, "mood": 2.0}, {"topic": 0.0, "mood": 0.0}):
        combined(moved, {"topic": [1, 0], "mood": [0, 1]}, losses)
    assert moved.weights() == {"topic": 1.0, "mood": 1.0}


@given(
    st.floats(0, 3),
    st.lists(st.floats(0.1, 2), min_size=2, max_size=2),
    st.lists(st.floats(0.2, 3), min_size=2, max_size=2),
)
@settings(max_examples=40, deadline=None)
def test_slopes_of_weights_are_those_of_a_double_backward(alpha: float, given: list[float], first: list[float]) -> None:
    model = SmallModel().double()
    weights = torch.tensor(given, dtype=torch.float64, requires_grad=True)
    losses = [model.loss(task, INPUTS[task].double()) for task in model.heads]
    lengths = []
    for weight, loss in zip(weights, losses, strict=True):
        parts = torch.autograd.grad(weight * loss, list(model.shared.parameters()), create_graph=True)
        lengths.append(torch.cat([part.flatten() for part in parts]).norm())
    norms = torch.stack(lengths)
    remaining = torch.stack(losses).detach() / torch.tensor(first)
    targets = norms.mean().detach() * (remaining / remaining.mean()) ** alpha
    (expected,) = torch.autograd.grad((norms - targets).abs().sum(), weights)
    found = weight_gradients(norms.detach().numpy(), np.array(given), remaining.numpy(), alpha)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


steps = st.lists(st.tuples(vectors_of(3), st.lists(st.floats(0, 1e6), min_size=3, max_size=3)), min_size=1, max_size=5)


@given(steps, st.floats(0.001, 1), st.floats(0, 3))
def test_gradnorm_keeps_weights_positive_and_their_sum(taken_steps: Any, lr: float, alpha: float) -> None:
    moved = balance("gradnorm", NAMES, lr=lr, alpha=alpha)
    for vectors, losses in taken_steps:
        combined(moved, dict(zip(NAMES, vectors, strict=True)), dict(zip(NAMES, losses, strict=True)))
        assert min(moved.weights().values()) > 0
        assert sum(moved.weights().values()) == pytest.approx(3)


@given(st.permutations([0.3, 0.6, 0.9]), st.floats(0.1, 3))
def test_the_task_whose_loss_falls_slowest_gains_weight(remaining: list[float], alpha: float) -> None:
    moved = balance("gradnorm", NAMES, alpha=alpha)
    alike = {task: [1.0, 2.0] for task in NAMES}
    combined(moved, alike, {"topic": 1.0, "mood": 10.0, "closeness": 100.0})
    assert moved.weights() == pytest.approx(dict.fromkeys(NAMES, 1.0)), (
        "gradients of one length, nothing has fallen yet"
    )
    left = dict(zip(NAMES, (share * first for share, first in zip(remaining, (1, 10, 100), strict=True)), strict=True))
    combined(moved, alike, left)
    weights = moved.weights()
    slowest, fastest = NAMES[int(np.argmax(remaining))], NAMES[int(np.argmin(remaining))]
    assert weights[slowest] == max(weights.values()) > 1
    assert weights[fastest] == min(weights.values()) < 1


def test_gradnorm_sums_gradients_by_the_weights_before_they_move() -> None:
    moved, model, plain = balance("gradnorm", lr=0.5), SmallModel(), SmallModel()
    for _ in range(2):
        before = moved.weights()
        step(moved, model)
        assert moved.weights() != before
        torch.stack([before[task] * plain.loss(task, INPUTS[task]) for task in plain.heads]).sum().backward()
        for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(found.grad, expected.grad)
        model.zero_grad()
        plain.zero_grad()


@pytest.mark.parametrize("kind", ["gradnorm", "pcgrad"])
def test_without_shared_parameters_gradients_are_summed_and_weights_stay(kind: str) -> None:
    balanced, model, plain = balance(kind), SmallModel(), SmallModel()
    step(balanced, model, shared=())
    torch.stack([plain.loss(task, INPUTS[task]) for task in plain.heads]).sum().backward()
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)
    assert balanced.weights() == {"topic": 1.0, "mood": 1.0}


def test_a_step_of_some_tasks_alone_leaves_the_weights() -> None:
    moved = balance("gradnorm", NAMES)
    assert combined(moved, {"mood": [3, 0], "closeness": [0, 1]}) == [3, 1]
    assert moved.weights() == dict.fromkeys(NAMES, 1.0)


def test_gradients_that_were_not_taken_are_refused() -> None:
    model = SmallModel()
    model.loss("topic", INPUTS["topic"]).backward()
    with pytest.raises(AssertionError, match="taken"):
        balance("pcgrad").combine(model, {"mood": {}}, {"mood": 1.0}, SHARED, rng())


@pytest.mark.parametrize("kind", ["fixed", "uncertainty", "gradnorm", "pcgrad"])
def test_a_balance_goes_on_bit_for_bit_from_a_checkpoint(kind: str, tmp_path: Path) -> None:
    balanced, resumed, model = balance(kind), balance(kind), SmallModel()
    for number, log_variance in enumerate(balanced.log_variances.values(), 1):
        log_variance.data.fill_(1 / (3 * number))
    step(balanced, model)
    model.zero_grad()
    model.shared.weight.data.mul_(0.7)
    checkpoint.save(balanced.state(), tmp_path / checkpoint.FILE)
    resumed.restore(checkpoint.load(tmp_path / checkpoint.FILE))
    found = []
    for each in (balanced, resumed):
        step(each, model)
        found.append([each.state(), each.weights(), {name: grad.tolist() for name, grad in taken(model).items()}])
    assert found[0] == found[1]
    assert (balanced.state() == balance(kind).state()) is (kind in ("fixed", "pcgrad")), "there was something to keep"
