"""From token states to one vector a sentence."""

from typing import Any

import torch
from torch import Tensor, nn


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean of the token states that the mask keeps (https://arxiv.org/abs/1908.10084).

    hidden (B, T, H), mask (B, T) of 0 and 1 with at least one 1 a row; gives (B, H).
    """
    weights = mask.to(hidden.dtype).unsqueeze(1)
    # One small matrix product for each row: no (B, T, H) copy of the masked states.
    return torch.bmm(weights, hidden).squeeze(1) / weights.sum(2)


def embed(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Sentence vectors (B, H) of token ids (B, T) by an encoder of transformers, mean-pooled."""
    output: Any = model(input_ids=ids, attention_mask=mask)
    return mean_pool(output.last_hidden_state, mask)
