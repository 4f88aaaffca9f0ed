"""How much each weight, or each unit, matters: what has the least score goes first. Scores are 0 or above.

A score of weights has the shape of its matrix; one of a group of units is [units]. Biases go with their unit, but have
no say in its score.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainables.parts.pruning.settings import Importance
from trainables.parts.pruning.units import Group, Matrix, Part

Scores = dict[str, Tensor]
Losses = Callable[[], Iterator[Tensor]]  # the loss of each batch of the calibration texts


def weight_scores(
    importance: Importance, model: nn.Module, matrices: Sequence[Matrix], losses: Losses, seed: int
) -> Scores:
    """The importance of single weights, by the name of their matrix."""
    weights = {matrix.parameter: model.get_parameter(matrix.parameter) for matrix in matrices}
    if importance == "magnitude":
        return {name: weight.detach().abs() for name, weight in weights.items()}
    if importance == "squared":
        return {name: weight.detach().square() for name, weight in weights.items()}
    if importance == "taylor":
        return _mean({name: moved.abs() for name, moved in moves.items()} for moves in moves_of(weights, losses))
    if importance == "activation":
        norms = input_norms(model, weights, losses)
        return {
            matrix.parameter: weights[matrix.parameter].detach().abs() * _along(norms[matrix.parameter], matrix.inputs)
            for matrix in matrices
        }
    assert importance == "random", importance
    return random_scores(weights, seed)


def unit_scores(importance: Importance, model: nn.Module, groups: Sequence[Group], losses: Losses, seed: int) -> Scores:
    """The importance of whole units, by the name of their group."""
    weights = weights_of(model, groups)
    if importance == "magnitude":
        return unit_sums(groups, {name: weight.detach().abs() for name, weight in weights.items()})
    if importance == "squared":
        return unit_sums(groups, {name: weight.detach().square() for name, weight in weights.items()})
    if importance == "taylor":
        sums = (unit_sums(groups, moves) for moves in moves_of(weights, losses))
        # Layers differ in scale: Molchanov and others 2017, https://arxiv.org/abs/1611.06440, compare them like this.
        return _of_norm_one(_mean({name: total.abs() for name, total in found.items()} for found in sums))
    if importance == "activation":
        consumers = {group.name: consumer_of(group) for group in groups}
        norms = input_norms(model, [part.parameter for part in consumers.values()], losses)
        return {
            name: _norms_at(part, norms[part.parameter], weights[part.parameter].detach())
            for name, part in consumers.items()
        }
    assert importance == "random", importance
    some = next(iter(weights.values()))
    return random_scores({group.name: some.new_empty(group.units) for group in groups}, seed)


def weights_of(model: nn.Module, groups: Iterable[Group]) -> dict[str, nn.Parameter]:
    """The matrices that have weights of these units, by name."""
    found = {part.parameter: model.get_parameter(part.parameter) for group in groups for part in group.parts}
    return {name: parameter for name, parameter in found.items() if parameter.ndim > 1}


def consumer_of(group: Group) -> Part:
    """Where a group's units are the input of a matrix."""
    return next(part for part in group.parts if part.consumes)


def unit_sums(groups: Iterable[Group], values: Mapping[str, Tensor]) -> Scores:
    """The sum of each unit's values, which have the shapes of the matrices."""
    sums: Scores = {}
    for group in groups:
        parts = [_sums_at(part, values[part.parameter]) for part in group.parts if part.parameter in values]
        sums[group.name] = torch.stack(parts).sum(0)
    return sums


def last_of_all(scores: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> Scores:
    """These scores, with those of what is pruned already below all others: it is no longer compared."""
    return {name: torch.where(kept[name], score, -1) if name in kept else score for name, score in scores.items()}


def random_scores(like: Mapping[str, Tensor], seed: int) -> Scores:
    """Evenly drawn from 0 to 1, the same for the same seed and shapes on every device."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(some.shape, generator=generator).to(some.device) for name, some in like.items()}


def moves_of(weights: Mapping[str, nn.Parameter], losses: Losses) -> Iterator[Scores]:
    """w * dL/dw for each batch: to first order, what the loss would lose if the weight were zero.

    Molchanov and others 2019, https://arxiv.org/abs/1906.10771. No .grad is touched; frozen weights stay frozen.
    """
    with _differentiable(weights.values()):
        for loss in losses():
            gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
            yield {
                name: weight.detach() * grad for (name, weight), grad in zip(weights.items(), gradients, strict=True)
            }


def input_norms(model: nn.Module, names: Iterable[str], losses: Losses) -> Scores:
    """The norm of each input of these matrices over all tokens of the calibration texts, [inputs]; padding is none.

    What Wanda multiplies |w| by: Sun and others 2023, https://arxiv.org/abs/2306.11695.
    """
    squares: Scores = {}
    seen: dict[str, Tensor] = {}

    def see(_: nn.Module, __: Any, given: dict[str, Any]) -> None:
        seen["mask"] = given["attention_mask"].bool()

    def add(name: str, _: nn.Module, taken: tuple[Tensor, ...]) -> None:
        squares[name] = squares.get(name, 0) + _tokens(taken[0], seen["mask"]).float().square().sum(0)

    hooks = [model.get_submodule("encoder").register_forward_pre_hook(see, with_kwargs=True)]
    for name in names:
        hooks.append(model.get_submodule(name.removesuffix(".weight")).register_forward_pre_hook(partial(add, name)))
    try:
        with torch.no_grad():
            assert sum(1 for _ in losses()), "no calibration texts"
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total.sqrt() for name, total in squares.items()}


def _tokens(states: Tensor, mask: Tensor) -> Tensor:
    """[B, T, H] or [..., H] -> [S, H]: without the padding that a mask [B, T] tells."""
    return states[mask] if states.shape[:-1] == mask.shape else states.flatten(end_dim=-2)


def _along(norms: Tensor, axis: int) -> Tensor:
    """[inputs] -> what a matrix with its inputs along `axis` can be multiplied by."""
    return norms[None, :] if axis == 1 else norms[:, None]


def _sums_at(part: Part, values: Tensor) -> Tensor:
    """[units]"""
    return values.sum(1 - part.axis)[part.places.to(values.device)].sum(1)


def _norms_at(part: Part, inputs: Tensor, weight: Tensor) -> Tensor:
    """The norm of a unit's inputs to its consuming matrix times that of the weights they meet, [units]."""
    return inputs[part.places.to(inputs.device)].square().sum(1).sqrt() * _sums_at(part, weight.square()).sqrt()


def _mean(found: Iterable[Scores]) -> Scores:
    """The mean over batches."""
    total, count = dict[str, Tensor](), 0
    for scores in found:
        total = {name: score + total[name] if total else score for name, score in scores.items()}
        count += 1
    assert count, "no calibration texts"
    return {name: score / count for name, score in total.items()}


def _of_norm_one(scores: Scores) -> Scores:
    return {name: nn.functional.normalize(score, dim=0) for name, score in scores.items()}


@contextmanager
def _differentiable(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Frozen parameters have gradients too, for a while."""
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
