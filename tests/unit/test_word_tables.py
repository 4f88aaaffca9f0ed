"""Word tables: the best table of a rank, shared rows, exact sizes, and the way through files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from trainables.parts import synthetic
from trainables.parts.word_tables import (
    FactorisedTable,
    TiedTable,
    factorised,
    sliced,
    table_structure,
    tied,
    word_table,
)

KEPT = np.array([2, 0, 5, 9, 17])


def embedding(rows: int = 40, width: int = 12, padding_idx: int | None = 0) -> nn.Embedding:
    made = nn.Embedding(rows, width, padding_idx)
    with torch.no_grad():
        made.weight.copy_(torch.randn(rows, width, generator=torch.Generator().manual_seed(3)))
    return made


def tables() -> dict[str, nn.Module]:
    given = embedding()
    return {
        "plain": given,
        "sliced": sliced(given, KEPT),
        "factorised": factorised(given, 3),
        "tied": tied(given, KEPT),
        "tied and factorised": tied(given, KEPT, 2),
    }


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("rank", [1, 5, 11, 12])
def test_a_factorised_table_misses_by_the_singular_values_that_it_leaves_out(rank: int) -> None:
    given = embedding()
    missed = torch.linalg.matrix_norm(factorised(given, rank)(torch.arange(40)) - given.weight)
    tail = torch.linalg.svdvals(given.weight)[rank:].square().sum().sqrt()
    assert missed.item() == pytest.approx(tail.item(), abs=1e-5)


def test_the_factors_have_one_scale() -> None:
    table = factorised(embedding(), 4)
    scales = [torch.linalg.matrix_norm(factor).item() for factor in (table.table, table.projection)]
    assert scales[0] == pytest.approx(scales[1], rel=1e-5)


def test_a_rank_that_the_vectors_do_not_have_makes_no_harm() -> None:
    given = embedding()
    with torch.no_grad():
        given.weight.copy_(given.weight[:, :2] @ given.weight[:2])
    table = factorised(given, 6)
    assert torch.allclose(table(torch.arange(40)), given.weight, atol=1e-4)
    assert table.table.abs().max() < 100


def test_the_sizes_of_bert_tiny() -> None:
    kept = np.arange(10_000)
    with torch.device("meta"):
        assert count(FactorisedTable(30_522, 32, 128)) == 30_522 * 32 + 32 * 128 == 980_800
        assert count(TiedTable(30_522, nn.Embedding(10_000, 128))) == 1_280_000
        assert count(TiedTable(30_522, FactorisedTable(10_000, 32, 128))) == 324_096
    assert count(sliced(embedding(30_522, 4), kept)) == 40_000


def test_a_sliced_table_has_the_rows_that_are_kept() -> None:
    given = embedding()
    table = sliced(given, KEPT)
    assert torch.equal(table.weight, given.weight[[2, 0, 5, 9, 17]])
    assert table.padding_idx == 1
    assert sliced(given, KEPT[2:]).padding_idx is None
    assert sliced(embedding(padding_idx=None), KEPT).padding_idx is None
    with torch.no_grad():
        table.weight.zero_()
    assert given.weight.abs().min() > 0


@pytest.mark.parametrize("chunk", [1, 7, 2**24])
def test_other_tokens_share_the_row_of_the_kept_token_nearest_by_cosine(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.parts.word_tables.CHUNK", chunk)
    given = embedding()
    units = given.weight / given.weight.norm(dim=1, keepdim=True)
    nearest = [max(KEPT, key=lambda kept: (units[token] @ units[kept]).item()) for token in range(40)]
    table = tied(given, KEPT)
    assert torch.equal(table(torch.arange(40)), given.weight[nearest])
    assert len(set(nearest)) == len(KEPT)


def test_a_kept_token_has_its_own_row_even_where_another_has_the_same_vector() -> None:
    given = embedding()
    with torch.no_grad():
        given.weight[17] = given.weight[2]
    assert tied(given, KEPT).row_of[KEPT].tolist() == [0, 1, 2, 3, 4]


def test_a_tied_table_with_a_rank_factorises_the_rows_that_are_kept() -> None:
    given = embedding()
    ids = torch.tensor([[2, 5], [30, 0]])
    whole, small = tied(given, KEPT), tied(given, KEPT, 2)
    assert torch.equal(small(ids), factorised(sliced(given, KEPT), 2)(whole.row_of[ids]))


@pytest.mark.parametrize("name", tables())
def test_a_blank_table_of_the_same_structure_takes_the_weights(name: str, tmp_path: Path) -> None:
    table = tables()[name]
    save_file(table.state_dict(), tmp_path / "table.safetensors")
    blank = word_table(json.loads(json.dumps(table_structure(table))))
    assert not any(parameter.any() for parameter in blank.parameters())
    blank.load_state_dict(load_file(tmp_path / "table.safetensors"))
    ids = torch.tensor([[0, 1, 4], [3, 2, 2]])
    assert torch.equal(blank(ids), table(ids))
    assert blank(ids).shape == (2, 3, 12)
    assert table_structure(blank) == table_structure(table)


def test_a_blank_table_draws_no_random_numbers() -> None:
    structures = [table_structure(table) for table in tables().values()]
    before = torch.get_rng_state()
    for structure in structures:
        word_table(structure)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", tables())
def test_sparse_gradients_are_the_dense_ones(name: str) -> None:
    table: Any = tables()[name]
    ids = torch.tensor([[1, 4, 4], [3, 0, 0]])
    found = []
    for sparse in (False, True):
        table.sparse = sparse
        table.zero_grad()
        table(ids).square().sum().backward()
        found.append([parameter.grad for parameter in table.parameters()])
    dense, sparse_ones = found
    assert [gradient.is_sparse for gradient in sparse_ones] == [True, False][: len(dense)]
    for one, other in zip(dense, sparse_ones, strict=True):
        assert torch.allclose(one, other.to_dense(), atol=1e-5)
    assert table.sparse


@pytest.mark.parametrize("name", ["sliced", "factorised", "tied"])
def test_the_padding_has_no_gradient(name: str) -> None:
    table: Any = tables()[name]
    padding = {"sliced": 1, "factorised": 0, "tied": 0}[name]
    table(torch.tensor([padding, padding])).sum().backward()
    rows = next(table.parameters())
    assert not rows.grad.any()


def test_a_table_is_sparse_and_frozen_as_the_one_that_it_comes_from() -> None:
    given = embedding()
    given.sparse = True
    given.requires_grad_(False)
    for table in (sliced(given, KEPT), factorised(given, 2), tied(given, KEPT), tied(given, KEPT, 2)):
        assert table.sparse
        assert not any(parameter.requires_grad for parameter in table.parameters())


@pytest.mark.parametrize("name", ["sliced", "factorised", "tied"])
def test_an_encoder_reads_its_words_from_the_table(name: str) -> None:
    encoder = synthetic.encoder(4)
    ids = torch.tensor([[2, 7, 9, 3]])
    given = encoder.get_input_embeddings()
    every = np.arange(given.num_embeddings)
    tables = {"sliced": sliced(given, every), "factorised": factorised(given, 64), "tied": tied(given, every)}
    before = encoder(ids).last_hidden_state
    encoder.set_input_embeddings(tables[name])
    assert torch.allclose(encoder(ids).last_hidden_state, before, atol=1e-4)
    assert encoder.get_input_embeddings() is tables[name]
