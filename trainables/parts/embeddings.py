"""Sentence vectors of many texts, without gradients; those of a frozen encoder are made once for all trials of a sweep.

The cache is one .npy file for each (encoder, texts) in the sweep's shared folder. It is written beside and moved into
place under a file lock, so readers see a whole file or none, and a killed writer holds nobody up.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.parts.batches import tokenise
from trainables.parts.encoders import Encoder
from trainables.parts.pooling import embed_all

Vectors = npt.NDArray[np.float32]


def frozen_embeddings(
    encoder: Encoder, texts: Sequence[str], shared: Path, device: str = "cpu", size: int = 64
) -> Vectors:
    """Mean-pooled vectors (N, H) of an encoder as it was loaded: read from `shared`, or made and left there.

    The array is memory-mapped and read-only. The encoder's weights must still be those of its fingerprint.
    """

    def make() -> Vectors:
        return embed_all(encoder.model, tokenise(encoder.tokenizer, texts, encoder.max_length), size, device)

    return stored(shared / f"embeddings-{_key(encoder, texts)}.npy", make)


def stored(file: Path, make: Callable[[], Vectors]) -> Vectors:
    """The array in `file`, memory-mapped and read-only; if there is none, one process makes it while others wait."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with _lock(file.with_suffix(".lock")):
            if not file.exists():  # another process may have made it while this one waited
                _write(file, make())
    vectors: Vectors = np.load(file, mmap_mode="r")
    return vectors


def _key(encoder: Encoder, texts: Sequence[str]) -> str:
    digest = hashlib.sha256(encoder.fingerprint.encode())
    for text in texts:
        digest.update(json.dumps(text).encode() + b"\n")
    return digest.hexdigest()[:32]


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Hold the lock file; the kernel lets go of it when its holder dies."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _write(file: Path, vectors: Vectors) -> None:
    beside = file.with_suffix(".part")  # one name is enough under the lock; what a killed writer left is written over
    with beside.open("wb") as handle:
        np.save(handle, vectors)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(beside, file)
