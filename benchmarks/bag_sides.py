"""The sides of `benchmarks.bag`, each in a process of its own: train a classifier of texts, say how fast it went."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measured import write_result
from raysweep.recipe import configure, find
from raysweep.trial import Trial
from trainables import dendritic_bert
from trainables.parts.batches import length_batches
from trainables.parts.pace import hold_memory
from trainables.parts.pooling import mean_pool
from trainables.parts.text_build import new_encoder

STANDARD = {"encoder.layers": 2, "model.pooling": "cls", "model.pooler": True}
DSN = {"encoder.layers": 0}


def run_of(options: dict[str, Any], settings: dict[str, Any]) -> dendritic_bert.Run:
    """A trial of the recipe, ready for its first epoch."""
    fixed = {
        "data.source": options["data"],
        "data.train_rows": options["rows"],
        "encoder.name": options["encoder"],
        "encoder.max_length": 64,
        "train.batch_size": options["batch"],
        "train.lr": 1e-4,
    }
    folder = Path(tempfile.mkdtemp())
    config = configure(find("dendritic_bert"), {**fixed, **settings})
    hold_memory()
    torch.set_num_threads(options["threads"])
    return dendritic_bert.begin(Trial("t0000", config, 1, folder, folder, threads=options["threads"]))


def recipe(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Callable[[], Any]]:
    """The recipe's own epoch."""

    def prepare(options: dict[str, Any]) -> Callable[[], Any]:
        run = run_of(options, settings)
        return lambda: dendritic_bert.train_epoch(run)

    return prepare


def padded(options: dict[str, Any]) -> Callable[[], Any]:
    """The same DSN as transformers alone would train it: padded batches, dropout, AdamW over the whole table."""
    run = run_of(options, {**STANDARD, "encoder.layers": 0, "model.pooling": "mean", "model.pooler": False})
    encoder: Any = new_encoder(run.trial.config, 1).model
    head = torch.nn.Linear(encoder.config.hidden_size, 2)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-4, fused=True)

    def epoch() -> None:
        encoder.train()
        rng = np.random.default_rng(0)
        for rows in length_batches(run.train.lengths, options["batch"], rng):
            ids, mask = run.train.tokens.batch(rows)
            states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            loss = F.cross_entropy(head(F.dropout(mean_pool(states, mask), 0.1)), run.train.targets[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    return epoch


SIDES = {"standard": recipe(STANDARD), "dsn": recipe(DSN), "padded dsn": padded}


def main() -> None:
    folder, side, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    epoch = SIDES[side](options)
    epoch()  # the first one also pays for memory and for the kernels' choice
    begun = time.perf_counter()
    epoch()
    write_result(folder, {"rate": options["rows"] / (time.perf_counter() - begun)})


if __name__ == "__main__":
    main()
