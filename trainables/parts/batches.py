"""Batches without waste: texts are tokenised once, batched by length, and both sides of a pair share one padded tensor.

Shapes: B pairs in a batch, T tokens of its longest text, N texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # imported where it is needed: models in ONNX are served without its hundreds of MB
    from torch import Tensor

Rows = npt.NDArray[np.int64]
Texts = Sequence[str] | Sequence[tuple[str, str]]  # texts, or pairs that a model reads as one


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Token ids of N texts, end to end in `ids`; text i begins at `starts[i]` and has `lengths[i]` tokens.

    `types`, as long as `ids`, is 1 for the tokens of a pair's second text; None where the texts are no pairs.
    """

    ids: npt.NDArray[np.int64]
    starts: Rows
    lengths: Rows
    padding: int
    types: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Rows, width: int | None = None) -> "tuple[Tensor, Tensor]":
        """Token ids and mask of these texts, each (len(rows), T), int64; T is `width`, or the longest text's."""
        import torch

        column = np.arange(self.lengths[rows].max() if width is None else width)
        mask = column < self.lengths[rows, None]
        # Behind a text's end any valid index does: what it reads is replaced by padding.
        places = np.minimum(self.starts[rows, None] + column, len(self.ids) - 1)
        ids = np.where(mask, self.ids[places], self.padding)
        return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))

    def places(self, rows: Rows) -> Rows:
        """Where in `ids` the tokens of these texts stand, text after text, shape (S,) for their S tokens."""
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        places: Rows = np.arange(ends[-1]) + np.repeat(self.starts[rows] - (ends - lengths), lengths)
        return places


def tokenise(tokenizer: Any, texts: Texts, max_length: int) -> Tokenised:
    """As `tokens_of`, but the last few results are kept, for the trials of one process to share."""
    return _kept_tokens(tokenizer, tuple(texts), max_length)


@lru_cache(maxsize=12)
def _kept_tokens(tokenizer: Any, texts: Texts, max_length: int) -> Tokenised:
    return tokens_of(tokenizer, texts, max_length)


def tokens_of(tokenizer: Any, texts: Texts, max_length: int) -> Tokenised:
    """The tokens of each text, or of each pair of texts, cut at max_length, by a fast tokenizer of transformers.

    Of a pair the longer text is cut first. A text of no tokens, as an empty one is where no mark is put around it,
    becomes one of padding: there is always a token to pool.
    """
    core = tokenizer.backend_tokenizer
    # A tokenizer.json may itself ask for padding to a fixed width: MiniLM's pads everything to 128.
    core.no_padding()
    core.enable_truncation(max_length)
    encodings = core.encode_batch_fast(list(texts))
    ids = [np.asarray(encoding.ids or [tokenizer.pad_token_id], np.int64) for encoding in encodings]
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    pairs = bool(texts) and not isinstance(texts[0], str)
    types = _end_to_end([np.asarray(encoding.type_ids or [0], np.int64) for encoding in encodings]) if pairs else None
    return Tokenised(_end_to_end(ids), np.cumsum(lengths) - lengths, lengths, tokenizer.pad_token_id, types)


def _end_to_end(parts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def pair_lengths(first: Tokenised, second: Tokenised) -> Rows:
    """What a pair costs in a padded batch: the length of its longer side."""
    return np.maximum(first.lengths, second.lengths)


def length_batches(lengths: Rows, size: int, rng: np.random.Generator, pool: int | None = None) -> list[Rows]:
    """Every row once, in batches of `size` with similar lengths, in an order that `rng` draws.

    Rows of equal length are shuffled before they are cut into batches. With `pool`, only so many batches at a time are
    sorted: more mixed batches for more padding.
    """
    order = rng.permutation(len(lengths))
    pools = in_parts(order, len(order) if pool is None else pool * size)
    batches = [batch for rows in pools for batch in in_parts(rows[np.argsort(lengths[rows], kind="stable")], size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def in_parts(rows: Rows, size: int) -> list[Rows]:
    """`rows` in pieces of at most `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), max(size, 1))]


def in_order(answers: "Callable[[Rows], Tensor]", lengths: Rows, size: int) -> "Tensor":
    """What `answers` gives for rows, [B, ...], of all N rows in their order: [N, ...] float32 on the CPU, no gradient.

    It is called with `size` rows of similar length at a time.
    """
    import torch

    ordered: Tensor | None = None
    with torch.inference_mode():
        for rows in length_batches(lengths, size, np.random.default_rng(0)):  # any order gives the same answers
            found = answers(rows).float().cpu()
            if ordered is None:
                ordered = found.new_empty(len(lengths), *found.shape[1:])
            ordered[torch.from_numpy(rows)] = found
    assert ordered is not None, "no rows"
    return ordered


def pair_batch(first: Tokenised, second: Tokenised, rows: Rows) -> "tuple[Tensor, Tensor]":
    """Token ids and mask (2B, T) of these pairs: the first B rows are first sentences, the other B second sentences."""
    import torch

    width = int(max(first.lengths[rows].max(), second.lengths[rows].max()))
    sides = [side.batch(rows, width) for side in (first, second)]
    return torch.cat([ids for ids, _ in sides]), torch.cat([mask for _, mask in sides])
