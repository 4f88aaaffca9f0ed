"""Weights of dense models, trained once for all trials of a sweep that begin with the same one."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.parts.shared_files import made_once


def stored_weights(shared: Path, key: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of this key: read from `shared`, or made and left there by one process while others wait.

    `key`, JSON, has to name all that the tensors depend on; the file's metadata shows it. They come back on the CPU.
    """
    told = json.dumps(key, sort_keys=True)

    def write(file: Path) -> None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
        save_file(tensors, file, metadata={"key": told})

    file = shared / f"dense-{hashlib.sha256(told.encode()).hexdigest()[:32]}.safetensors"
    tensors: dict[str, Tensor] = load_file(made_once(file, write))
    return tensors
