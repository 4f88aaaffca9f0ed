"""Batches: every pair once, nothing lost to padding or cutting, and less padding than a shuffled order."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.parts import synthetic
from trainables.parts.batches import in_order, length_batches, pair_batch, pair_lengths, tokenise, tokens_of

LENGTHS = st.lists(st.integers(1, 60), max_size=80).map(lambda lengths: np.array(lengths, np.int64))
TEXTS = ["the doctor bought a car", "a dog", "car", "zebra near the old river, at the shop"]


@given(lengths=LENGTHS, size=st.integers(1, 20), pool=st.none() | st.integers(1, 4), seed=st.integers(0, 99))
def test_every_row_is_in_exactly_one_batch(lengths: np.ndarray, size: int, pool: int | None, seed: int) -> None:
    batches = length_batches(lengths, size, np.random.default_rng(seed), pool)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)
    assert max(map(len, batches), default=0) <= size


@given(lengths=LENGTHS, size=st.integers(1, 20), seed=st.integers(0, 99))
def test_no_order_needs_less_padding(lengths: np.ndarray, size: int, seed: int) -> None:
    def cost(batches: list[np.ndarray]) -> int:
        return sum(int(lengths[batch].max()) * len(batch) for batch in batches)

    sorted_rows = np.argsort(lengths, kind="stable")
    best = [sorted_rows[start : start + size] for start in range(0, len(lengths), size)]
    assert cost(length_batches(lengths, size, np.random.default_rng(seed))) == cost(best)


def test_batches_follow_the_generator_and_differ_between_epochs() -> None:
    lengths = np.repeat([5, 9, 7], 40)
    rng = np.random.default_rng(0)
    first, second = length_batches(lengths, 8, rng), length_batches(lengths, 8, rng)
    again = length_batches(lengths, 8, np.random.default_rng(0))
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    partners = [{frozenset(batch.tolist()) for batch in batches} for batches in (first, second)]
    assert not partners[0] & partners[1]
    assert [lengths[batch[0]] for batch in first] != sorted(lengths[batch[0]] for batch in first)


@given(lengths=LENGTHS.filter(len), size=st.integers(1, 20))
def test_answers_come_in_the_order_of_the_rows(lengths: np.ndarray, size: int) -> None:
    weights, asked = torch.arange(3.0 * len(lengths)).view(-1, 3).double().requires_grad_(), []

    def answers(rows: np.ndarray) -> torch.Tensor:
        asked.append(len(rows))
        return weights[rows] * 2

    found = in_order(answers, lengths, size)
    assert torch.equal(found, (weights.detach() * 2).float())
    assert not found.requires_grad
    assert max(asked) <= size
    assert sum(asked) == len(lengths)


@pytest.mark.parametrize("read", [tokenise, tokens_of])
def test_tokens_are_those_of_the_tokenizer(read: Callable[..., object]) -> None:
    tokenizer = synthetic.tokenizer()
    tokens = read(tokenizer, TEXTS, 128)
    for row, text in enumerate(TEXTS):
        ids, mask = tokens.batch(np.array([row]))  # type: ignore[attr-defined]
        assert ids.tolist() == [tokenizer(text)["input_ids"]]
        assert mask.all()


def test_long_texts_are_cut_and_keep_their_last_mark() -> None:
    tokenizer = synthetic.tokenizer()
    tokens = tokens_of(tokenizer, ["car " * 50, "car"], 10)
    assert tokens.lengths.tolist() == [10, 3]
    assert tokens.batch(np.array([0]))[0][0, -1] == tokenizer.sep_token_id
    assert tokens_of(tokenizer, ["car " * 50], 128).lengths.tolist() == [52]  # an earlier limit does not stay behind


def test_padding_of_the_tokenizer_file_is_left_out() -> None:
    tokenizer = synthetic.tokenizer()
    tokenizer.backend_tokenizer.enable_padding(length=64)
    assert tokens_of(tokenizer, ["car"], 128).lengths.tolist() == [3]


def test_both_sides_share_one_padded_tensor() -> None:
    tokenizer = synthetic.tokenizer()
    first, second = (tokens_of(tokenizer, texts, 128) for texts in (TEXTS, TEXTS[::-1]))
    rows = np.array([3, 1])
    ids, mask = pair_batch(first, second, rows)
    expected = tokenizer([TEXTS[3], TEXTS[1], TEXTS[0], TEXTS[2]], padding=True, return_tensors="pt")
    assert ids.tolist() == expected["input_ids"].tolist()
    assert mask.tolist() == expected["attention_mask"].tolist()
    assert pair_lengths(first, second)[rows].max() == ids.shape[1]
