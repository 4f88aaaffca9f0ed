"""A smaller weight file for a model with many zeros: the values that are not zero, and a bit for each place.

It is smaller on disk only: once loaded, the model takes the same memory and time as from a plain file. Nothing here
imports raysweep: exported models use it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from trainables.parts.model_files import WEIGHTS

INDEX = "packed"  # the entry of the file's metadata
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # whole numbers by their bytes
_TOLD = 512  # bytes, more than the names, shapes and places of two tensors take beyond those of one


def pack_tensors(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """What a safetensors file takes, and the index that `unpack_tensors` needs: the shapes of what was packed, JSON.

    Zero is a value of zero bits alone, so -0.0 is kept. A tensor that would not become smaller stays as it is.
    """
    tensors, index = dict[str, Tensor](), dict[str, list[int]]()
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        bits = _bits(tensor)
        if bits is None or not _smaller(tensor, int(bits.count_nonzero())):
            tensors[name] = tensor
            continue
        kept = bits != 0
        tensors[f"{name}:values"] = bits[kept].view(tensor.dtype)
        tensors[f"{name}:mask"] = torch.from_numpy(np.packbits(kept.numpy()))
        index[name] = list(tensor.shape)
    assert len(tensors) == len(state) + len(index), "no name ends in :values or :mask"
    return tensors, json.dumps(index)


def _bits(tensor: Tensor) -> Tensor | None:
    """A tensor's bits as whole numbers, flat; None for kinds of 16 bytes."""
    kind = _BITS.get(tensor.element_size())
    return None if kind is None else tensor.flatten().view(kind)


def packed_bytes(state: Mapping[str, Tensor]) -> int:
    """Bytes of these tensors in the file that `write_packed` writes, whose header comes on top; nothing is packed."""
    return sum(_packed_bytes(tensor, int(tensor.count_nonzero())) for tensor in state.values())


def _packed_bytes(tensor: Tensor, kept: int) -> int:
    return kept * tensor.element_size() + _mask_bytes(tensor) if _smaller(tensor, kept) else tensor.nbytes


def _smaller(tensor: Tensor, kept: int) -> bool:
    """Whether a tensor with so many numbers that are not zero becomes smaller."""
    return (tensor.numel() - kept) * tensor.element_size() > _mask_bytes(tensor) + _TOLD


def _mask_bytes(tensor: Tensor) -> int:
    return -(-tensor.numel() // 8)


def unpack_tensors(tensors: Mapping[str, Tensor], index: str) -> dict[str, Tensor]:
    """What `pack_tensors` was given, bit by bit."""
    shapes: dict[str, list[int]] = json.loads(index)
    parts = {f"{name}:{part}" for name in shapes for part in ("values", "mask")}
    plain = {name: tensor for name, tensor in tensors.items() if name not in parts}
    return plain | {
        name: _unpacked(tensors[f"{name}:values"], tensors[f"{name}:mask"], shape) for name, shape in shapes.items()
    }


def _unpacked(values: Tensor, mask: Tensor, shape: list[int]) -> Tensor:
    bits = _bits(values)
    assert bits is not None
    count = int(np.prod(shape))
    kept = torch.from_numpy(np.unpackbits(mask.numpy(), count=count).view(np.bool_))
    whole = torch.zeros(count, dtype=bits.dtype)
    whole[kept] = bits
    return whole.view(values.dtype).reshape(shape)


def unsigned_zeros(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with 0.0 for -0.0, which a mask makes of a negative weight that it multiplies."""
    return {name: tensor.masked_fill(tensor == 0, 0) for name, tensor in state.items()}


def write_packed(folder: Path, module: nn.Module) -> None:
    """As `model_files.write_weights`, in the same file, but smaller where there are many zeros, with any sign."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors, index = pack_tensors(unsigned_zeros(module.state_dict()))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", INDEX: index})


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All parameters and buffers of a folder, whether `write_weights` or `write_packed` wrote them."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        metadata: dict[str, Any] = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    return unpack_tensors(tensors, metadata.get(INDEX, "{}"))
