"""Losses, each a mean over the batch: of sentence pairs from their cosines, of texts from a model's logits."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.parts.packed import Packed

Kind = Literal["cosine", "cosent"]
TextKind = Literal["classification", "regression", "span"]


def cosine_mse(cosines: Tensor, scores: Tensor) -> Tensor:
    """Mean of (cosine - score)^2 over B pairs, scores in 0..1: sentence-BERT's loss, https://arxiv.org/abs/1908.10084."""
    return F.mse_loss(cosines, scores)


def cosent(cosines: Tensor, scores: Tensor, scale: float = 20.0) -> Tensor:
    """log(1 + sum of exp(scale * (cos_j - cos_i)) over all i, j with score_i > score_j): https://kexue.fm/archives/8847.

    It ranks pairs within the batch only; a batch of equal scores has loss 0.
    """
    gaps = scale * (cosines[None, :] - cosines[:, None])  # [i, j]
    wrong = gaps.masked_fill(scores[:, None] <= scores[None, :], -torch.inf)
    return torch.cat([gaps.new_zeros(1), wrong.flatten()]).logsumexp(0)


def pair_loss(kind: Kind, cosines: Tensor, scores: Tensor, scale: float) -> Tensor:
    """The loss of this name."""
    return cosine_mse(cosines, scores) if kind == "cosine" else cosent(cosines, scores, scale)


def text_loss(kind: TextKind, logits: Tensor, targets: Tensor, batch: Packed | None, smoothing: float = 0.0) -> Tensor:
    """Cross entropy of classes, squared error of numbers, or cross entropy of an answer's first and last token.

    logits [B, K] with class numbers [B]; [B, 1] with numbers [B]; [S, 2] with token places [B, 2] in their texts, the
    only one that needs the batch.
    """
    if kind == "regression":
        return F.mse_loss(logits[:, 0], targets.to(logits.dtype))
    if kind == "classification":
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    assert batch is not None
    return (_place_loss(logits[:, 0], targets[:, 0], batch) + _place_loss(logits[:, 1], targets[:, 1], batch)) / 2


def _place_loss(logits: Tensor, places: Tensor, batch: Packed) -> Tensor:
    """Cross entropy of one token among those of its text."""
    width = torch.arange(int(batch.lengths.max()), device=logits.device)
    mask = width < batch.lengths[:, None]
    padded = logits.new_full(mask.shape, -torch.inf).masked_scatter(mask, logits)
    return F.cross_entropy(padded, places)
