"""AdamW by parameter name, and the learning-rate factor at exact points."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainables.parts import optim
from trainables.parts.dendrites.layer import wrap


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.words, self.norm, self.head = nn.Embedding(7, 4), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, ids):
        return self.head(self.norm(self.words(ids)))


def train(model, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        ids = torch.randint(0, 7, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(ids), ids % 3).backward()
        optimizer.step()


def grown_net():
    model = Net()
    layer = wrap(model, ["head"], "tanh")["head"]
    layer.grow(0.5, torch.Generator().manual_seed(1))
    return model, layer


def names(optimizer):
    return {name for group in optimizer.param_groups for name in group["param_names"]}


def moments(optimizer, model, name):
    return optimizer.state[dict(model.named_parameters())[name]]


def test_only_weight_matrices_decay():
    model, layer = grown_net()
    layer.grow(0.5, torch.Generator())
    nn.init.ones_(layer.dendrites[1].skip)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = optim.adamw(model, lr=0.1, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decaying = {"words.weight", "head.core.weight", "head.dendrites.0.branch.weight", "head.dendrites.1.branch.weight"}
    for name, value in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if name in decaying else 1.0
        torch.testing.assert_close(value.detach(), before[name] * factor)


def test_frozen_parameters_are_left_out():
    model = Net()
    model.words.requires_grad_(False)
    assert names(optim.adamw(model, lr=0.1)) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}


def test_dendrites_learn_at_their_own_rate():
    model, _ = grown_net()
    dendrites = {name for name, _ in model.named_parameters() if ".dendrites." in name}
    optimizer = optim.adamw(model, 0.1, 0.01, lambda name: 3.0 if name in dendrites else 1.0)

    def rates():
        return {name: group["lr"] for group in optimizer.param_groups for name in group["param_names"]}

    assert rates() == {name: pytest.approx(0.3 if name in dendrites else 0.1) for name in names(optimizer)}
    optim.set_lr(optimizer, 0.02)
    assert rates() == {name: pytest.approx(0.06 if name in dendrites else 0.02) for name in names(optimizer)}


def test_restored_optimizer_goes_on_bit_for_bit():
    model = Net()
    optimizer = optim.adamw(model, lr=0.05, weight_decay=0.1)
    train(model, optimizer, 5)
    stored, twin = optim.state(optimizer), Net(seed=9)
    twin.load_state_dict(model.state_dict())
    again = optim.adamw(twin, lr=0.05, weight_decay=0.1)
    optim.restore(again, stored)
    train(model, optimizer, 5, seed=1)
    train(twin, again, 5, seed=1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name])


def test_state_is_a_copy_by_name_and_holds_only_arrays():
    model = Net()
    optimizer = optim.adamw(model, lr=0.05)
    assert optim.state(optimizer) == {}
    train(model, optimizer, 2)
    stored = optim.state(optimizer)
    kept = copy.deepcopy(stored)
    train(model, optimizer, 1)
    assert set(stored) == names(optimizer)
    assert all(set(entry) == {"step", "exp_avg", "exp_avg_sq"} for entry in stored.values())
    for name, entry in stored.items():
        for key, value in entry.items():
            assert isinstance(value, np.ndarray)
            np.testing.assert_array_equal(value, kept[name][key])


def test_restore_forgets_what_was_there():
    model = Net()
    optimizer = optim.adamw(model, lr=0.05)
    train(model, optimizer, 2)
    stored = {name: entry for name, entry in optim.state(optimizer).items() if name != "head.bias"}
    train(model, optimizer, 1)
    optim.restore(optimizer, stored)
    assert optim.state(optimizer).keys() == stored.keys()


def test_restore_refuses_names_it_does_not_know():
    optimizer = optim.adamw(Net(), lr=0.05)
    with pytest.raises(AssertionError, match=r"tail\.weight"):
        optim.restore(optimizer, {"tail.weight": {}})


def test_survivors_keep_their_moments_and_new_dendrites_start_fresh():
    model, layer = grown_net()
    old = optim.adamw(model, lr=0.05)
    train(model, old, 4)
    before = optim.state(old)
    layer.grow(0.5, torch.Generator())
    new = optim.adamw(model, lr=0.05)
    optim.carry_over(old, new)
    assert set(optim.state(new)) == set(before)
    for name, entry in before.items():
        for key, value in entry.items():
            np.testing.assert_array_equal(moments(new, model, name)[key], value)
    train(model, new, 1)
    assert moments(new, model, "head.dendrites.0.top")["step"] == 5
    assert moments(new, model, "head.dendrites.1.top")["step"] == 1


def test_a_second_try_does_not_inherit_the_first_ones_moments():
    model, layer = grown_net()
    old = optim.adamw(model, lr=0.05)
    train(model, old, 4)
    layer.resize(0)
    layer.grow(0.5, torch.Generator().manual_seed(2))
    new = optim.adamw(model, lr=0.05)
    newest = {name for name, _ in model.named_parameters() if ".dendrites.0." in name}
    optim.carry_over(old, new, newest)
    assert set(optim.state(new)) == names(new) - newest
    train(model, new, 1)
    assert moments(new, model, "head.dendrites.0.branch.weight")["step"] == 1


def test_what_was_rolled_back_is_not_carried_over():
    model, layer = grown_net()
    old = optim.adamw(model, lr=0.05)
    train(model, old, 4)
    layer.resize(0)
    new = optim.adamw(model, lr=0.05)
    optim.carry_over(old, new)
    assert set(optim.state(new)) == names(new)


@pytest.mark.parametrize(
    ("kind", "ratio", "factors"),
    [
        ("constant", 0.0, [1, 1, 1, 1, 1, 1, 1, 1]),
        ("constant", 0.5, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("linear", 0.0, [1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("linear", 0.5, [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]),
        ("linear", 0.2, [0.5, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),  # ceil(1.6) = 2 steps rise
        ("cosine", 0.5, [0.25, 0.5, 0.75, 1, 1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4]),
    ],
)
def test_lr_factor_at_each_step(kind, ratio, factors):
    assert [optim.lr_factor(step, 8, kind, ratio) for step in range(8)] == pytest.approx(factors, abs=1e-15)


@pytest.mark.parametrize(("kind", "end"), [("constant", 1.0), ("linear", 0.0), ("cosine", 0.0)])
def test_lr_factor_past_the_end(kind, end):
    assert optim.lr_factor(8, 8, kind) == optim.lr_factor(11, 8, kind) == pytest.approx(end)


@given(
    total=st.integers(1, 300),
    kind=st.sampled_from(["constant", "linear", "cosine"]),
    ratio=st.floats(0, 1),
)
def test_lr_factor_rises_then_falls_and_is_never_zero(total, kind, ratio):
    factors = [optim.lr_factor(step, total, kind, ratio) for step in range(total)]
    top = factors.index(max(factors))
    assert max(factors) == 1.0
    assert min(factors) > 0
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


class Table(torch.nn.Module):
    """A table of rows that gives sparse gradients, if asked to."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.rows = torch.nn.Embedding(6, 3, sparse=sparse)
        torch.nn.init.normal_(self.rows.weight, generator=torch.Generator().manual_seed(0))


