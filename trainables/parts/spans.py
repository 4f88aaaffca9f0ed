"""Extractive question answering: a long context becomes several windows, each of them "question, part of the context".

Shapes: N examples, W windows, S tokens of all windows end to end, K tokens of one context.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.parts.batches import Rows, Tokenised

Spans = npt.NDArray[np.int64]
Golds = Sequence[tuple[str, int]]  # the answers that count as right: text, and where in the context it begins
CHUNK = 512  # examples whose encodings, far larger than the arrays kept of them, are in memory at a time
IS_BLANK = np.array([chr(code).isspace() for code in range(2**16)])  # no character beyond these is blank


@dataclass(frozen=True, slots=True)
class Windows:
    """W windows over N contexts: the windows of an example follow each other, and neighbours share `stride` tokens.

    `offsets` (S, 2) are the characters of the context, first and one behind the last, that a token covers: (-1, -1) for
    tokens of the question and special ones; blanks at a token's ends are left out, so both are equal for a blank token.
    `example` (W,) says whose window it is. `starts` and `ends` (W,) are where in the window the first and the last
    token of the first answer stand; both 0, its first token, where the window does not hold the answer whole.
    """

    tokens: Tokenised
    example: Rows
    offsets: Spans
    starts: Rows
    ends: Rows


@dataclass(slots=True)
class _Parts:
    """Windows as they are made; in half the width, as all of them are in memory twice when they are put together."""

    ids: list[npt.NDArray[np.int32]] = field(default_factory=list)
    types: list[npt.NDArray[np.int32]] = field(default_factory=list)
    offsets: list[npt.NDArray[np.int32]] = field(default_factory=list)
    targets: list[tuple[int, int, int]] = field(default_factory=list)  # example, place of first and last answer token


def windows(
    tokenizer: Any,
    questions: Sequence[str],
    contexts: Sequence[str],
    answers: Sequence[Golds] | None,
    max_length: int,
    stride: int,
) -> Windows:
    """The windows of every example, at least one each, at most `max_length` tokens long, by a fast tokenizer.

    Only the context is cut into windows; neighbours overlap by `stride` tokens. A question is cut at half of
    max_length, so that each leaves room for more than the overlap. Raises ValueError when `stride` does not fit into
    the other half (see `widest_stride`).
    """
    widest = widest_stride(tokenizer, max_length)
    if not 0 <= stride <= widest:
        raise ValueError(f"windows of {max_length} tokens can overlap by 0 to {widest} tokens, not by {stride}")
    assert len(questions) == len(contexts)
    core, parts = tokenizer.backend_tokenizer, _Parts()
    with _settings_kept(core):
        core.no_padding()
        for first in range(0, len(questions), CHUNK):
            rows = range(first, min(first + CHUNK, len(questions)))
            asked = _short_questions(core, [questions[row].lstrip() for row in rows], max_length // 2)
            core.enable_truncation(max_length, stride=stride, strategy="only_second")
            encodings = core.encode_batch([(ask, contexts[row]) for ask, row in zip(asked, rows, strict=True)])
            for row, encoding in zip(rows, encodings, strict=True):
                golds = answers[row] if answers is not None else ()
                _add(parts, row, [encoding, *encoding.overflowing], contexts[row], golds, stride)
    return _together(parts, tokenizer.pad_token_id)


def widest_stride(tokenizer: Any, max_length: int) -> int:
    """By how many tokens windows can overlap, whatever the question; below 0 where max_length is too small for any."""
    special: int = tokenizer.backend_tokenizer.num_special_tokens_to_add(True)
    return max_length - max_length // 2 - special - 1


@contextlib.contextmanager
def _settings_kept(core: Any) -> Iterator[None]:
    """Truncation and padding belong to the tokenizer, which others use too: put them back."""
    truncation, padding = core.truncation, core.padding
    try:
        yield
    finally:
        core.no_truncation() if truncation is None else core.enable_truncation(**truncation)
        core.no_padding() if padding is None else core.enable_padding(**padding)


def _short_questions(core: Any, questions: list[str], most: int) -> list[str]:
    core.no_truncation()
    encodings = core.encode_batch_fast(questions, add_special_tokens=False)
    pairs = zip(questions, encodings, strict=True)
    return [question if len(encoding) <= most else _cut(core, question, most) for question, encoding in pairs]


def _cut(core: Any, question: str, most: int) -> str:
    """The question up to its first token too many; again, as what is left may fall into other tokens."""
    while len(encoding := core.encode(question, add_special_tokens=False)) > most:
        question = question[: min(encoding.offsets[most][0], len(question) - 1)]
    return question


def _add(parts: _Parts, row: int, encodings: list[Any], context: str, golds: Golds, stride: int) -> None:
    """Add the windows of one example. They differ in their context tokens alone: before and behind these, all agree."""
    sides = encodings[0].sequence_ids
    begin, count = (sides.index(1), sides.count(1)) if 1 in sides else (0, 0)
    around = len(sides) - count
    counts = [len(encoding) - around for encoding in encodings]
    spans = _text_spans(_context_spans(encodings, begin, counts, stride), context)
    answer = _answer_tokens(spans, golds)
    for number, (encoding, count) in enumerate(zip(encodings, counts, strict=True)):
        skipped = number * (counts[0] - stride)
        offsets = np.full((len(encoding), 2), -1, np.int32)
        offsets[begin : begin + count] = spans[skipped : skipped + count]
        parts.ids.append(np.asarray(encoding.ids, np.int32))
        parts.types.append(np.asarray(encoding.type_ids, np.int32))
        parts.offsets.append(offsets)
        whole = answer is not None and skipped <= answer[0] and answer[1] < skipped + count
        first, last = (place - skipped + begin for place in answer) if answer is not None and whole else (0, 0)
        parts.targets.append((row, first, last))


def _context_spans(encodings: list[Any], begin: int, counts: list[int], stride: int) -> Spans:
    """What each token of the context covers (K, 2), once: a window repeats the last `stride` tokens before it."""
    pairs = enumerate(zip(encodings, counts, strict=True))
    spans = [encoding.offsets[begin + (stride if i else 0) : begin + count] for i, (encoding, count) in pairs]
    return np.array([span for part in spans for span in part], np.int64).reshape(-1, 2)


def _text_spans(spans: Spans, context: str) -> Spans:
    """Spans (K, 2) without the blanks at their ends, and with what follows at once and no token covers.

    A byte-level tokenizer counts the blank before a word to the word; one that strips accents drops those that are
    characters of their own, which belong to the letter before them.
    """
    codes = np.frombuffer(context.encode("utf-32-le"), np.uint32)
    blank = IS_BLANK[np.minimum(codes, len(IS_BLANK) - 1)]
    change = np.zeros(len(context) + 1, np.int64)
    np.add.at(change, spans[:, 0], 1)
    np.add.at(change, spans[:, 1], -1)
    covered = np.cumsum(change)[:-1] > 0
    first = np.minimum(_next_place(~blank)[spans[:, 0]], spans[:, 1])
    # Read backwards, the last place with a character before it is the next one.
    last = len(context) - _next_place(~blank[::-1])[len(context) - spans[:, 1]]
    return np.stack([first, _next_place(blank | covered)[np.maximum(first, last)]], axis=1)


def _next_place(mask: npt.NDArray[np.bool_]) -> Rows:
    """For each place, and the one behind the last, the first place from there on where the mask holds, or the end."""
    places = np.append(np.where(mask, np.arange(len(mask)), len(mask)), len(mask))
    return np.minimum.accumulate(places[::-1])[::-1]


def _answer_tokens(spans: Spans, golds: Golds) -> tuple[int, int] | None:
    """The first and the last token with text of the first answer; None without an answer or a token of it."""
    if not golds:
        return None
    text, begin = golds[0]
    first, end = spans.T
    held = np.flatnonzero((first < end) & (first < begin + len(text)) & (end > begin))
    return (int(held[0]), int(held[-1])) if len(held) else None


def _together(parts: _Parts, padding: int) -> Windows:
    lengths = np.fromiter(map(len, parts.ids), np.int64, len(parts.ids))
    # Begun with an empty one, so that even of no window at all the arrays have their shapes.
    ids, types = (np.concatenate([np.empty(0, np.int32), *part], dtype=np.int64) for part in (parts.ids, parts.types))
    offsets = np.concatenate([np.empty((0, 2), np.int32), *parts.offsets], dtype=np.int64)
    example, starts, ends = np.array(parts.targets, np.int64).reshape(-1, 3).T
    return Windows(
        Tokenised(ids, np.cumsum(lengths) - lengths, lengths, padding, types), example, offsets, starts, ends
    )
