"""A recipe's state between torch tensors and what a checkpoint holds: numbers, text, None and arrays."""

from typing import Any

import numpy as np
import torch

BFLOAT16 = "bfloat16"  # numpy has no such type: its bits travel as int16 under this key


def arrays(state: Any) -> Any:
    """`state` with each tensor as a numpy array of its own on the CPU; dict keys stay text or int as they are."""
    if isinstance(state, dict):
        assert all(isinstance(key, str | int) for key in state), f"keys must be text or int: {list(state)}"
        return {key: arrays(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [arrays(value) for value in state]
    if isinstance(state, torch.Tensor):
        return _array(state)
    assert state is None or isinstance(state, bool | int | float | str | np.ndarray), f"{type(state)} cannot be stored"
    return state


def tensors(state: Any) -> Any:
    """`state` with each numpy array as a tensor of its own on the CPU: what `arrays` was given."""
    if isinstance(state, dict):
        if set(state) == {BFLOAT16}:
            return _tensor(state[BFLOAT16]).view(torch.bfloat16)
        return {key: tensors(value) for key, value in state.items()}
    if isinstance(state, list):
        return [tensors(value) for value in state]
    return _tensor(state) if isinstance(state, np.ndarray | torch.Tensor) else state


def random_state() -> dict[str, Any]:
    """Where torch's own generators stand (dropout draws from them): the CPU's, and the current GPU's if in use."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return arrays(state)  # type: ignore[no-any-return]


def set_random_state(state: dict[str, Any]) -> None:
    """Put torch's generators back where `random_state` found them."""
    found = tensors(state)
    torch.set_rng_state(found["cpu"])
    if "cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["cuda"])


def _array(tensor: torch.Tensor) -> Any:
    copied = tensor.detach().to("cpu", copy=True).contiguous()
    if copied.dtype == torch.bfloat16:
        return {BFLOAT16: copied.view(torch.int16).numpy()}
    return copied.numpy()


def _tensor(array: Any) -> torch.Tensor:
    """A copy, because arrays that come from a file may be read-only."""
    return array.detach().to("cpu", copy=True) if isinstance(array, torch.Tensor) else torch.from_numpy(np.array(array))
