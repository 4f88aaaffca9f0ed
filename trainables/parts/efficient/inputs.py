"""Texts as a model takes them while it is tuned. Of an encoder that rests, the vectors of texts are made once.

Shapes: N examples, B examples of a batch, F the width of what the head takes, K outputs.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.parts.batches import Rows, in_order
from trainables.parts.embeddings import Vectors, key, stored
from trainables.parts.encoders import Encoder
from trainables.parts.packed import pack
from trainables.parts.task_data import Examples
from trainables.parts.tasks import Task
from trainables.parts.text_inputs import TextInputs, text_inputs
from trainables.parts.text_model import TextModel


@dataclass(frozen=True, slots=True)
class Inputs:
    """One split in tokens, and the vectors [N, F] of its texts if the encoder rests."""

    texts: TextInputs
    vectors: Tensor | None = None

    def __len__(self) -> int:
        return len(self.texts.examples)

    def take(self, rows: Rows) -> "Inputs":
        """These examples alone, in this order."""
        texts, at = self.texts, torch.from_numpy(rows)
        tokens = replace(texts.tokens, starts=texts.tokens.starts[rows], lengths=texts.tokens.lengths[rows])
        taken = replace(texts, examples=texts.examples.take(rows), tokens=tokens, targets=texts.targets[at])
        return Inputs(taken, None if self.vectors is None else self.vectors[at])


def inputs_of(task: Task, examples: Examples, encoder: Encoder, device: str) -> Inputs:
    """A split for an encoder that learns."""
    return Inputs(text_inputs(task, examples, encoder, 0, device))


def rested(inputs: Inputs, model: TextModel, maker: str, shared: Path, device: str, size: int = 64) -> Inputs:
    """With the vectors that the model's encoder gives: read from `shared`, or made and left there.

    `maker` tells this encoder, as it rests, apart from all others.
    """

    def make() -> Vectors:
        model.eval()
        tokens = inputs.texts.tokens
        made: Vectors = in_order(lambda rows: model.vectors(pack(tokens, rows, device)), tokens.lengths, size).numpy()
        return made

    examples = inputs.texts.examples
    texts = [*examples.first, *(examples.second or ())]
    file = shared / f"vectors-{key(f'{maker} {len(examples)}', texts)}.npy"
    return replace(inputs, vectors=torch.from_numpy(stored(file, make, mode="c")).to(device))


def logits(model: TextModel, inputs: Inputs, rows: Rows, device: str) -> Tensor:
    """[B, K] of these examples."""
    stored = inputs.vectors
    vectors = stored[rows] if stored is not None else model.vectors(pack(inputs.texts.tokens, rows, device))
    found: Tensor = model.head(vectors)
    return found


def all_logits(model: TextModel, inputs: Inputs, size: int, device: str) -> Tensor:
    """[N, K] float32, without gradient; the model is left in eval mode."""
    model.eval()
    lengths = inputs.texts.lengths if inputs.vectors is None else np.zeros(len(inputs), np.int64)
    return in_order(lambda rows: logits(model, inputs, rows, device), lengths, size)
