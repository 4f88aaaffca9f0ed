"""Processes that share a trial: shares of rows, sums of gradients, and the weights that one process would find."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, distributed, nn

from raysweep.trial import World
from trainables.parts.workers import share, sum_gradients, sum_numbers

WORLDS = (World(0, 2), World(1, 2))
# A task and the rows of its batch; a process of two has none of the last batch's.
BATCHES = [("topic", [0, 1, 2, 3]), ("mood", [4, 5, 6]), ("topic", [7, 8]), ("mood", [9, 1, 3, 5]), ("topic", [2])]


@given(st.lists(st.integers(0, 1000), unique=True), st.integers(1, 9))
def test_each_row_is_in_one_share_and_shares_are_even(rows: list[int], size: int) -> None:
    shares = [share(np.array(rows, np.int64), World(rank, size)).tolist() for rank in range(size)]
    assert sorted(row for each in shares for row in each) == sorted(rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_alone_needs_no_group() -> None:
    layer = nn.Linear(2, 1)
    layer.weight.grad = torch.tensor([[1.0, 2.0]])
    sum_gradients(layer.parameters(), World())
    assert layer.weight.grad.tolist() == [[1, 2]]
    assert layer.bias.grad is None
    assert sum_numbers([0.1, 2.0], World()) == [0.1, 2.0]


class TwoHeads(nn.Module):
    """A shared layer, one that is frozen, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared, self.frozen = nn.Linear(3, 4), nn.Linear(4, 4).requires_grad_(False)
        self.heads = nn.ModuleDict({"topic": nn.Linear(4, 1), "mood": nn.Linear(4, 1)})
        self.double()

    def loss(self, task: str, rows: Any) -> Tensor:
        inputs = torch.sin(torch.arange(30, dtype=torch.float64)).view(10, 3)[torch.from_numpy(rows)]
        found = self.heads[task](self.frozen(torch.tanh(self.shared(inputs))))
        return (found - inputs.sum(dim=1, keepdim=True)).square().mean()  # type: ignore[no-any-return]


def trained(world: World) -> dict[str, Any]:
    """The weights of a model, its losses, and the parameters without gradient in each step.

    AdamW moves a parameter whose gradient is 0, so that the head of another task must have none.
    """
    model, losses, idle = TwoHeads(), [], []
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for task, batch in BATCHES:
        optimizer.zero_grad()
        rows = share(np.array(batch), world)
        loss = model.loss(task, rows) * len(rows) / len(batch) if len(rows) else torch.zeros(())
        if len(rows):
            loss.backward()
        sum_gradients(model.parameters(), world)
        idle.append([name for name, parameter in model.named_parameters() if parameter.grad is None])
        losses += sum_numbers([loss.item()], world)
        optimizer.step()
    return {"weights": model.state_dict(), "losses": losses, "idle": idle}


def work(rank: int, folder: Path) -> None:
    """One of two processes, from its start to its end."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.save(trained(WORLDS[rank]), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes ended with."""
    folder = tmp_path_factory.mktemp("workers")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_two_processes_find_the_weights_that_one_finds(found: list[dict[str, Any]]) -> None:
    alone = trained(World())
    for each in found:
        torch.testing.assert_close(each["weights"], alone["weights"], rtol=1e-9, atol=1e-12)
        assert each["losses"] == pytest.approx(alone["losses"], rel=1e-9)
    assert any(not weight.equal(TwoHeads().state_dict()[name]) for name, weight in alone["weights"].items())


def test_both_processes_hold_the_same_model(found: list[dict[str, Any]]) -> None:
    torch.testing.assert_close(found[0]["weights"], found[1]["weights"], rtol=0, atol=0)
    assert found[0]["losses"] == found[1]["losses"]


def test_the_head_of_another_task_has_no_gradient_in_either_process(found: list[dict[str, Any]]) -> None:
    other = {"topic": "mood", "mood": "topic"}
    frozen = ["frozen.weight", "frozen.bias"]
    expected = [[*frozen, f"heads.{other[task]}.weight", f"heads.{other[task]}.bias"] for task, _ in BATCHES]
    assert [each["idle"] for each in found] == [expected, expected]
