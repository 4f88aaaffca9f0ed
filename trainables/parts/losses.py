"""Losses of sentence pairs. Each takes the pairs' cosines and scores, shape (B,), and gives a mean over the pairs."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["cosine", "cosent"]


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
