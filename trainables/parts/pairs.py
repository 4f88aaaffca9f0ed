"""Sentence pairs as a model takes them: token ids, or the cached embeddings of an encoder that rests.

Shapes: B pairs of a batch, T tokens, H the encoder's width, d the embedding's width, N all pairs.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainables.parts.batches import Tokenised, length_batches, pair_batch
from trainables.parts.pooling import mean_pool

Rows = npt.NDArray[np.int64]


class PairInputs(Protocol):
    """The pairs of one split with their scores [N] in 0..1."""

    scores: Tensor

    def batches(self, size: int, rng: np.random.Generator) -> list[Rows]:
        """Every row once, in batches of at most `size`."""

    def inputs(self, rows: Rows) -> tuple[Tensor, ...]:
        """What the model takes: the first sentences of these rows, then the second ones, in one tensor of 2B."""


class TokenPairs:
    """Token ids [2B, T] and mask [2B, T]; batches hold pairs of similar length."""

    def __init__(self, first: Tokenised, second: Tokenised, scores: npt.NDArray[np.float64], device: str) -> None:
        self._first, self._second, self._device = first, second, device
        self._lengths = np.maximum(first.lengths, second.lengths)
        self.scores = torch.tensor(scores, dtype=torch.float32, device=device)

    def batches(self, size: int, rng: np.random.Generator) -> list[Rows]:
        return length_batches(self._lengths, size, rng)

    def inputs(self, rows: Rows) -> tuple[Tensor, ...]:
        ids, mask = pair_batch(self._first, self._second, rows)
        return ids.to(self._device), mask.to(self._device)


class EmbeddedPairs:
    """Mean-pooled embeddings [2B, H], made once: an encoder at rest gives the same ones in every epoch."""

    def __init__(self, first: Tensor, second: Tensor, scores: npt.NDArray[np.float64], device: str) -> None:
        self._both = torch.stack([first, second]).to(device)
        self.scores = torch.tensor(scores, dtype=torch.float32, device=device)

    def batches(self, size: int, rng: np.random.Generator) -> list[Rows]:
        order = rng.permutation(len(self.scores))
        return [order[start : start + size] for start in range(0, len(order), size)]

    def inputs(self, rows: Rows) -> tuple[Tensor, ...]:
        return (self._both[:, torch.from_numpy(rows)].flatten(0, 1),)


class SentenceModel(nn.Module):
    """Encoder, mean pooling, adapter. Without an encoder it takes what pooling would have given."""

    def __init__(self, encoder: nn.Module | None, adapter: nn.Module) -> None:
        super().__init__()
        self.encoder, self.adapter = encoder, adapter

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Token ids [B, T] with mask [B, T], or embeddings [B, H], to [B, d]."""
        if self.encoder is not None:
            assert mask is not None
            inputs = mean_pool(self.encoder(input_ids=inputs, attention_mask=mask).last_hidden_state, mask)
        embeddings: Tensor = self.adapter(inputs)
        return embeddings


def cosines(model: nn.Module, pairs: PairInputs, rows: Rows) -> Tensor:
    """The cosine of each of these pairs, shape (B,)."""
    first, second = model(*pairs.inputs(rows)).chunk(2)
    return F.cosine_similarity(first, second)


@torch.no_grad()
def predict(model: nn.Module, pairs: PairInputs, size: int) -> npt.NDArray[np.float64]:
    """The cosine of every pair, shape (N,), without dropout."""
    model.eval()
    found = np.empty(len(pairs.scores))
    for rows in pairs.batches(size, np.random.default_rng(0)):  # any order gives the same cosines
        found[rows] = cosines(model, pairs, rows).double().cpu().numpy()
    return found
