"""Batches without padding: what they hold, and that they give what padded batches give."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from trainables.parts.batches import Tokenised
from trainables.parts.encoders import keep_layers
from trainables.parts.packed import Packed, can_rest_on_embeddings, pack, pool, token_states

LENGTHS = [3, 1, 5]
SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
}


def tokenised(lengths: list[int], types: bool = False, seed: int = 0) -> Tokenised:
    rng, sizes = np.random.default_rng(seed), np.array(lengths)
    ids = rng.integers(5, 40, sizes.sum())
    second = (np.arange(sizes.sum()) % 2) if types else None
    return Tokenised(ids, np.cumsum(sizes) - sizes, sizes, 0, second)


def encoder(kind: str, **changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, "pad_token_id": 1, **changes})
    return transformers.AutoModel.from_config(config).eval()


@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.data())
def test_a_batch_holds_its_texts_end_to_end(lengths: list[int], data: st.DataObject) -> None:
    tokens = tokenised(lengths, types=True)
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6)))
    batch = pack(tokens, rows)
    texts = [slice(tokens.starts[row], tokens.starts[row] + tokens.lengths[row]) for row in rows]
    assert batch.ids.tolist() == [token for text in texts for token in tokens.ids[text]]
    assert batch.types is not None
    assert tokens.types is not None
    assert batch.types.tolist() == [kind for text in texts for kind in tokens.types[text]]
    assert batch.positions.tolist() == [place for row in rows for place in range(lengths[row])]
    assert batch.texts.tolist() == [text for text, row in enumerate(rows) for _ in range(lengths[row])]
    assert batch.starts.tolist() == (np.cumsum(tokens.lengths[rows]) - tokens.lengths[rows]).tolist()


def test_word_dropout_leaves_out_tokens_but_never_the_first() -> None:
    tokens = tokenised([50] * 40)
    batch = pack(tokens, np.arange(40), "cpu", 0.3, np.random.default_rng(0))
    assert 0.25 < 1 - len(batch.ids) / 2000 < 0.35
    assert batch.ids[batch.starts].tolist() == tokens.ids[tokens.starts].tolist()
    assert int(batch.lengths.sum()) == len(batch.ids)
    nothing = pack(tokenised([4, 2]), np.arange(2), "cpu", 0.999999, np.random.default_rng(0))
    assert nothing.lengths.tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet", "modernbert", "gpt2"])
def test_token_states_are_those_of_each_text_alone(kind: str) -> None:
    model, tokens = encoder(kind), tokenised(LENGTHS)
    with torch.inference_mode():
        together = token_states(model, pack(tokens, np.arange(3)))
        alone = [
            model(input_ids=torch.from_numpy(tokens.ids[start : start + length])[None]).last_hidden_state[0]
            for start, length in zip(tokens.starts, tokens.lengths, strict=True)
        ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet", "nomic_bert"])
def test_without_layers_the_embeddings_are_those_of_transformers(kind: str) -> None:
    model, tokens = encoder(kind), tokenised(LENGTHS, types=kind == "bert")
    batch = pack(tokens, np.arange(3))
    keep_layers(model, 0)
    width = torch.arange(5) < batch.lengths[:, None]
    ids = torch.ones(3, 5, dtype=torch.int64).masked_scatter(width, batch.ids)
    inputs = {"input_ids": ids, "attention_mask": width.long()}
    if batch.types is not None:
        inputs["token_type_ids"] = torch.zeros(3, 5, dtype=torch.int64).masked_scatter(width, batch.types)
    with torch.inference_mode():
        states = token_states(model, batch)
        assert torch.equal(states, model(**inputs).last_hidden_state[width])


def test_types_reach_the_layers() -> None:
    model, tokens = encoder("bert"), tokenised(LENGTHS, types=True)
    batch = pack(tokens, np.arange(3))
    with torch.inference_mode():
        told, untold = token_states(model, batch), token_states(model, Packed(batch.ids, batch.lengths))
    assert not torch.allclose(told, untold, atol=1e-3)


def test_only_embeddings_as_wide_as_the_encoder_can_do_without_layers() -> None:
    assert all(can_rest_on_embeddings(encoder(kind), 16) for kind in ("bert", "roberta", "distilbert", "mpnet"))
    assert not can_rest_on_embeddings(encoder("electra", embedding_size=8), 16)
    assert not can_rest_on_embeddings(encoder("gpt_neox"), 16)
    assert not can_rest_on_embeddings(encoder("modernbert"), 16)


def test_pooling_is_that_of_each_text_alone() -> None:
    states = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    batch = pack(tokenised(LENGTHS), np.arange(3))
    parts = states.split(LENGTHS)
    mean, most = (torch.stack(found) for found in ([p.mean(0) for p in parts], [p.max(0).values for p in parts]))
    torch.testing.assert_close(pool(states, batch, "mean"), mean)
    torch.testing.assert_close(pool(states, batch, "max"), most)
    torch.testing.assert_close(pool(states, batch, "mean+max"), torch.cat([mean, most], 1))
    assert torch.equal(pool(states, batch, "cls"), torch.stack([part[0] for part in parts]))
    assert torch.equal(pool(states, batch, "last"), torch.stack([part[-1] for part in parts]))


@pytest.mark.parametrize("kind", ["mean", "max", "cls", "mean+max", "last"])
def test_pooling_passes_gradients_on(kind: str) -> None:
    states = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    batch = pack(tokenised(LENGTHS), np.arange(3))
    assert torch.autograd.gradcheck(lambda x: pool(x, batch, kind), states)  # type: ignore[arg-type]
