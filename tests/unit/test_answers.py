"""Answers: the best legal span of all, and scores as SQuAD v1.1 counts them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.parts.answers import Answer, best_answers, exact_match, token_f1
from trainables.parts.batches import Tokenised
from trainables.parts.spans import Windows

Span = tuple[int, int]
NONE = (-1, -1)


def made(rows: list[tuple[int, list[Span]]]) -> Windows:
    """Windows from each one's example and the characters of its tokens."""
    lengths = np.array([len(tokens) for _, tokens in rows], np.int64)
    offsets = np.array([span for _, tokens in rows for span in tokens], np.int64).reshape(-1, 2)
    zeros = np.zeros(len(rows), np.int64)
    ids = np.zeros(len(offsets), np.int64)
    tokens = Tokenised(ids, np.cumsum(lengths) - lengths, lengths, 0)
    return Windows(tokens, np.array([example for example, _ in rows], np.int64), offsets, zeros, zeros)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[tuple[int, list[Span]]], list[int], list[int], int]:
    """Windows of up to three examples with tokens that have text or not, their logits, and the longest answer."""
    span = st.sampled_from([NONE, (3, 3), (0, 2), (2, 5), (5, 6), (7, 9)])
    rows = [
        (example, draw(st.lists(span, min_size=1, max_size=8)))
        for example in range(draw(st.integers(1, 3)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    size = sum(len(tokens) for _, tokens in rows)
    logits = st.lists(st.integers(-4, 4), min_size=size, max_size=size)
    return rows, draw(logits), draw(logits), draw(st.integers(1, 9))


def spelled_out(rows: list[tuple[int, list[Span]]], start: list[int], end: list[int], longest: int) -> list[Answer]:
    """Every pair of tokens, one after the other."""
    best = [Answer(example, 0, 0, -np.inf) for example in range(rows[-1][0] + 1)]
    place = 0
    for example, tokens in rows:
        for i, (begin, _) in enumerate(tokens):
            for j, (_, finish) in enumerate(tokens[i : i + longest], start=i):
                legal = all(first < last for first, last in (tokens[i], tokens[j]))
                score = float(start[place + i] + end[place + j])
                if legal and score > best[example].score:
                    best[example] = Answer(example, begin, finish, score)
        place += len(tokens)
    return best


@given(case=cases())
def test_no_legal_span_is_better(case: tuple[list[tuple[int, list[Span]]], list[int], list[int], int]) -> None:
    rows, start, end, longest = case
    found = best_answers(np.array(start), np.array(end), made(rows), rows[-1][0] + 1, longest)
    assert found == spelled_out(rows, start, end, longest)


def test_answers_stay_within_a_window_and_run_forwards() -> None:
    found = made([(0, [NONE, (0, 2), (3, 5)]), (0, [(3, 5), (6, 8)])])
    start, end = np.array([9, 0, 5, 0, 1.0]), np.array([9, 5, 0, 0, 6.0])
    # 5 + 6 would cross from one window into the other, 5 + 5 end before it starts, 9 + 9 is the first token.
    assert best_answers(start, end, found, 1) == [Answer(0, 6, 8, 7.0)]


def test_the_longest_answer_counts_tokens() -> None:
    found = made([(0, [(place, place + 1) for place in range(40)])])
    start, end = np.zeros(40), np.zeros(40)
    start[2], end[[31, 32]] = 1, (1, 2)
    assert best_answers(start, end, found, 1) == [Answer(0, 2, 32, 2.0)]
    assert best_answers(start, end, found, 1, longest=31) == [Answer(0, 2, 33, 3.0)]


def test_every_example_has_an_answer() -> None:
    found = made([(0, [NONE, NONE]), (1, [NONE, (0, 3)]), (2, [NONE, (4, 4)]), (3, [(1, 2)])])
    start = np.array([5, 5, 5, -7, 5, 5, np.nan], np.float32)
    expected = [Answer(0, 0, 0, -np.inf), Answer(1, 0, 3, -14.0), Answer(2, 0, 0, -np.inf), Answer(3, 0, 0, -np.inf)]
    assert best_answers(start, start, found, 4) == expected


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("Denver Broncos", ["Denver Broncos", "The Broncos"], 1, 1),
        ("the  DENVER broncos!", ["Denver Broncos"], 1, 1),
        ("Broncos", ["Denver Broncos", "The Broncos"], 1, 1),
        ("Broncos of Denver", ["Denver Broncos"], 0, 4 / 5),
        ("Carolina", ["Denver Broncos"], 0, 0),
        ("cat cat", ["cat"], 0, 2 / 3),
        ("cat cat dog", ["cat cat cat"], 0, 2 / 3),
        ("one two three four", ["four five", "two three", "six"], 0, 2 / 3),
        ("don't", ["dont"], 1, 1),
        ("well-known", ["well known"], 0, 0),
        ("U.S.", ["us"], 1, 1),
        ("$1,200.50", ["120050"], 1, 1),
        ("theatre an anthem", ["theatre anthem"], 1, 1),
        ("end of the\u2013war", ["end of \u2013war"], 1, 1),
        ("war\u2013the\u2013end", ["war\u2013 \u2013end"], 1, 1),
        ("Café", ["cafe"], 0, 0),
        ("", ["cat"], 0, 0),
        ("The", ["a"], 1, 0),
    ],
)
def test_scores_have_known_values(prediction: str, golds: list[str], exact: float, f1: float) -> None:
    assert exact_match(prediction, golds) == exact
    assert token_f1(prediction, golds) == pytest.approx(f1, abs=1e-12)


TEXTS = st.lists(st.sampled_from(["the", "a", "Cat", "cat", "dog.", "fox", "!"]), max_size=6).map(" ".join)


@given(one=TEXTS, other=TEXTS, third=TEXTS)
def test_scores_are_shares_and_the_closest_answer_counts(one: str, other: str, third: str) -> None:
    assert token_f1(one, [other]) == token_f1(other, [one])
    assert 0 <= token_f1(one, [other]) <= 1
    for score in (exact_match, token_f1):
        assert score(one, [other, third]) == max(score(one, [other]), score(one, [third]))
