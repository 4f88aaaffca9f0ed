"""A trained text model as files, and how to use it without the recipe.

A folder holds the encoder's config.json and tokenizer, all weights in one safetensors file, and model.json: task,
labels, shape, word table and dendrites, and only where there are any: how many heads and neurons are left in each layer
after some were removed, which linear layers are ternary, and which have a product of thin matrices beside them.
verify.json has the model's answers to a few texts.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.parts.answers import best_answers
from trainables.parts.batches import Texts, in_order, length_batches, tokens_of
from trainables.parts.dendrites import layer as dendrites
from trainables.parts.model_files import VERIFY, blank_encoder, write_config, write_json, written_beside
from trainables.parts.packed import Packed, pack
from trainables.parts.packed_weights import read_weights, write_packed
from trainables.parts.pruning.removal import changed_sizes, resize
from trainables.parts.spans import Windows, windows
from trainables.parts.ternary import packed as ternary
from trainables.parts.text_model import Shape, TextModel
from trainables.parts.tuning import low_rank
from trainables.parts.word_tables import table_structure, word_table

FILE, ENCODER = "model.json", "encoder"
NONE = -1e9  # score of an answer where a context has no text: JSON knows no infinity
Outputs = npt.NDArray[np.float32]


class TextPredictor:
    """A model that `save_model` wrote. Only this package, torch and transformers are needed to use it."""

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        from transformers import AutoTokenizer

        folder = Path(folder)
        self.told: dict[str, Any] = json.loads((folder / FILE).read_text())
        self.labels: list[str] = self.told["labels"]
        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder / ENCODER, local_files_only=True)
        encoder = blank_encoder(folder / ENCODER)
        if "sizes" in self.told:
            resize(encoder, self.told["sizes"])
        encoder.set_input_embeddings(word_table(self.told["table"]))
        self.model = dendrites.rebuild(TextModel(encoder, Shape(**self.told["shape"])), self.told["dendrites"])
        low_rank.rebuild(self.model, self.told.get("low_rank", {}))  # around linear layers, which may become ternary
        ternary.rebuild(self.model, self.told.get("ternary", {}))
        self.model.load_state_dict(read_weights(folder))
        self.model.to(device).eval()

    def predict(self, texts: Texts, batch_size: int = 32) -> Outputs:
        """For each text, or pair of texts, in their order, float32.

        Classification: a chance for each label, (N, K). Regression: a number, (N,). Questions with contexts: first
        character of the answer in the context, the character behind its last, and the score, (N, 3).
        """
        if not len(texts):
            return np.zeros(
                {"span": (0, 3), "regression": (0,)}.get(self.told["kind"], (0, len(self.labels))), np.float32
            )
        if self.told["kind"] == "span":
            return self._answers(texts, batch_size)
        tokens = tokens_of(self.tokenizer, texts, self.told["max_length"])
        logits = predict_texts(self.model, lambda rows: pack(tokens, rows, self.device), tokens.lengths, batch_size)
        if self.told["kind"] == "regression":
            return logits[:, 0].numpy()
        return logits.softmax(1).numpy()

    def _answers(self, texts: Texts, batch_size: int) -> Outputs:
        questions, contexts = ([pair[side] for pair in texts] for side in (0, 1))
        parts = windows(self.tokenizer, questions, contexts, None, self.told["max_length"], self.told["stride"])
        logits = predict_windows(self.model, parts, self.device, batch_size)
        found = best_answers(logits[:, 0], logits[:, 1], parts, len(questions))
        rows = [(answer.first_char, answer.last_char_exclusive, max(answer.score, NONE)) for answer in found]
        return np.array(rows, dtype=np.float32).reshape(len(rows), 3)


def load(folder: str | Path) -> Callable[[Texts], Outputs]:
    """What an exported folder holds, as a function from texts, or pairs of texts, to outputs."""
    return TextPredictor(folder).predict


def predict_texts(
    model: torch.nn.Module, batch: Callable[[npt.NDArray[np.int64]], Packed], lengths: npt.NDArray[np.int64], size: int
) -> Tensor:
    """Logits [N, K] of all texts, `size` of similar length at a time; leaves the model in eval mode."""
    if model.training:  # to say so again would walk through all its parts for each text that is served
        model.eval()
    return in_order(lambda rows: model(batch(rows)), lengths, size)


@torch.inference_mode()
def predict_windows(model: torch.nn.Module, parts: Windows, device: str, size: int) -> npt.NDArray[np.float32]:
    """Logits [S, 2] of every token of all windows, in the order of their tokens; leaves the model in eval mode."""
    model.eval()
    tokens = parts.tokens
    found = np.empty((len(tokens.ids), 2), np.float32)
    for rows in length_batches(tokens.lengths, size, np.random.default_rng(0)):
        found[tokens.places(rows)] = model(pack(tokens, rows, device)).float().cpu().numpy()
    return found


def save_model(
    folder: Path,
    model: TextModel,
    tokenizer: Any,
    told: dict[str, Any],
    sample: Sequence[str] | Sequence[tuple[str, str]],
) -> None:
    """Write a model, whole or not at all, in place of what is in `folder`; verify.json has its answers to `sample`.

    `told` says kind, labels, max_length and stride.
    """
    encoder: Any = model.encoder
    shapes = {
        "shape": model.structure(),
        "table": table_structure(encoder.get_input_embeddings()),
        "dendrites": dendrites.structure(model),
    }
    changes = {  # of which the encoder's config.json says nothing
        "sizes": changed_sizes(encoder),
        "low_rank": low_rank.structure(model),
        "ternary": ternary.structure(model),
    }
    shapes |= {name: change for name, change in changes.items() if change}
    with written_beside(folder) as beside:
        write_config(beside / ENCODER, encoder)
        tokenizer.save_pretrained(beside / ENCODER)
        write_packed(beside, model)
        write_json(beside / FILE, told | shapes)
        write_json(beside / VERIFY, {"texts": sample, "outputs": TextPredictor(beside).predict(sample).tolist()})
