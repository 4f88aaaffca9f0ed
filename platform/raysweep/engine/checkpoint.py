"""A trial's state on disk: one safetensors file, replaced whole. Arrays are its tensors, all else JSON in its header.

Nothing is pickled, so a sweep folder from somebody else runs no code when it is resumed.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from raysweep.problems import UserError
from raysweep.trial import State

FILE = "checkpoint.safetensors"
ARRAY, PAIRS = "__array__", "__pairs__"


def save(state: State, path: Path) -> None:
    """Write `state` beside `path`, flush it, then rename: a reader finds the old file or the new one, whole.

    Raises TypeError for a value that is no number, text, None, array, list or dict of these.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = json.dumps(_plain(state, arrays, "state"))
    fresh = path.with_suffix(".writing")
    save_file(arrays, fresh, metadata={"tree": tree})
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(fresh, path)


def load(path: Path) -> State:
    """The state in `path`, with numpy arrays in place of tensors. Raises UserError when the file is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            tree = json.loads(file.metadata()["tree"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}; delete it, and the trial starts anew") from error
    state = _restored(tree, arrays)
    assert isinstance(state, dict)
    return state


def _plain(value: Any, arrays: dict[str, np.ndarray[Any, Any]], place: str) -> Any:
    """`value` as JSON, its arrays moved into `arrays` under the path where they stood."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, arrays, f"{place}.{i}") for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {PAIRS: [[key, _plain(item, arrays, f"{place}.{key}")] for key, item in value.items()]}
    if not hasattr(value, "__array__"):
        raise TypeError(
            f"{place} is a {type(value).__name__}; a state holds numbers, text, None, arrays, lists and dicts"
        )
    name = f"{len(arrays)}:{place}"
    arrays[name] = np.ascontiguousarray(np.asarray(value)).reshape(np.shape(value))
    return {ARRAY: name}


def _restored(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, list):
        return [_restored(item, arrays) for item in value]
    if isinstance(value, dict) and ARRAY in value:
        return arrays[value[ARRAY]]
    if isinstance(value, dict):
        return {key: _restored(item, arrays) for key, item in value[PAIRS]}
    return value
