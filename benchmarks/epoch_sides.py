"""The sides of `benchmarks.epoch`, each in a process of its own: train one epoch, say how long it took.

Same model (encoder, mean pooling, a square linear layer that starts as the identity), data, learning rate, batch size,
threads and loss: mean squared error of the cosine against the score.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measured import write_result
from trainables.parts import optim, pace
from trainables.parts.adapter import Adapter, initialise
from trainables.parts.batches import length_batches, pair_lengths, tokenise
from trainables.parts.data import DataSettings, Pairs, read_pairs
from trainables.parts.embedder import Embedder, save_model
from trainables.parts.encoders import EncoderSettings, load_encoder, train_mode
from trainables.parts.losses import pair_loss
from trainables.parts.pairs import TokenPairs, cosines
from trainables.parts.scores import spearman
from trainables.parts.sentence_model import SentenceModel

LR, WEIGHT_DECAY, LENGTH = 2e-5, 0.01, 128
Answer = dict[str, float]
Encode = Callable[[list[str]], Any]


def timed_steps(steps: Callable[[], None], threads: int) -> float:
    """Wall seconds of an epoch on so many threads."""
    torch.set_num_threads(threads)
    begun = time.perf_counter()
    steps()
    return time.perf_counter() - begun


def quality(encode: Encode, pairs: Pairs) -> float:
    """Spearman of the cosines on these pairs."""
    first, second = (torch.as_tensor(encode(texts)) for texts in (pairs.first, pairs.second))
    return spearman(F.cosine_similarity(first, second).double().numpy(), pairs.scores)


def ours(
    folder: Path, options: dict[str, Any], pairs: Pairs, bf16: bool = False, pool: int | None = None
) -> tuple[float, Encode]:
    """Tokenise once, batch by length, one forward for both sides, fused AdamW, memory held: what the recipes do."""
    pace.hold_memory()
    encoder = load_encoder(EncoderSettings(name=options["encoder"], max_length=LENGTH), options["seed"])
    adapter = Adapter(encoder.hidden, encoder.hidden)
    initialise(adapter, "identity", options["seed"])
    model = SentenceModel(encoder.model, adapter)
    train_mode(model)

    def steps() -> None:
        first, second = (tokenise(encoder.tokenizer, texts, LENGTH) for texts in (pairs.first, pairs.second))
        inputs = TokenPairs(first, second, pairs.scores, "cpu")
        targets = torch.tensor(pairs.scores, dtype=torch.float32)
        optimizer = optim.adamw(model, LR, WEIGHT_DECAY)
        rng = np.random.default_rng(options["seed"])
        for rows in length_batches(pair_lengths(first, second), options["batch"], rng, pool):
            loss = pair_loss("cosine", cosines(model, inputs, rows), targets[rows], 1.0)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    with pace.products("bfloat16" if bf16 else "float32"):
        seconds = timed_steps(steps, options["threads"])
    save_model(folder / "model", encoder.model, encoder.tokenizer, LENGTH, adapter)
    return seconds, Embedder(folder / "model").encode


def plain(folder: Path, options: dict[str, Any], pairs: Pairs, fused: bool = False) -> tuple[float, Encode]:
    """sentence-transformers by hand: DataLoader with shuffling and its collate, its loss, torch's AdamW."""
    from sentence_transformers import InputExample, SentenceTransformer
    from sentence_transformers.losses import CosineSimilarityLoss
    from torch.utils.data import DataLoader

    model = SentenceTransformer(str(start_model(folder, options)), device="cpu")
    model.train()
    loss_of = CosineSimilarityLoss(model)
    rows = zip(pairs.first, pairs.second, pairs.scores.tolist(), strict=True)
    examples: Any = [InputExample(texts=[first, second], label=score) for first, second, score in rows]

    def steps() -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=fused or None)
        loader = DataLoader(
            examples, shuffle=True, batch_size=options["batch"], collate_fn=model.smart_batching_collate
        )
        for features, labels in loader:
            loss_of(features, labels).backward()
            optimizer.step()
            optimizer.zero_grad()

    return timed_steps(steps, options["threads"]), partial(model.encode, convert_to_numpy=True)


def start_model(folder: Path, options: dict[str, Any]) -> Path:
    """The model that both sides start from, in sentence-transformers' files."""
    encoder = load_encoder(EncoderSettings(name=options["encoder"], max_length=LENGTH), options["seed"])
    adapter = Adapter(encoder.hidden, encoder.hidden)
    initialise(adapter, "identity", options["seed"])
    save_model(folder / "start", encoder.model, encoder.tokenizer, LENGTH, adapter)
    return folder / "start"


Side = Callable[[Path, dict[str, Any], Pairs], tuple[float, Encode]]
SIDES: dict[str, Side] = {
    "plain": plain,
    "plain, fused AdamW": partial(plain, fused=True),
    "ours": ours,
    "ours, pools of 16": partial(ours, pool=16),
    "ours, bf16 products": partial(ours, bf16=True),
}


def main() -> None:
    folder, side, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # no side may use more cores than the other
    torch.manual_seed(options["seed"])
    data = DataSettings(source=options["data"], train_rows=options["rows"])
    seconds, encode = SIDES[side](folder, options, read_pairs(data, "train"))
    write_result(folder, {"seconds": seconds, "spearman": quality(encode, read_pairs(data, "select"))})


if __name__ == "__main__":
    main()
