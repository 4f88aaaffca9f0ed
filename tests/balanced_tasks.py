"""A small model of two tasks, and gradients by hand, for the tests of how tasks are weighed."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from trainables.parts.multitask.balance import Balance
from trainables.parts.multitask.settings import BalanceSettings, HeadSettings
from trainables.parts.task_settings import TaskDataSettings

TOPIC = HeadSettings(data=TaskDataSettings(task="sst2"))
NAMES = ("topic", "mood", "closeness")


class SmallModel(nn.Module):
    """A shared map and a head for each task; the loss of a task is a mean square of what its head gives."""

    def __init__(self, tasks: tuple[str, ...] = NAMES[:2]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Linear(3, 4)
        self.heads = nn.ModuleDict({task: nn.Linear(4, 2) for task in tasks})

    def loss(self, task: str, inputs: Tensor) -> Tensor:
        return self.heads[task](torch.tanh(self.shared(inputs))).square().mean()  # type: ignore[no-any-return]


SHARED = ("shared.weight", "shared.bias")
INPUTS = {"topic": torch.tensor([[1.0, -2.0, 0.5]]), "mood": torch.tensor([[0.3, 0.1, 2.0], [1.0, 0.0, -1.0]])}


def balance(kind: str, tasks: tuple[str, ...] = NAMES[:2], **changes: Any) -> Balance:
    return Balance(BalanceSettings(kind=kind, **changes), dict.fromkeys(tasks, TOPIC))  # type: ignore[arg-type]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class Points(nn.Module):
    """Two parameters, `shared` and `head`, to put gradients on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shared, self.head = (nn.Parameter(torch.zeros(width, dtype=torch.float64)) for _ in range(2))


def combined(
    balanced: Balance, vectors: dict[str, list[float]], losses: dict[str, float] | None = None, seed: int = 0
) -> list[float]:
    """What `combine` makes of the tasks' gradients in a shared parameter."""
    width = len(next(iter(vectors.values())))
    model = Points(width)
    gradients = {task: {"shared": torch.tensor(vector, dtype=torch.float64)} for task, vector in vectors.items()}
    balanced.combine(model, gradients, losses or dict.fromkeys(vectors, 1.0), ["shared"], rng(seed))
    assert model.shared.grad is not None
    return model.shared.grad.tolist()


numbers = st.floats(-10, 10, allow_subnormal=False).map(lambda number: round(number, 3))


def vectors_of(count: int, each: st.SearchStrategy[float] = numbers) -> st.SearchStrategy[list[list[float]]]:
    return st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(each, min_size=width, max_size=width), min_size=count, max_size=count)
    )
