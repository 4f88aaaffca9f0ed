"""2:4 kernels are used where they are, for what fits, and it is said which run."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS

from trainables.parts import semi_structured
from trainables.parts.pruning.selection import two_of_four
from trainables.parts.semi_structured import COLUMNS, DTYPES, ROWS, fits, is_two_four, with_sparse_kernels


def halved(linear: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        linear.weight.mul_(two_of_four(linear.weight.abs(), 1))
    return linear


def layers(dtype: torch.dtype = torch.float16) -> nn.Sequential:
    """Two that fit and have the pattern, one without it, one that is too small."""
    torch.manual_seed(0)
    return nn.Sequential(
        halved(nn.Linear(64, 96)), halved(nn.Linear(128, 32)), nn.Linear(64, 64), halved(nn.Linear(32, 2))
    ).to(dtype)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ([1, 2, 0, 0], True),
        ([0, 0, 0, 0], True),
        ([0, 5, 0, 0, 1, 0, 0, 1], True),
        ([1, 2, 3, 0], False),
        ([0, 0, 1, 1, 1, 1, 1, 0], False),
        ([0, 1, 1, 1, 0, 0, 0, 0], False),  # half of all, but three of one four
        ([0, 0], False),
    ],
)
def test_the_pattern_is_two_of_each_four_inputs(row: list[float], found: bool) -> None:
    weight = torch.tensor([row, row])
    assert is_two_four(weight) is found
    assert is_two_four(weight.T, inputs=0) is found


def test_the_pattern_lies_along_inputs() -> None:
    weight = torch.zeros(4, 4)
    weight[:, :2] = 1.0
    assert is_two_four(weight)
    assert not is_two_four(weight, inputs=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_fits_here_fits_both_kernels_of_torch(dtype: torch.dtype) -> None:
    assert fits(torch.zeros(ROWS, COLUMNS, dtype=dtype))
    assert not fits(torch.zeros(ROWS + 8, COLUMNS, dtype=dtype))
    assert not fits(torch.zeros(ROWS, COLUMNS + 32, dtype=dtype))
    assert not fits(torch.zeros(ROWS, COLUMNS))
    for kernels in (SparseSemiStructuredTensorCUTLASS, SparseSemiStructuredTensorCUSPARSELT):
        least = kernels._DTYPE_SHAPE_CONSTRAINTS[dtype]
        assert ROWS % least.sparse_min_rows == 0
        assert COLUMNS % least.sparse_min_cols == 0


def test_without_such_a_gpu_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = layers()
    weights = [part.weight for part in model]
    words = with_sparse_kernels(model, "cpu")
    assert words == "dense kernels: no sparse tensor cores on cpu; the 2:4 pattern alone is no speed-up"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    words = with_sparse_kernels(model, "cuda")
    assert words.startswith("dense kernels: no sparse tensor cores below compute capability 8.0; cuda has 7.5;")
    assert [part.weight for part in model] == weights


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every weight that torch is asked to convert; each is given back twice as large."""
    seen: list[Tensor] = []

    def double(weight: Tensor) -> Any:
        seen.append(weight)
        return 2 * weight

    monkeypatch.setattr(torch.sparse, "to_sparse_semi_structured", double)
    monkeypatch.setattr(semi_structured, "sparse_cores", lambda device: None)
    return seen


def test_what_has_the_pattern_and_fits_is_converted(converted: list[Tensor]) -> None:
    model, before = layers(), layers()
    words = with_sparse_kernels(model, "cuda")
    assert words == "2:4 kernels of sparse tensor cores for 2 of 4 matrices; dense are 2, 3"
    assert [weight.shape for weight in converted] == [(96, 64), (32, 128)]
    assert not any(weight.requires_grad for weight in converted)
    for number, (part, old) in enumerate(zip(model, before, strict=True)):
        assert torch.equal(part.weight, (2 if number < 2 else 1) * old.weight)


def test_in_32_bits_nothing_is_converted(converted: list[Tensor]) -> None:
    words = with_sparse_kernels(layers(torch.float32), "cuda")
    assert words == "dense kernels: of 3 matrices with the 2:4 pattern none fits in shape and 16 bits"
    assert converted == []


def test_all_of_a_model_may_be_converted(converted: list[Tensor]) -> None:
    words = with_sparse_kernels(layers()[:2], "cuda")
    assert words == "2:4 kernels of sparse tensor cores for 2 of 2 matrices"