def trained_on(model: Table, optimizer: torch.optim.Optimizer, batches: list[list[int]]) -> torch.Tensor:
    for ids in batches:
        (model.rows(torch.tensor(ids)) ** 3).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.rows.weight.detach()


def test_rows_that_every_batch_touches_learn_as_in_plain_adamw() -> None:
    dense, sparse = Table(False), Table(True)
    batches = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0, 0, 3]] * 5
    plain = torch.optim.AdamW(dense.parameters(), lr=0.05, weight_decay=0.1)
    ours = optim.adamw(sparse, lr=0.05, weight_decay=0.1)
    torch.testing.assert_close(trained_on(sparse, ours, batches), trained_on(dense, plain, batches))


def test_rows_outside_a_batch_stay_as_in_torchs_sparse_adam() -> None:
    one, other = Table(True), Table(True)
    before, batches = one.rows.weight.detach().clone(), [[0, 1, 1], [1, 2], [0], [2, 2, 1]]
    theirs = torch.optim.SparseAdam(other.parameters(), lr=0.05)
    after = trained_on(one, optim.adamw(one, lr=0.05), batches)
    torch.testing.assert_close(after, trained_on(other, theirs, batches))
    assert torch.equal(after[3:], before[3:])
    assert not torch.equal(after[:3], before[:3])


def test_an_optimizer_of_rows_goes_on_from_its_state() -> None:
    whole, half = Table(True), Table(True)
    wanted = trained_on(whole, optim.adamw(whole, lr=0.05), [[0, 1], [1, 2], [3]])
    first = optim.adamw(half, lr=0.05)
    trained_on(half, first, [[0, 1]])
    second = optim.adamw(half, lr=0.05)
    optim.restore(second, optim.state(first))
    assert torch.equal(trained_on(half, second, [[1, 2], [3]]), wanted)


@pytest.mark.parametrize("largest", [0.1, 1e6])
def test_sparse_gradients_are_clipped_as_dense_ones_are(largest: float) -> None:
    dense, sparse = Table(False), Table(True)
    for model in (dense, sparse):
        (model.rows(torch.tensor([0, 2, 2])) ** 3).sum().backward()
    torch.nn.utils.clip_grad_norm_(dense.parameters(), largest)
    optim.clip_gradient(sparse, largest)
    gradient = sparse.rows.weight.grad
    assert gradient is not None
    torch.testing.assert_close(gradient.to_dense(), dense.rows.weight.grad)


def test_the_rate_falls_as_torchs_scheduler_lets_it() -> None:
    scores = [0.5, 0.6, 0.6, 0.55, 0.61, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", factor=0.5, patience=1, threshold=0.0, min_lr=0.2
    )
    ours = optim.FallingRate()
    for score in scores:
        theirs.step(score)
        ours.report(score, patience=1, times=0.5, least=0.2)
        assert ours.factor == optimizer.param_groups[0]["lr"]
    assert ours.factor == 0.2
    assert optim.FallingRate(**ours.state()) == ours


def test_where_all_is_frozen_nothing_is_done() -> None:
    model = Net().requires_grad_(False)
    optimizer = optim.adamw(model, lr=0.1, weight_decay=0.5)
    optim.clip_gradient(model, 1.0)
    optim.set_lr(optimizer, 0.2)
    optimizer.step()
    assert all(weight.equal(start) for weight, start in zip(model.parameters(), Net().parameters(), strict=True))
    assert names(optimizer) == set()
    assert optim.state(optimizer) == {}
    learning = optim.adamw(model.requires_grad_(True), lr=0.1)
    optim.carry_over(optimizer, learning)
    assert optim.state(learning) == {}
