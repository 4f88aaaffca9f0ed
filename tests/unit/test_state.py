"""State between tensors and arrays: nothing changes on the way."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.parts.state import arrays, random_state, set_random_state, tensors

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int16,
    torch.uint8,
    torch.bool,
]
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.builds(
        lambda dtype, shape: torch.arange(int(np.prod(shape))).reshape(shape).to(dtype),
        st.sampled_from(DTYPES),
        st.lists(st.integers(0, 3), max_size=3),
    )
)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner)
)


def same(left, right):
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right)
    return type(left) is type(right) and left == right


def only_allowed(state):
    if isinstance(state, dict):
        return all(isinstance(key, str | int) and only_allowed(value) for key, value in state.items())
    if isinstance(state, list):
        return all(map(only_allowed, state))
    return state is None or isinstance(state, bool | int | float | str | np.ndarray)


@given(trees)
@settings(max_examples=60, deadline=None)
def test_round_trip(state):
    stored = arrays(state)
    assert only_allowed(stored)
    assert same(tensors(stored), state)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_keep_their_bits(dtype):
    tensor = torch.tensor([0.0, 1.0, 3.0]).to(dtype)
    if dtype.is_floating_point:
        tensor = torch.cat([tensor, torch.tensor([float("nan"), float("inf"), -0.0], dtype=dtype)])
    back = tensors(arrays({"a": tensor}))["a"]
    assert torch.equal(back.view(torch.uint8), tensor.view(torch.uint8))


def test_both_ways_copy():
    tensor = torch.ones(3)
    stored = arrays({"a": tensor, "b": [tensor]})
    tensor.zero_()
    assert stored["a"].sum() == stored["b"][0].sum() == 3
    stored["a"].setflags(write=False)  # as an array that lies in a file
    back = tensors(stored)
    back["a"].zero_()
    assert stored["a"].sum() == 3


def test_a_view_and_a_parameter_become_plain_arrays():
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    stored = arrays([parameter, parameter.T[1]])
    assert stored[0].flags.c_contiguous
    np.testing.assert_array_equal(stored[1], [1.0, 4.0])


def test_tensors_pass_where_arrays_are_expected():
    tensor = torch.ones(2)
    assert torch.equal(tensors([tensor])[0], tensor)
    assert tensors([tensor])[0] is not tensor


@pytest.mark.parametrize("state", [{"a": object()}, {"a": {1, 2}}, {(1, 2): 3}, [lambda: None]])
def test_what_cannot_be_stored_is_refused(state):
    with pytest.raises(AssertionError):
        arrays(state)


def test_random_state_repeats_the_draws():
    torch.manual_seed(3)
    torch.rand(5)
    stored = random_state()
    first = torch.nn.functional.dropout(torch.ones(50))
    torch.rand(7)
    set_random_state(stored)
    assert torch.equal(torch.nn.functional.dropout(torch.ones(50)), first)
    assert stored["cpu"].dtype == np.uint8
