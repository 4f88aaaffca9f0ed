"""Answers in a context: the best span by a model's logits, and how well an answer's text agrees with the right ones.

Shapes: N examples, W windows, S tokens of all windows end to end.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.parts.spans import Windows

Logits = npt.NDArray[np.floating]
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLE = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True, slots=True)
class Answer:
    """`context[first_char:last_char_exclusive]` answers an example; `score` is the sum of its two logits."""

    example: int
    first_char: int
    last_char_exclusive: int
    score: float


def best_answers(start: Logits, end: Logits, windows: Windows, examples: int, longest: int = 30) -> list[Answer]:
    """For each example the span of at most `longest` tokens in one window whose start and end logits sum to most.

    Logits are (S,), in the order of `windows.tokens`; every span is tried, and of equal ones the first wins. A token
    without text begins and ends no answer; where there are no others, or only NaN, the answer is empty and scores -inf.
    """
    best, ahead = _best_spans(start, end, windows, longest)
    example = np.repeat(windows.example, windows.tokens.lengths)
    top = np.full(examples, -np.inf)
    np.maximum.at(top, example, best)
    winners = np.flatnonzero((best == top[example]) & (best > -np.inf))
    answered, firsts = np.unique(example[winners], return_index=True)
    begin, finish = np.zeros((2, examples), np.int64)
    places = winners[firsts]
    begin[answered] = windows.offsets[places, 0]
    finish[answered] = windows.offsets[places + ahead[places], 1]
    rows = zip(range(examples), begin.tolist(), finish.tolist(), top.tolist(), strict=True)
    return [Answer(*row) for row in rows]


def _best_spans(
    start: Logits, end: Logits, windows: Windows, longest: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """For each token (S,) the best sum of a span that begins with it, and how many tokens further that one ends."""
    size = len(windows.offsets)
    assert start.shape == end.shape == (size,)
    text = windows.offsets[:, 0] < windows.offsets[:, 1]
    begin, finish = (np.where(text, logits, -np.inf) for logits in (start, end))
    window = np.repeat(np.arange(len(windows.example)), windows.tokens.lengths)
    best, ahead = np.full(size, -np.inf), np.zeros(size, np.int64)
    for step in range(min(longest, size)):
        total = begin[: size - step] + finish[step:]
        better = np.flatnonzero((total > best[: size - step]) & (window[: size - step] == window[step:]))
        best[better], ahead[better] = total[better], step
    return best, ahead


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1 where the prediction is one of the right answers, else 0, both normalised as SQuAD v1.1 does (1606.05250)."""
    return float(max(_words(prediction) == _words(gold) for gold in golds))


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """F1 of the words that a prediction shares with the right answer closest to it, 0 to 1 (SQuAD v1.1, 1606.05250).

    As there, texts of which nothing is left have no word in common: 0, though their exact match is 1.
    """
    return max(_f1(_words(prediction), _words(gold)) for gold in golds)


def _words(text: str) -> list[str]:
    """Lower-case words without punctuation and articles."""
    return ARTICLE.sub(" ", text.lower().translate(NO_PUNCTUATION)).split()


def _f1(one: list[str], other: list[str]) -> float:
    shared = (Counter(one) & Counter(other)).total()
    return 2 * shared / (len(one) + len(other)) if shared else 0.0
