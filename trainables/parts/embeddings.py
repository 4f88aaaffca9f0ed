"""Sentence vectors of many texts, without gradients; those of a frozen encoder are made once for all trials of a sweep.

The cache is one .npy file for each (encoder, texts) in the sweep's shared folder.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainables.parts.batches import tokenise
from trainables.parts.encoders import Encoder
from trainables.parts.pooling import embed_all
from trainables.parts.shared_files import made_once

Vectors = npt.NDArray[np.float32]


def frozen_embeddings(
    encoder: Encoder, texts: Sequence[str], shared: Path, device: str = "cpu", size: int = 64
) -> Vectors:
    """Mean-pooled vectors (N, H) of an encoder as it was loaded: read from `shared`, or made and left there.

    The array is memory-mapped and read-only. The encoder's weights must still be those of its fingerprint.
    """

    def make() -> Vectors:
        return embed_all(encoder.model, tokenise(encoder.tokenizer, texts, encoder.max_length), size, device)

    return stored(shared / f"embeddings-{key(encoder.fingerprint, texts)}.npy", make)


def stored(file: Path, make: Callable[[], Vectors], mode: Literal["r", "c"] = "r") -> Vectors:
    """The array in `file`, memory-mapped; if there is none, one process makes it while others wait.

    It is read-only; or with mode "c", as torch wants it, writable, but what is written reaches no file.
    """

    def write(beside: Path) -> None:
        vectors = make()
        with beside.open("wb") as handle:  # a path would get numpy's own suffix
            np.save(handle, vectors)

    vectors: Vectors = np.load(made_once(file, write), mmap_mode=mode)
    return vectors


def key(maker: str, texts: Sequence[str]) -> str:
    """A name for what `maker`, told apart from others by this text, makes of texts in this order."""
    digest = hashlib.sha256(maker.encode())
    for text in texts:
        digest.update(json.dumps(text).encode() + b"\n")
    return digest.hexdigest()[:32]
