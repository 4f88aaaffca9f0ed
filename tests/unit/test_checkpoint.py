"""A state comes back as it was, from one file that is replaced whole and holds no code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raysweep.engine import checkpoint
from raysweep.problems import UserError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
ARRAYS = arrays.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]), arrays.array_shapes(min_dims=0, min_side=0)
)
KEYS = st.text(max_size=5) | st.integers()
VALUES = st.recursive(
    SCALARS | ARRAYS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and np.array_equal(left, right, equal_nan=True)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


@given(state=st.dictionaries(KEYS, VALUES, max_size=4))
def test_round_trip(state: dict[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("state") / checkpoint.FILE
    checkpoint.save(state, path)
    assert same(checkpoint.load(path), state)


def test_torch_tensors_come_back_as_arrays(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    checkpoint.save({"weights": tensor, "rng": torch.get_rng_state()}, tmp_path / checkpoint.FILE)
    loaded = checkpoint.load(tmp_path / checkpoint.FILE)
    assert np.array_equal(loaded["weights"], tensor.numpy())
    assert loaded["rng"].dtype == np.uint8


def test_what_is_no_state_is_refused_by_place(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\.model\.1 is a object"):
        checkpoint.save({"model": [1, object()]}, tmp_path / checkpoint.FILE)
    assert not (tmp_path / checkpoint.FILE).exists()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.FILE
    checkpoint.save({"weights": np.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"checkpoint\.safetensors cannot be read"):
        checkpoint.load(path)


def test_a_failed_write_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / checkpoint.FILE
    checkpoint.save({"step": 1}, path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save({"step": 2}, path)
    assert checkpoint.load(path) == {"step": 1}
