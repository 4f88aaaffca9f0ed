"""An encoder with fewer word vectors, or smaller ones: what really shrinks a model that is mostly its vocabulary."""

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from raysweep.problems import UserError
from trainables.parts.batches import Rows, Texts, tokenise
from trainables.parts.encoders import Encoder, embeddings_of
from trainables.parts.text_settings import TableSettings
from trainables.parts.vocabulary import Pruned, prune
from trainables.parts.word_tables import factorised, sliced, tied


def shrink(encoder: Encoder, settings: TableSettings, texts: Texts) -> Encoder:
    """The encoder with the word table that is asked for, in place; a pruned one brings a tokenizer of its own.

    `texts` are those to train on. Raises UserError when the table cannot be had.
    """
    check_table(encoder, settings, texts)
    model: Any = encoder.model
    if settings.kind == "pruned":
        pruned = _pruned(encoder.tokenizer, tuple(texts), settings.rows, encoder.max_length)
        _use(model, sliced(model.get_input_embeddings(), pruned.kept), pruned)
        encoder = replace(encoder, tokenizer=pruned.tokenizer)
    if settings.kind == "tied":
        assert settings.rows is not None
        kept = most_frequent(encoder, texts, settings.rows)
        model.set_input_embeddings(tied(model.get_input_embeddings(), kept, settings.rank))
    elif settings.rank is not None:
        model.set_input_embeddings(factorised(model.get_input_embeddings(), settings.rank))
    if settings.freeze:
        embeddings_of(model).requires_grad_(False)
    return encoder


def check_table(encoder: Encoder, settings: TableSettings, texts: Texts) -> None:
    """Raises UserError when this encoder cannot have the word table that is asked for."""
    table: Any = encoder.model.get_input_embeddings()  # type: ignore[operator]
    width, tokens = table.embedding_dim, len(encoder.tokenizer)
    if settings.rank is not None and settings.rank >= width:
        raise UserError(f"embedding.rank is {settings.rank}, but the word vectors have only {width} numbers")
    if settings.kind == "tied" and settings.rows is not None and settings.rows > tokens:
        raise UserError(f"embedding.rows is {settings.rows}, but the vocabulary has {tokens} tokens")
    if settings.kind == "pruned":
        _pruned(encoder.tokenizer, tuple(texts), settings.rows, encoder.max_length)


@lru_cache(maxsize=4)
def _pruned(tokenizer: Any, texts: Any, size: int | None, max_length: int) -> Pruned:
    """Counted once for the trials of one process, as `tokenise` does."""
    return prune(tokenizer, texts, size, max_length)


def most_frequent(encoder: Encoder, texts: Texts, count: int) -> Rows:
    """The ids of the special tokens and of the most frequent other ones in `texts`, `count` in all, ascending."""
    used = Counter[int](tokenise(encoder.tokenizer, texts, encoder.max_length).ids.tolist())
    special = set(encoder.tokenizer.all_special_ids)
    order = sorted(range(len(encoder.tokenizer)), key=lambda token: (token not in special, -used[token], token))
    return np.array(sorted(order[:count]), np.int64)


@torch.no_grad()
def _use(model: Any, table: nn.Embedding, pruned: Pruned) -> None:
    """Read words from the table of a pruned vocabulary; what knew ids of the whole one is told the new ids."""
    embeddings: Any = getattr(model, "embeddings", None)
    config, padding = model.config, pruned.tokenizer.pad_token_id
    model.set_input_embeddings(table)
    if getattr(embeddings, "padding_idx", None) == config.pad_token_id is not None:
        # RoBERTa tells texts from padding by it, and numbers positions from behind it: their rows move with it.
        positions = embeddings.position_embeddings
        positions.weight.copy_(positions.weight.roll(padding - config.pad_token_id, 0))
        embeddings.padding_idx = positions.padding_idx = padding
    numbers = {int(old): new for new, old in enumerate(pruned.kept)}
    for name in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        if isinstance(token := getattr(config, name, None), int):
            setattr(config, name, numbers.get(token))
    config.vocab_size, config.pad_token_id = table.num_embeddings, padding
