"""How much each task counts in training: weights of the losses, and how the tasks' gradients become one.

K tasks. A gradient is known by the names of the parameters that have one.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainables.parts.multitask.settings import BalanceSettings, HeadSettings

Gradients = dict[str, Tensor]
Numbers = npt.NDArray[np.float64]
LEAST_WEIGHT = 1e-3  # of GradNorm, before weights are scaled: a task of weight 0 would have no gradient to come back by
LEAST_LOSS = 1e-12  # stands for a loss of 0, which has no ratio to another


class Balance(nn.Module):
    """The weights of the tasks' losses: given, learned as variances, or moved so that gradients agree in length.

    Kendall, Gal and Cipolla 2018 (uncertainty), https://arxiv.org/abs/1705.07115; Chen et al. 2018 (gradnorm),
    https://arxiv.org/abs/1711.02257; Yu et al. 2020 (pcgrad), https://arxiv.org/abs/2001.06782. With uncertainty the
    log variances are this module's parameters, for an optimizer to train beside the model.
    """

    def __init__(self, settings: BalanceSettings, tasks: Mapping[str, HeadSettings]) -> None:
        super().__init__()
        self.settings = settings
        self.tasks = tuple(tasks)
        # Half of a squared error is a Gaussian's log likelihood; the cross entropy is that of a softmax itself.
        self._likelihood = {
            task: 0.5 if head.loss_name in ("squared", "cosine") else 1.0 for task, head in tasks.items()
        }
        self._weights = {task: head.weight for task, head in tasks.items()}
        self._first_losses: dict[str, float] = {}
        learned = tasks if settings.kind == "uncertainty" else ()
        self.log_variances = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in learned})

    @property
    def apart(self) -> bool:
        """Whether a step needs the gradients of all tasks, each alone: `taken` after each task, then `combine`."""
        return self.settings.kind in ("gradnorm", "pcgrad")

    def weighted(self, task: str, loss: Tensor) -> Tensor:
        """What a task's loss adds to what is made small. With uncertainty, s = log variance:

        exp(-s) * loss + s / 2 for a cross entropy, exp(-s) / 2 * loss + s / 2 for a squared error.
        """
        if self.settings.kind == "uncertainty":
            log_variance: Tensor = self.log_variances[task]
            return self._likelihood[task] * torch.exp(-log_variance) * loss + log_variance / 2
        return self._weights[task] * loss

    def weights(self) -> dict[str, float]:
        """What each task's loss is multiplied by at present."""
        if self.settings.kind == "uncertainty":
            return {task: self._likelihood[task] * math.exp(-s.item()) for task, s in self.log_variances.items()}
        return dict(self._weights)

    @torch.no_grad()
    def combine(
        self,
        model: nn.Module,
        gradients: Mapping[str, Gradients],
        losses: Mapping[str, float],
        shared: Collection[str],
        rng: np.random.Generator,
    ) -> None:
        """Give the model one gradient, made from those of each task's weighted loss; their tensors are used up.

        It is the sum of the tasks' gradients, with pcgrad after those in the `shared` parameters are projected, in an
        order that `rng` draws. With gradnorm the weights of the next step then follow the unweighted `losses`, if the
        step has all tasks. What a task's gradient lacks is 0 there. Processes that train together give the same
        gradients and losses, and generators that stand alike.
        """
        present = [task for task in self.tasks if task in gradients]
        common = [{name: each for name, each in gradients[task].items() if name in shared} for task in present]
        factors = np.ones(len(present))
        if self.settings.kind == "pcgrad":
            factors = without_conflict(inner_products(common), rng).sum(axis=0)
        elif self.settings.kind == "gradnorm":
            self._follow(np.array([math.sqrt(_inner_product(part, part)) for part in common]), losses)
        parameters = dict(model.named_parameters())
        assert all(parameter.grad is None for parameter in parameters.values()), "`taken` leaves none behind"
        for task, part, factor in zip(present, common, factors, strict=True):
            for name, gradient in gradients[task].items():
                _add(parameters[name], gradient.mul_(float(factor)) if name in part else gradient)

    def _follow(self, norms: Numbers, losses: Mapping[str, float]) -> None:
        """Move GradNorm's weights by one step; `norms` [K] are those of the gradients of the weighted losses."""
        self._first_losses = {**losses, **self._first_losses}
        if len(norms) < len(self.tasks):
            return
        remaining = [max(losses[task], LEAST_LOSS) / max(self._first_losses[task], LEAST_LOSS) for task in self.tasks]
        weights = np.array([self._weights[task] for task in self.tasks])
        slopes = weight_gradients(norms, weights, np.array(remaining), self.settings.alpha)
        moved = np.maximum(weights - self.settings.lr * slopes, LEAST_WEIGHT)
        self._weights = dict(zip(self.tasks, (moved * len(moved) / moved.sum()).tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        log_variances = {task: each.item() for task, each in self.log_variances.items()}
        return {"weights": self._weights, "first_losses": self._first_losses, "log_variances": log_variances}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._weights, self._first_losses = dict(state["weights"]), dict(state["first_losses"])
        for task, log_variance in state["log_variances"].items():
            self.log_variances[task].fill_(log_variance)


def taken(model: nn.Module) -> Gradients:
    """The gradient that the model's parameters have, moved out: they have none afterwards."""
    found: Gradients = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[name], parameter.grad = parameter.grad, None
    return found


def inner_products(gradients: Sequence[Gradients]) -> Numbers:
    """Of each two gradients as flat vectors, [K, K]; what one of them lacks is 0."""
    products = np.zeros((len(gradients), len(gradients)))
    for one, other in itertools.combinations_with_replacement(range(len(gradients)), 2):
        products[one, other] = products[other, one] = _inner_product(gradients[one], gradients[other])
    return products


def without_conflict(products: Numbers, rng: np.random.Generator) -> Numbers:
    """PCGrad: how much of each gradient [column] a task's projected gradient [row] holds, [K, K].

    One after the other, in a random order, a task's gradient loses what points against another task's original one:
    g_i - (g_i . g_j) / (g_j . g_j) g_j where g_i . g_j < 0. The inner products [K, K] of the originals are enough for
    that: a projected gradient never leaves the space that they span.
    """
    held = np.eye(len(products))
    for task in range(len(products)):
        for other in rng.permutation(np.delete(np.arange(len(products)), task)):
            along = held[task] @ products[other]
            if along < 0 < products[other, other]:
                held[task, other] -= along / products[other, other]
    return held


def weight_gradients(norms: Numbers, weights: Numbers, remaining: Numbers, alpha: float) -> Numbers:
    """GradNorm: the gradient by the weights [K] of the sum of |G_k - mean(G) * r_k ** alpha|, the latter held constant.

    G = `norms` [K] are those of the gradients of the weighted losses, proportional to the weights; r_k is the share of
    its first loss that a task has `remaining` [K], divided by the mean share.
    """
    targets = norms.mean() * (remaining / remaining.mean()) ** alpha
    slopes: Numbers = np.sign(norms - targets) * norms / weights
    return slopes


def _inner_product(one: Gradients, other: Gradients) -> float:
    products = [torch.dot(part.flatten(), other[name].flatten()) for name, part in one.items() if name in other]
    return float(torch.stack(products).double().sum()) if products else 0.0


def _add(parameter: nn.Parameter, gradient: Tensor) -> None:
    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
