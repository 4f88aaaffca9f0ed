"""Sentence pairs as a model takes them: token ids, or the stored embeddings of an encoder that rests.

Shapes: B pairs in a batch, T tokens, H the encoder's width, N pairs of a split.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysweep.trial import Trial
from trainables.parts.batches import Rows, Tokenised, length_batches, pair_batch, pair_lengths, tokenise
from trainables.parts.data import Split, read_pairs
from trainables.parts.embeddings import frozen_embeddings
from trainables.parts.encoders import Encoder

Floats = npt.NDArray[np.float64]


class PairInputs(Protocol):
    """The pairs of one split: scores [N] in 0..1, and what each pair costs in a padded batch [N]."""

    @property
    def scores(self) -> Floats: ...

    @property
    def lengths(self) -> Rows: ...

    def inputs(self, rows: Rows) -> tuple[Tensor, ...]:
        """What the model takes, in one batch of 2B: the first sentences of these rows, then the second ones."""


@dataclass(frozen=True, slots=True)
class TokenPairs:
    """Inputs are token ids and mask, each [2B, T]."""

    first: Tokenised
    second: Tokenised
    scores: Floats
    device: str

    @property
    def lengths(self) -> Rows:
        return pair_lengths(self.first, self.second)

    def inputs(self, rows: Rows) -> tuple[Tensor, ...]:
        ids, mask = pair_batch(self.first, self.second, rows)
        return ids.to(self.device), mask.to(self.device)


@dataclass(frozen=True, slots=True)
class EmbeddedPairs:
    """Inputs are mean-pooled embeddings [2B, H], made once: an encoder at rest gives the same in every epoch."""

    both: Tensor  # [2, N, H], on the model's device
    scores: Floats

    @property
    def lengths(self) -> Rows:
        return np.zeros(len(self.scores), np.int64)

    def inputs(self, rows: Rows) -> tuple[Tensor, ...]:
        return (self.both[:, torch.from_numpy(rows)].flatten(0, 1),)


def load_pairs(trial: Trial, encoder: Encoder, split: Split) -> PairInputs:
    """The pairs of a split for this trial; `encoder` must not have been trained yet."""
    pairs, resting = read_pairs(trial.config.data, split), trial.config.encoder.freeze == "all"
    if resting:
        sides = [vectors(trial, encoder, texts) for texts in (pairs.first, pairs.second)]
        return EmbeddedPairs(torch.stack(sides).to(trial.device), pairs.scores)
    first, second = (tokenise(encoder.tokenizer, texts, encoder.max_length) for texts in (pairs.first, pairs.second))
    return TokenPairs(first, second, pairs.scores, trial.device)


def vectors(trial: Trial, encoder: Encoder, texts: list[str]) -> Tensor:
    """The encoder's own embeddings [N, H], made once for all trials of a sweep."""
    return torch.from_numpy(np.array(frozen_embeddings(encoder, texts, trial.shared, trial.device)))


def cosines(model: nn.Module, pairs: PairInputs, rows: Rows) -> Tensor:
    """The cosine of each of these pairs, shape (B,)."""
    first, second = model(*pairs.inputs(rows)).chunk(2)
    return F.cosine_similarity(first, second)


@torch.inference_mode()
def predict(model: nn.Module, pairs: PairInputs, rows: Rows, size: int) -> Floats:
    """The cosines of these pairs in their order, at most `size` at a time; leaves the model in eval mode."""
    model.eval()
    found = np.empty(len(rows))
    for places in length_batches(pairs.lengths[rows], size, np.random.default_rng(0)):
        found[places] = cosines(model, pairs, rows[places]).double().cpu().numpy()
    return found


def all_rows(pairs: PairInputs) -> Rows:
    """The numbers of all pairs."""
    return np.arange(len(pairs.scores))
