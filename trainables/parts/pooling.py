"""From token states to one vector a sentence."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainables.parts.batches import Tokenised, in_order


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean of the token states that the mask keeps (https://arxiv.org/abs/1908.10084).

    hidden (B, T, H), mask (B, T) of 0 and 1 with at least one 1 a row; gives (B, H).
    """
    weights = mask.to(hidden.dtype).unsqueeze(1)
    # One small matrix product for each row: no (B, T, H) copy of the masked states.
    return torch.bmm(weights, hidden).squeeze(1) / weights.sum(2)


def embed(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Mean-pooled sentence vectors (B, H) of token ids (B, T) and mask (B, T), by an encoder of transformers."""
    output: Any = model(input_ids=ids, attention_mask=mask)
    return mean_pool(output.last_hidden_state, mask)


def embed_all(model: nn.Module, tokens: Tokenised, size: int = 64, device: str = "cpu") -> npt.NDArray[np.float32]:
    """Mean-pooled vectors (N, H) of all texts, without dropout; the model is left in eval mode on `device`."""
    return in_batches(partial(embed, model.to(device).eval()), tokens, size, device)


def in_batches(
    vectors: Callable[[Tensor, Tensor], Tensor], tokens: Tokenised, size: int, device: str
) -> npt.NDArray[np.float32]:
    """`vectors(ids, mask)` (B, d) of all texts, (N, d), without gradient, `size` texts of similar length at a time."""
    found: npt.NDArray[np.float32] = in_order(
        lambda rows: vectors(*(part.to(device) for part in tokens.batch(rows))), tokens.lengths, size
    ).numpy()
    return found
