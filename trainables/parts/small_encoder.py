"""An encoder with fewer word vectors, or smaller ones: what really shrinks a model that is mostly its vocabulary."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from raysweep.problems import UserError
from trainables.parts.batches import Rows, Texts, tokenise
from trainables.parts.encoders import Encoder, embeddings_of
from trainables.parts.text_settings import TableSettings
from trainables.parts.vocabulary import prune
from trainables.parts.word_tables import factorised, sliced, tied


def shrink(encoder: Encoder, settings: TableSettings, texts: Texts) -> Encoder:
    """The encoder with the word table that is asked for, in place; a pruned one brings a tokenizer of its own.

    `texts` are those to train on. Raises UserError when the table cannot be had.
    """
    model: Any = encoder.model
    if settings.kind == "pruned":
        pruned = prune(encoder.tokenizer, texts, settings.rows, encoder.max_length)
        _use(model, sliced(model.get_input_embeddings(), pruned.kept), pruned.tokenizer.pad_token_id)
        encoder = replace(encoder, tokenizer=pruned.tokenizer)
    if settings.rank is not None:
        _check_rank(settings.rank, model.get_input_embeddings())
    if settings.kind == "tied":
        assert settings.rows is not None
        kept = most_frequent(encoder, texts, settings.rows)
        model.set_input_embeddings(tied(model.get_input_embeddings(), kept, settings.rank))
    elif settings.rank is not None:
        model.set_input_embeddings(factorised(model.get_input_embeddings(), settings.rank))
    if settings.freeze:
        embeddings_of(model).requires_grad_(False)
    return encoder


def most_frequent(encoder: Encoder, texts: Texts, count: int) -> Rows:
    """The ids of the special tokens and of the most frequent other ones in `texts`, `count` in all, ascending."""
    used = Counter(tokenise(encoder.tokenizer, tuple(texts), encoder.max_length).ids.tolist())
    special = set(encoder.tokenizer.all_special_ids)
    order = sorted(range(len(encoder.tokenizer)), key=lambda token: (token not in special, -used[token], token))
    if count > len(order):
        raise UserError(f"embedding.rows is {count}, but the vocabulary has {len(order)} tokens")
    return np.array(sorted(order[:count]), np.int64)


def _check_rank(rank: int, table: nn.Embedding) -> None:
    if rank >= table.embedding_dim:
        raise UserError(f"embedding.rank is {rank}, but the word vectors have only {table.embedding_dim} numbers")


def _use(model: Any, table: nn.Embedding, padding: int) -> None:
    model.set_input_embeddings(table)
    model.config.vocab_size, model.config.pad_token_id = table.num_embeddings, padding
    if hasattr(model.embeddings, "padding_idx"):  # RoBERTa tells texts from padding by it
        model.embeddings.padding_idx = padding
