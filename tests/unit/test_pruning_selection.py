"""Counts of what is pruned are exact, ties or not, and what goes has the least scores."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from trainables.parts.pruning.selection import (
    exchange,
    keep_largest,
    keep_units,
    keep_weights,
    most_units,
    share_of,
    too_many,
    two_of_four,
    units_of,
)

# ModernBERT-base with a classifier of 2 classes: the linear matrices of each of 22 layers, and those behind them
LAYER = ((2304, 768), (768, 768), (2304, 768), (768, 1152))
BEHIND = ((768, 768), (2, 768))

SHARES = st.floats(0, 0.99)
FEW_VALUES = st.sampled_from([-1.0, 0.0, 0.5, 2.0])  # many ties
SCORES = st.lists(FEW_VALUES, min_size=1, max_size=40).map(torch.tensor)
GROUPS = st.lists(st.lists(FEW_VALUES, min_size=1, max_size=9).map(torch.tensor), min_size=1, max_size=6)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def zeros(kept: Tensor) -> int:
    return kept.numel() - int(kept.count_nonzero())


def named(tensors: list[Tensor]) -> dict[str, Tensor]:
    return {f"layer {number}": tensor for number, tensor in enumerate(tensors)}


def test_30_percent_of_modernbert_by_matrix() -> None:
    def gone(shapes: tuple[tuple[int, int], ...]) -> int:
        kept = keep_weights(named([random(*shape) for shape in shapes]), 0.3, "layer")
        return sum(zeros(matrix) for matrix in kept.values())

    assert 22 * gone(LAYER) + gone(BEHIND) == 33_266_552


def test_two_of_four_of_modernbert() -> None:
    def gone(shapes: tuple[tuple[int, int], ...]) -> int:
        return sum(zeros(two_of_four(random(*shape), inputs=1)) for shape in shapes)

    assert 22 * gone(LAYER) + gone(BEHIND) == 55_444_224


def test_30_percent_of_the_heads_and_neurons_of_modernbert() -> None:
    heads = keep_units(named([random(12, seed=layer) for layer in range(22)]), 0.3, "global")
    assert sum(zeros(layer) for layer in heads.values()) == 79
    neurons = keep_units(named([random(1152, seed=layer) for layer in range(22)]), 0.3, "layer")
    assert [zeros(layer) for layer in neurons.values()] == [345] * 22


def test_shares_of_weights_are_rounded_and_of_units_rounded_down() -> None:
    assert [share_of(10, share) for share in (0, 0.04, 0.26, 0.99)] == [0, 0, 3, 10]
    assert [units_of(12, share) for share in (0, 0.25, 0.3, 0.99)] == [0, 3, 3, 11]
    assert units_of(100, 0.29) == 29  # 0.29 * 100 < 29 in binary


@given(SCORES, st.data())
def test_the_least_go_exactly_so_many_and_of_equals_the_last(scores: Tensor, data: st.DataObject) -> None:
    pruned = data.draw(st.integers(0, len(scores)))
    order = sorted(range(len(scores)), key=lambda place: (-float(scores[place]), place))
    kept = set(order[: len(scores) - pruned])
    assert keep_largest(scores, pruned).tolist() == [place in kept for place in range(len(scores))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_of_equal_scores_no_more_go_than_asked_for(dtype: torch.dtype) -> None:
    kept = keep_largest(torch.zeros(3, 4, dtype=dtype), 5)
    assert kept.tolist() == [[True] * 4, [True] * 3 + [False], [False] * 4]


@given(SCORES, st.data())
def test_what_is_not_allowed_is_neither_counted_nor_kept(scores: Tensor, data: st.DataObject) -> None:
    allowed = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    pruned = data.draw(st.integers(0, int(allowed.sum())))
    kept = keep_largest(scores, pruned, allowed)
    assert not kept[~allowed].any()
    assert torch.equal(kept[allowed], keep_largest(scores[allowed], pruned))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_a_mistake(wrong: float) -> None:
    with pytest.raises(AssertionError):
        keep_largest(torch.tensor([1.0, wrong, 0.0, 2.0]), 1)
    with pytest.raises(AssertionError):
        two_of_four(torch.tensor([[1.0, wrong, 0.0, 2.0]]), inputs=1)


def test_more_than_there_are_cannot_go() -> None:
    with pytest.raises(AssertionError, match="4 of 3"):
        keep_largest(torch.ones(3), 4)


@given(GROUPS, SHARES)
def test_one_ranking_of_all_matrices_has_one_threshold(scores: list[Tensor], share: float) -> None:
    kept = keep_weights(named(scores), share, "global")
    assert list(kept) == list(named(scores))
    joined, stays = torch.cat(scores), torch.cat(list(kept.values()))
    assert torch.equal(stays, keep_largest(joined, share_of(len(joined), share)))


@given(GROUPS, SHARES)
def test_every_matrix_loses_the_same_share(scores: list[Tensor], share: float) -> None:
    for matrix, kept in zip(scores, keep_weights(named(scores), share, "layer").values(), strict=True):
        assert torch.equal(kept, keep_largest(matrix, share_of(len(matrix), share)))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_matrices_keep_their_shapes_and_the_share_is_one_of_what_is_allowed(scope: str) -> None:
    scores = {"first": random(4, 6), "second": random(8, 3, seed=1)}
    allowed = {"first": torch.zeros(4, 6, dtype=torch.bool), "second": torch.ones(8, 3, dtype=torch.bool)}
    allowed["first"][1:3] = True
    kept = keep_weights(scores, 0.25, scope, allowed)  # type: ignore[arg-type]
    assert {name: matrix.shape for name, matrix in kept.items()} == {name: s.shape for name, s in scores.items()}
    assert sum(int(matrix.sum()) for matrix in kept.values()) == 27  # of 12 + 24
    assert not kept["first"][0].any()


@given(GROUPS, SHARES, st.integers(1, 4))
def test_counts_of_units_are_exact_and_every_group_keeps_its_least(
    scores: list[Tensor], share: float, least: int
) -> None:
    sizes = [len(group) for group in scores]
    assume(units_of(sum(sizes), share) <= most_units(sizes, least))
    kept = keep_units(named(scores), share, "global", least)
    assert sum(zeros(group) for group in kept.values()) == units_of(sum(sizes), share)
    assert all(int(group.sum()) >= min(least, len(group)) for group in kept.values())
    assert torch.equal(torch.cat(list(kept.values())), torch.cat(one_by_one(scores, share, least)))


def one_by_one(scores: list[Tensor], share: float, least: int) -> list[Tensor]:
    """The reference: the worst unit of all goes, and of equals the last, until enough have gone."""
    kept = [torch.ones(len(group), dtype=torch.bool) for group in scores]
    for _ in range(units_of(sum(len(group) for group in scores), share)):
        open_ = [(group, unit) for group, stays in enumerate(kept) if stays.sum() > least for unit in range(len(stays))]
        group, unit = min(
            (at for at in open_ if kept[at[0]][at[1]]), key=lambda at: (float(scores[at[0]][at[1]]), -at[0], -at[1])
        )
        kept[group][unit] = False
    return kept


def test_where_a_layer_would_be_emptied_the_next_worst_go_elsewhere() -> None:
    scores = {"weak": torch.tensor([0.1, 0.2, 0.3]), "strong": torch.tensor([1.0, 3.0, 2.0])}
    kept = keep_units(scores, 0.5, "global")
    assert {name: units.tolist() for name, units in kept.items()} == {
        "weak": [False, False, True],
        "strong": [False, True, True],
    }
    kept = keep_units(scores, 0.34, "global", least=2)
    assert {name: units.tolist() for name, units in kept.items()} == {
        "weak": [False, True, True],
        "strong": [False, True, True],
    }


@pytest.mark.parametrize(
    ("share", "scope", "least", "said"),
    [
        (0.9, "global", 2, "0.9 of 24 are 21, but only 20 can go if every layer keeps 2"),
        (0.9, "layer", 3, "0.9 of 12 are 10, but only 9 can go if every layer keeps 3"),
    ],
)
def test_units_that_cannot_go_are_told_in_numbers(share: float, scope: str, least: int, said: str) -> None:
    assert too_many([12, 12], share, scope, least) == said  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=said):
        keep_units(named([random(12), random(12)]), share, scope, least)  # type: ignore[arg-type]
    assert too_many([12, 12], share, scope, least - 1) is None  # type: ignore[arg-type]


def test_a_layer_never_loses_its_last_unit() -> None:
    assert most_units([12, 1, 3], 1) == 13
    kept = keep_units({"one": random(1), "many": random(40)}, 0.95, "global")
    assert [int(units.sum()) for units in kept.values()] == [1, 2]


@given(st.integers(1, 4), st.integers(1, 3), st.data())
def test_of_every_four_inputs_the_two_largest_stay(rows: int, blocks: int, data: st.DataObject) -> None:
    size = rows * blocks * 4
    scores = torch.tensor(data.draw(st.lists(FEW_VALUES, min_size=size, max_size=size))).view(rows, -1)
    kept = two_of_four(scores, inputs=1)
    for four, stays in zip(scores.view(-1, 4), kept.view(-1, 4), strict=True):
        assert torch.equal(stays, keep_largest(four, 2))
    # GPT-2's matrices stand the other way round
    assert torch.equal(two_of_four(scores.T.contiguous(), inputs=0), kept.T)


def test_inputs_that_are_no_multiple_of_four_are_refused() -> None:
    with pytest.raises(ValueError, match="6 inputs are no multiple of 4"):
        two_of_four(torch.ones(8, 6), inputs=1)
    assert two_of_four(torch.ones(8, 6), inputs=0).sum() == 24


def test_an_exchange_is_one_for_one() -> None:
    kept = torch.tensor([True, True, True, False, False, False])
    scores = torch.tensor([3.0, 1.0, 2.0, 0.0, 0.0, 0.0])
    growth = torch.tensor([9.0, 9.0, 9.0, 0.2, 0.5, 0.1])
    assert exchange(kept, scores, growth, 1).tolist() == [True, False, True, False, True, False]
    assert exchange(kept, scores, growth, 2).tolist() == [True, False, False, True, True, False]
    assert exchange(kept, scores, growth, 0).tolist() == kept.tolist()
    assert exchange(kept, scores, growth, 50).tolist() == (~kept).tolist()


@given(SCORES, st.data())
def test_an_exchange_leaves_the_count_as_it_was(scores: Tensor, data: st.DataObject) -> None:
    size, count = len(scores), data.draw(st.integers(0, 50))
    kept = torch.tensor(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    after = exchange(kept, scores, torch.zeros(size), count)
    assert after.sum() == kept.sum()
    assert (kept & ~after).sum() == min(count, int(kept.sum()), int((~kept).sum()))
