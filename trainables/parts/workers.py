"""Several processes that train one trial: each takes a share of every batch, and their gradients are summed.

Whoever starts the processes makes torch's process group and gives each trial its `World`. All of them go through the
same batches and call these functions equally often; a process alone needs no group.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import distributed, nn

from raysweep.trial import World
from trainables.parts.batches import Rows


def share(rows: Rows, world: World) -> Rows:
    """This process's rows of a batch, none if the batch is small; long and short texts are dealt out in turns."""
    return rows[world.rank :: world.size]


def sum_gradients(parameters: Iterable[nn.Parameter], world: World) -> None:
    """Give each parameter the sum of the gradients that it has in all processes.

    A parameter that has one nowhere, as in the head of another task, keeps none, so that no optimizer moves it. Where
    only other processes have one, this process takes part with zeros. The sum is the gradient of the mean over a batch
    if each process weighs the mean over its rows by their share of the batch.
    """
    if world.size == 1:
        return
    listed = list(parameters)
    given = [parameter.grad is not None for parameter in listed]
    anywhere = torch.tensor(given, dtype=torch.int32, device=listed[0].device)
    distributed.all_reduce(anywhere, distributed.ReduceOp.MAX)
    sums = []
    for parameter, somewhere in zip(listed, anywhere.tolist(), strict=True):
        if somewhere:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            sums.append(distributed.all_reduce(parameter.grad, async_op=True))
    for waiting in sums:
        waiting.wait()


def sum_numbers(numbers: Sequence[float], world: World, device: str = "cpu") -> list[float]:
    """The sums of these numbers over all processes, the same in each: losses that decide something, or are reported.

    `device` is where the process group's tensors may lie: NCCL takes none on the CPU.
    """
    if world.size == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64, device=device)
    distributed.all_reduce(sums)
    return sums.tolist()
