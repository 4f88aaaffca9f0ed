"""Pooling and embedding: the mean of the real tokens, whatever a text is batched with."""

import numpy as np
import pytest
import torch

from trainables.parts import synthetic
from trainables.parts.batches import tokens_of
from trainables.parts.pooling import embed, embed_all, mean_pool

TEXTS = [text for row in synthetic.pairs("report")[:30] for text in row[:2]] + ["car", "z" * 60]


def test_the_mean_is_that_of_the_tokens_that_the_mask_keeps() -> None:
    hidden = torch.tensor([[[1.0, 10.0], [3.0, 20.0], [99.0, 99.0]], [[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert mean_pool(hidden, mask).tolist() == [[2.0, 15.0], [7.0, 8.0]]


def test_what_stands_behind_the_mask_has_no_gradient() -> None:
    hidden = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mean_pool(hidden, torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])).sum().backward()
    assert hidden.grad is not None
    assert hidden.grad[0, 2:].abs().sum() == 0
    assert torch.allclose(hidden.grad[0, :2], torch.tensor(0.5))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_an_embedding_does_not_depend_on_its_batch(size: int) -> None:
    model, tokens = synthetic.encoder(0), tokens_of(synthetic.tokenizer(), TEXTS, 128)
    batched = embed_all(model, tokens, size)
    with torch.no_grad():
        alone = torch.cat([embed(model, *tokens.batch(np.array([row]))) for row in range(len(TEXTS))])
        padded = torch.cat([embed(model, *tokens.batch(np.array([row]), 100)) for row in range(len(TEXTS))])
    assert np.abs(batched - alone.numpy()).max() < 1e-5
    assert np.abs(batched - padded.numpy()).max() < 1e-5
    assert batched.shape == (len(TEXTS), 64)
    assert batched.dtype == np.float32


def test_embedding_all_is_without_dropout() -> None:
    model, tokens = synthetic.encoder(0).train(), tokens_of(synthetic.tokenizer(), TEXTS, 128)
    assert (embed_all(model, tokens) == embed_all(model.train(), tokens)).all()
