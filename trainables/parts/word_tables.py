"""Word vectors in fewer numbers: modules that take the place of an encoder's table of word vectors.

Shapes: V token ids, H numbers a vector, r the rank of a factorised table, K rows of a table. Set one in place with
`model.set_input_embeddings(table)`. Nothing here imports raysweep, for exported models use it.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Ids = npt.NDArray[np.int64]
Structure = dict[str, Any]
CHUNK = 2**24  # numbers that a temporary matrix may have: 64 MiB in float32


Table = TypeVar("Table", nn.Embedding, "FactorisedTable")


class FactorisedTable(nn.Module):
    """ids [...] -> [..., H]: rows of `table` [V, r], times `projection` [r, H].

    As in ALBERT (Lan et al., 2020). With `sparse` the gradient of `table` is sparse, as nn.Embedding's may be.
    """

    def __init__(self, rows: int, rank: int, width: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.padding_idx, self.sparse = padding_idx, False
        self.table = nn.Parameter(torch.zeros(rows, rank))
        self.projection = nn.Parameter(torch.zeros(rank, width))

    def forward(self, ids: Tensor) -> Tensor:
        """[...] -> [..., H]."""
        return F.embedding(ids, self.table, self.padding_idx, sparse=self.sparse) @ self.projection

    def structure(self) -> Structure:
        """What `word_table` needs to build a blank one."""
        (rows, rank), width = self.table.shape, self.projection.shape[1]
        return {"kind": "factorised", "rows": rows, "rank": rank, "width": width, "padding_idx": self.padding_idx}


class TiedTable(nn.Module):
    """ids [...] -> [..., H]: V tokens share the K rows of `table`; which row a token has, the map `row_of` [V] says.

    The map is fixed, but saved with the weights. `table` is an nn.Embedding or a `FactorisedTable`.
    """

    row_of: Tensor

    def __init__(self, tokens: int, table: nn.Embedding | FactorisedTable) -> None:
        super().__init__()
        self.table = table
        self.register_buffer("row_of", torch.zeros(tokens, dtype=torch.int32))

    @property
    def sparse(self) -> bool:
        """Whether the gradient of the rows is sparse."""
        return self.table.sparse

    @sparse.setter
    def sparse(self, sparse: bool) -> None:
        self.table.sparse = sparse

    def forward(self, ids: Tensor) -> Tensor:
        """[...] -> [..., H]."""
        vectors: Tensor = self.table(self.row_of[ids])
        return vectors

    def structure(self) -> Structure:
        """What `word_table` needs to build a blank one."""
        return {"kind": "tied", "tokens": len(self.row_of), "table": table_structure(self.table)}


def table_structure(table: nn.Module) -> Structure:
    """The structure of a word table of any kind, nn.Embedding included, as JSON can tell it."""
    if isinstance(table, FactorisedTable | TiedTable):
        return table.structure()
    assert isinstance(table, nn.Embedding), type(table)
    rows, width = table.weight.shape
    return {"kind": "plain", "rows": rows, "width": width, "padding_idx": table.padding_idx}


def word_table(structure: Structure) -> nn.Module:
    """A word table of this structure, all zeros: for `load_state_dict`."""
    if structure["kind"] == "tied":
        return TiedTable(structure["tokens"], _blank(structure["table"]))
    return _blank(structure)


def _blank(structure: Structure) -> nn.Embedding | FactorisedTable:
    rows, width, padding_idx = (structure[name] for name in ("rows", "width", "padding_idx"))
    if structure["kind"] == "factorised":
        return FactorisedTable(rows, structure["rank"], width, padding_idx)
    return _embedding(torch.zeros(rows, width), padding_idx)


def _embedding(weight: Tensor, padding_idx: int | None) -> nn.Embedding:
    made: nn.Embedding = nn.Embedding.from_pretrained(weight, False, padding_idx)  # type: ignore[no-untyped-call]
    return made


@torch.no_grad()
def sliced(embedding: nn.Embedding, kept: Ids) -> nn.Embedding:
    """A table of the kept tokens alone, in their order: row i is what row kept[i] was."""
    made = _embedding(embedding.weight[torch.from_numpy(kept)], _padding_row(embedding.padding_idx, kept))
    return _set_as(made, embedding)


@torch.no_grad()
def factorised(embedding: nn.Embedding, rank: int) -> FactorisedTable:
    """The table of this rank that comes nearest to the given one, by its singular value decomposition.

    No other table of the rank has a smaller sum of squared errors (Eckart and Young, 1936). Both factors take the root
    of each singular value, so that they are of one scale.
    """
    weight = embedding.weight.double()
    rows, width = weight.shape
    assert 0 < rank <= width, (rank, width)
    # Of V x H numbers the small H x H Gram matrix has the right singular vectors and the squared singular values.
    squares, vectors = torch.linalg.eigh(weight.T @ weight)
    squares, vectors = squares[-rank:].flip(0), vectors[:, -rank:].flip(1)
    roots = squares.clamp_min(torch.finfo(torch.float64).eps * squares[0]) ** 0.25
    made = FactorisedTable(rows, rank, width, embedding.padding_idx).to(embedding.weight)
    made.table.copy_(weight @ vectors / roots)
    made.projection.copy_(roots[:, None] * vectors.T)
    return _set_as(made, embedding)


@torch.no_grad()
def tied(embedding: nn.Embedding, kept: Ids, rank: int | None = None) -> TiedTable:
    """Kept tokens have their own rows, in their order; every other token shares that of the kept one nearest to it.

    Nearest by the cosine of the given vectors. With a rank the kept rows are factorised. `kept` has shape (K,).
    """
    weight, own = embedding.weight, sliced(embedding, kept)
    made = TiedTable(len(weight), own if rank is None else factorised(own, rank)).to(weight.device)
    units = F.normalize(own.weight)
    for start in range(0, len(weight), step := max(CHUNK // len(kept), 1)):
        made.row_of[start : start + step] = (weight[start : start + step] @ units.T).argmax(1).int()
    # Not left to the search: where vectors are equal, a kept token would find another's row.
    made.row_of[torch.from_numpy(kept)] = torch.arange(len(kept), dtype=torch.int32, device=weight.device)
    return made


def _set_as(table: Table, embedding: nn.Embedding) -> Table:
    """Sparse, and trained, as the table that it comes from."""
    table.sparse = embedding.sparse
    return table.requires_grad_(embedding.weight.requires_grad)


def _padding_row(padding_idx: int | None, kept: Ids) -> int | None:
    """The row of the padding token; None where it is not kept, for then no row is padding alone."""
    rows = np.flatnonzero(kept == padding_idx) if padding_idx is not None else kept[:0]
    return int(rows[0]) if len(rows) else None
