"""Batches without padding: texts end to end, from token ids to token states to one vector a text.

Shapes: B texts in a batch, S tokens of all of them together, T tokens of the longest, H the encoder's width.
Nothing here imports raysweep, for exported models use it.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.parts.batches import Rows, Tokenised

Pooling = Literal["mean", "cls", "max", "mean+max", "last"]


@dataclass(frozen=True, slots=True)
class Packed:
    """Token ids [S] of B texts of these lengths [B]; `types` [S] is 1 for the tokens of a pair's second text."""

    ids: Tensor
    lengths: Tensor
    types: Tensor | None = None

    @property
    def starts(self) -> Tensor:
        """Where each text begins, [B]."""
        return self.lengths.cumsum(0) - self.lengths

    @property
    def texts(self) -> Tensor:
        """The text that each token belongs to, [S]."""
        return torch.repeat_interleave(self.lengths, output_size=len(self.ids))

    @property
    def positions(self) -> Tensor:
        """The place of each token in its text, from 0, [S]."""
        starts = torch.repeat_interleave(self.starts, self.lengths, output_size=len(self.ids))
        return torch.arange(len(self.ids), device=self.ids.device) - starts


def pack(
    tokens: Tokenised,
    rows: Rows,
    device: str = "cpu",
    word_dropout: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Packed:
    """These texts as one batch. With `word_dropout`, each token but a text's first is left out with that chance."""
    places, lengths = tokens.places(rows), tokens.lengths[rows]
    if word_dropout:
        assert rng is not None
        starts = np.cumsum(lengths) - lengths
        kept = rng.random(len(places)) >= word_dropout
        kept[starts] = True
        places, lengths = places[kept], np.add.reduceat(kept, starts, dtype=np.int64)
    types = None if tokens.types is None else torch.from_numpy(tokens.types[places]).to(device)
    return Packed(torch.from_numpy(tokens.ids[places]).to(device), torch.from_numpy(lengths).to(device), types)


def token_states(encoder: Any, batch: Packed) -> Tensor:
    """The states [S, H] of a batch's tokens by an encoder of transformers, padded only if there is attention."""
    if encoder.config.num_hidden_layers == 0:
        return _embedded(encoder, batch)
    width = torch.arange(int(batch.lengths.max()), device=batch.ids.device)
    mask = width < batch.lengths[:, None]
    inputs = {"input_ids": _padded(batch.ids, mask, encoder.config.pad_token_id or 0), "attention_mask": mask.long()}
    if batch.types is not None and has_types(encoder):
        inputs["token_type_ids"] = _padded(batch.types, mask, 0)
    states: Tensor = encoder(**inputs).last_hidden_state
    return states[mask]


def _padded(values: Tensor, mask: Tensor, padding: int) -> Tensor:
    """[S] -> [B, T]."""
    padded = torch.full(mask.shape, padding, dtype=values.dtype, device=values.device)
    padded[mask] = values
    return padded


def has_types(encoder: Any) -> bool:
    return getattr(encoder.config, "type_vocab_size", 0) > 1


def _embedded(encoder: Any, batch: Packed) -> Tensor:
    """What the embeddings give for all tokens, as one long text whose positions begin again with each text."""
    embeddings = encoder.embeddings
    takes = _takes(embeddings.__class__.forward)
    inputs = {"input_ids": batch.ids[None]}
    if "token_type_ids" in takes:
        types = torch.zeros_like(batch.ids) if batch.types is None or not has_types(encoder) else batch.types
        inputs["token_type_ids"] = types[None]
    if "position_ids" in takes:
        inputs["position_ids"] = batch.positions[None] + _first_position(embeddings)
    states: Tensor = embeddings(**inputs)
    return states[0]


@lru_cache(maxsize=8)
def _takes(function: Callable[..., Any]) -> frozenset[str]:
    """The names of what a function takes."""
    return frozenset(inspect.signature(function).parameters)


def _first_position(embeddings: Any) -> int:
    """RoBERTa numbers positions from behind its padding's id, BERT from 0."""
    positions = getattr(embeddings, "position_embeddings", None)  # none where positions are told to the layers
    padding = getattr(positions, "padding_idx", None)
    return 0 if padding is None else padding + 1


def can_rest_on_embeddings(encoder: nn.Module, hidden: int) -> bool:
    """Whether an encoder can do without its layers: its embeddings are one module that gives vectors `hidden` wide.

    Where a configuration lists the kind of each layer, as ModernBERT's does, transformers refuses an empty list.
    """
    embeddings, listed = getattr(encoder, "embeddings", None), getattr(encoder.config, "layer_types", None)
    if embeddings is None or listed is not None or "input_ids" not in _takes(embeddings.__class__.forward):
        return False
    norms = [part for part in embeddings.modules() if isinstance(part, nn.LayerNorm)]
    return bool(norms) and norms[-1].normalized_shape == (hidden,)


def pool(states: Tensor, batch: Packed, kind: Pooling) -> Tensor:
    """One vector a text of its tokens' states [S, H]: [B, H], or [B, 2H] for "mean+max"."""
    if kind == "cls":
        return states[batch.starts]
    if kind == "last":
        return states[batch.starts + batch.lengths - 1]
    if kind == "mean+max":
        return torch.cat([pool(states, batch, "mean"), pool(states, batch, "max")], dim=1)
    # torch's bag of embeddings is a mean, or maximum, over stretches of a table: here, of the states.
    every = torch.arange(len(states), device=states.device)
    return F.embedding_bag(every, states, batch.starts, mode=kind)
