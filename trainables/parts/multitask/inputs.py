"""The examples of a task as a multi-task model takes them, and their sentence vectors.

Each text is encoded alone. Of an encoder that rests the pooled token states are always the same: they are made once for
all trials of a sweep, and no text goes through it again.
Shapes: N examples, T texts (N; of pairs 2N, all first ones and then all second ones), B examples of a batch,
P ways of pooling, H the encoder's width, F the sentence vector's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raysweep.trial import Trial
from trainables.parts.batches import Rows, Tokenised, in_order, tokenise
from trainables.parts.data import Split
from trainables.parts.embeddings import Vectors, key, stored
from trainables.parts.encoders import Encoder
from trainables.parts.multitask.model import MultitaskModel, Tower
from trainables.parts.multitask.settings import HeadSettings, MultitaskConfig
from trainables.parts.multitask.vectors import Pool, pools_of
from trainables.parts.packed import pack, token_states
from trainables.parts.task_data import Examples, read_examples


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """One split of a task. `targets` [N] are class numbers, for loss binary 0.0 and 1.0, or numbers in 0..1.

    `tokens` are of T texts, and `pools` [T, P, H] their pooled states by an encoder that rests, if they are stored.
    """

    name: str
    settings: HeadSettings
    examples: Examples
    tokens: Tokenised
    targets: Tensor
    pools: Tensor | None = None

    @property
    def pairs(self) -> bool:
        """Whether an example has two texts."""
        return self.examples.second is not None

    @property
    def lengths(self) -> Rows:
        """What each example costs in a padded batch, [N]: its tokens, of a pair those of the longer text."""
        return self.tokens.lengths.reshape(2, -1).max(axis=0) if self.pairs else self.tokens.lengths

    def rows_of_texts(self, rows: Rows) -> Rows:
        """The texts of these examples, [B] or [2B]: of pairs all first ones, then all second ones."""
        return np.concatenate([rows, rows + len(self.examples)]) if self.pairs else rows


Inputs = Mapping[str, TaskInputs]  # by task


def all_inputs(trial: Trial, encoder: Encoder, split: Split) -> Inputs:
    """A split of every task."""
    return {name: load_inputs(trial.config, name, split, encoder, trial.device) for name in trial.config.tasks}


def load_inputs(
    config: MultitaskConfig, name: str, split: Split, encoder: Encoder, device: str, also: str | None = None
) -> TaskInputs:
    """A split of the task of this name, in tokens; `also` names a further report split. Raises UserError."""
    settings = config.tasks[name]
    examples = read_examples(settings.data, split, also)
    assert (examples.second is not None) == settings.pairs, name
    tokens = tokenise(encoder.tokenizer, _texts(examples), encoder.max_length)
    kind = torch.int64 if settings.loss_name == "cross_entropy" else torch.float32
    return TaskInputs(name, settings, examples, tokens, torch.tensor(examples.targets, dtype=kind, device=device))


def _texts(examples: Examples) -> list[str]:
    return [*examples.first, *(examples.second or ())]


def stored_pools(
    inputs: TaskInputs, encoder: Encoder, names: Sequence[Pool], shared: Path, device: str, size: int = 64
) -> Tensor:
    """What `TaskInputs.pools` holds, [T, P, H]: read from `shared`, or made and left there, pooled in these ways.

    On the CPU the trials of a machine share the file's memory. The encoder's weights must still be those of its
    fingerprint.
    """

    def make() -> Vectors:
        model = encoder.model.to(device).eval()

        def pooled(rows: Rows) -> Tensor:
            batch = pack(inputs.tokens, rows, device)
            return pools_of(token_states(model, batch), batch, names).flatten(1)

        made: Vectors = in_order(pooled, inputs.tokens.lengths, size).numpy()
        return made

    texts = key(f"{encoder.fingerprint} {' '.join(names)}", _texts(inputs.examples))
    pools = stored(shared / f"pools-{texts}.npy", make, mode="c")
    return torch.from_numpy(pools).to(device).view(-1, len(names), encoder.hidden)


def rested(trial: Trial, encoder: Encoder, inputs: Inputs, resting: bool) -> Inputs:
    """With the pooled states of an encoder that rests; without any where it learns, or has learnt."""

    def pools(one: TaskInputs) -> Tensor | None:
        if not resting or one.pools is not None:
            return one.pools if resting else None
        return stored_pools(one, encoder, trial.config.pooling.pools, trial.shared, trial.device)

    return {name: replace(one, pools=pools(one)) for name, one in inputs.items()}


def batch_vectors(model: MultitaskModel, inputs: TaskInputs, rows: Rows, device: str) -> tuple[Tensor, Tensor | None]:
    """The sentence vectors [B, F] of these examples' first or only texts, and of their second ones."""
    tower, texts = model.tower(inputs.name), inputs.rows_of_texts(rows)
    if inputs.pools is not None:
        pools = inputs.pools[torch.from_numpy(texts)]
    else:
        pools = tower.pools(pack(inputs.tokens, texts, device))
    vectors: Tensor = tower.vector(pools)
    if not inputs.pairs:
        return vectors, None
    first, second = vectors.chunk(2)
    return first, second


def sentence_vectors(tower: Tower, encoder: Encoder, texts: Sequence[str], device: str, size: int = 64) -> Vectors:
    """(T, F) of any texts; leaves the tower in eval mode. `encoder` gives the tokens alone."""
    tower.eval()
    tokens = tokenise(encoder.tokenizer, texts, encoder.max_length)
    vectors: Vectors = in_order(lambda rows: tower(pack(tokens, rows, device)), tokens.lengths, size).numpy()
    return vectors
