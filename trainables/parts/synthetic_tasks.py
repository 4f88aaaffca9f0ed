"""Made-up examples for every kind of task, of the sentences of `synthetic`: to try a sweep, no substitute for data.

One text: each class or score goes with some concepts more than with others, so that counting words tells much, but not
all. Two texts: how alike their meanings are, which counting words does not tell. Spans: who, what or where, asked of
one of several sentences that share words with it.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from trainables.parts import synthetic
from trainables.parts.synthetic import SLOTS, Meaning, sentence_of
from trainables.parts.tasks import Kind

Row = tuple[tuple[str, ...], float, list[tuple[str, int]]]  # texts, target, answers with their first characters
Draw = Callable[[np.random.Generator], Row]
SEED = 21  # of the examples, which are the same on every machine
SIZES = tuple(synthetic.ROWS.values())  # of train, select and report; further splits are as large as the last
LABELS = ("first", "second", "third")  # of task classification, where no others are given
FAVOURED = 0.65  # probability that a slot takes one of the concepts that go with its class
SCORE_NOISE = 0.05  # standard deviation of what is added to the score of one text
SAME_WORD = 0.7  # probability that a question names a concept by the word of the sentence that answers it
SENTENCES = 3  # of a context
QUESTIONS = {  # the slot that is asked for
    0: "who {did} the {thing} near the {where} ?",
    2: "what was {did} by the {who} near the {where} ?",
    3: "where was the {thing} {did} by the {who} ?",
}


def rows(kind: Kind, texts: int, labels: tuple[str, ...], split: int) -> list[Row]:
    """The examples of a split: 0 to train, 1 to select, 2 to report, 3 and on are further ones; no text is in two."""
    return _first_splits(kind, texts, labels, max(len(SIZES), split + 1))[split]


@lru_cache(maxsize=4)
def _first_splits(kind: Kind, texts: int, labels: tuple[str, ...], count: int) -> list[list[Row]]:
    rng = np.random.default_rng(SEED)
    seen: set[str] = set()
    sizes = [*SIZES, *[SIZES[-1]] * (count - len(SIZES))]
    return [_split(kind, texts, labels, size, rng, seen) for size in sizes]


def _split(
    kind: Kind, texts: int, labels: tuple[str, ...], size: int, rng: np.random.Generator, seen: set[str]
) -> list[Row]:
    if kind == "span":
        return list(_fresh([_span] * size, rng, seen))
    if texts == 1:
        values = _scores() if kind == "regression" else None
        classes = rng.permutation(size) % max(len(labels), 1)
        draws = [_scored(values) if values else _classed(int(number), len(labels)) for number in classes]
        return list(_fresh(draws, rng, seen))
    pairs = list(_fresh([_pair] * size, rng, seen))
    return pairs if kind == "regression" else _ranked(pairs, labels)


def _fresh(draws: list[Draw], rng: np.random.Generator, seen: set[str]) -> Iterator[Row]:
    """One row of each draw, repeated until none of its texts was seen before."""
    for draw in draws:
        row = draw(rng)
        while seen & set(row[0]):
            row = draw(rng)
        seen |= set(row[0])
        yield row


def _meaning(rng: np.random.Generator) -> Meaning:
    return tuple(int(rng.integers(len(slot))) for slot in SLOTS)


def _words(meaning: Meaning, rng: np.random.Generator) -> list[str]:
    return [str(rng.choice(slot[concept])) for concept, slot in zip(meaning, SLOTS, strict=True)]


@lru_cache(maxsize=8)
def favoured(number: int, classes: int) -> list[list[int]]:
    """The concepts of each slot that go with a class: apart from other classes' while there are few of them."""
    rng = np.random.default_rng((SEED, classes))
    concepts = []
    for slot, known in enumerate(SLOTS):
        parts = min(classes, len(known) // 2)
        order = rng.permutation(len(known)).tolist()
        # Beyond as many classes as parts, two of them share a part in one slot and not in the next.
        concepts.append(order[(number + number // parts * slot) % parts :: parts])
    return concepts


def _classed(number: int, classes: int) -> Draw:
    """One text of a class."""

    def draw(rng: np.random.Generator) -> Row:
        liked = [int(rng.choice(concepts)) for concepts in favoured(number, classes)]
        taken = [one if rng.random() < FAVOURED else other for one, other in zip(liked, _meaning(rng), strict=True)]
        return (sentence_of(_words(tuple(taken), rng), rng),), float(number), []

    return draw


@lru_cache(maxsize=1)
def _scores() -> list[list[float]]:
    """What each concept of each slot adds to the score of a text, 0 to 1."""
    rng = np.random.default_rng(SEED)
    return [(rng.permutation(len(slot)) / (len(slot) - 1)).tolist() for slot in SLOTS]


def _scored(values: list[list[float]]) -> Draw:
    """One text and its score."""

    def draw(rng: np.random.Generator) -> Row:
        meaning = _meaning(rng)
        score = np.mean([value[concept] for value, concept in zip(values, meaning, strict=True)])
        noisy = float(np.clip(score + SCORE_NOISE * rng.standard_normal(), 0, 1))
        return (sentence_of(_words(meaning, rng), rng),), round(noisy, 4), []

    return draw


def _pair(rng: np.random.Generator) -> Row:
    """Two texts and how alike they are."""
    one = _meaning(rng)
    other = synthetic.variant_of(one, rng)
    first, second = (sentence_of(words, rng) for words in synthetic.worded(one, other, rng))
    return (first, second), synthetic.likeness(one, other), []


def _ranked(pairs: list[Row], labels: tuple[str, ...]) -> list[Row]:
    """Pairs in as many classes of equal size, from the least alike; from the most, where the first is entailment."""
    ranks = np.argsort(np.argsort([score for _, score, _ in pairs], kind="stable"))
    numbers = ranks * len(labels) // len(pairs)
    numbers = len(labels) - 1 - numbers if labels[0] == "entailment" else numbers
    return [(texts, float(number), []) for (texts, _, _), number in zip(pairs, numbers, strict=True)]


def _span(rng: np.random.Generator) -> Row:
    """A question, a context, and the word of the context that answers it."""
    asked = int(rng.choice(list(QUESTIONS)))
    meaning = _meaning(rng)
    words = _words(meaning, rng)
    others = [_words(_other(meaning, asked, rng), rng) for _ in range(SENTENCES - 1)]
    sentences = [sentence_of(told, rng) for told in (words, *others)]
    order = rng.permutation(SENTENCES).tolist()
    context = " . ".join(sentences[place] for place in order) + " ."
    found = re.search(rf"\b{words[asked]}\b", sentences[0])
    assert found
    before = sum(len(sentences[place]) + len(" . ") for place in order[: order.index(0)])
    question = QUESTIONS[asked].format(
        **dict(zip(("who", "did", "thing", "where"), _asked(meaning, words, rng), strict=True))
    )
    return (question, context), 0.0, [(words[asked], before + found.start())]


def _asked(meaning: Meaning, words: list[str], rng: np.random.Generator) -> list[str]:
    """The words of a question: those of the sentence, or synonyms."""
    return [
        word if same < SAME_WORD else other
        for word, other, same in zip(words, _words(meaning, rng), rng.random(len(words)), strict=True)
    ]


def _other(meaning: Meaning, asked: int, rng: np.random.Generator) -> Meaning:
    """What another sentence of the context tells: at most one of the things that the question tells, and no answer."""
    while True:
        other = list(_meaning(rng))
        clues = [slot for slot in range(len(SLOTS)) if slot != asked]
        shared = int(rng.choice(clues))
        other[shared] = meaning[shared]
        if other[asked] != meaning[asked] and sum(other[slot] == meaning[slot] for slot in clues) == 1:
            return tuple(other)
