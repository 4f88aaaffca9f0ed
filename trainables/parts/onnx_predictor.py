"""A text model as an ONNX file, and how to use it: neither torch nor transformers is needed.

A folder holds model.onnx, the tokenizer, and model.json: task, labels, and what computes it. verify.json has the
model's answers to a few texts.

Shapes: N texts, B texts in a batch, T tokens of the longest, K outputs.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from trainables.parts.batches import Rows, Texts, Tokenised, length_batches, tokens_of

MODEL, FILE, ENCODER, TOKENIZER = "model.onnx", "model.json", "encoder", "tokenizer.json"
Outputs = npt.NDArray[np.float32]
Feed = dict[str, npt.NDArray[np.int64]]  # inputs by name


@dataclass(frozen=True, slots=True)
class PlainTokenizer:
    """As much of a tokenizer of transformers as `tokens_of` needs."""

    backend_tokenizer: Tokenizer
    pad_token_id: int


class OnnxPredictor:
    """A model that `save_onnx` wrote, on the CPU."""

    def __init__(self, folder: str | Path, device: str = "cpu", threads: int | None = None) -> None:
        """`threads` as `session_of` takes them. Raises ValueError for any other device than "cpu"."""
        if device != "cpu":
            raise ValueError(f"models in ONNX run on the CPU here; expected device cpu, found {device}")
        folder = Path(folder)
        self.told: dict[str, Any] = json.loads((folder / FILE).read_text())
        self.labels: list[str] = self.told["labels"]
        tokenizer = Tokenizer.from_file(str(folder / ENCODER / TOKENIZER))
        self.tokenizer = PlainTokenizer(tokenizer, self.told["padding"])
        self.session = session_of(folder / MODEL, threads)
        self.inputs = [given.name for given in self.session.get_inputs()]

    def predict(self, texts: Texts, batch_size: int = 32) -> Outputs:
        """For each text, or pair of texts, in their order, float32.

        Classification: a chance for each label, (N, K). Regression: a number, (N,).
        """
        tokens = tokens_of(self.tokenizer, texts, self.told["max_length"])
        logits = self.logits(tokens, batch_size)
        return logits[:, 0] if self.told["kind"] == "regression" else softmax(logits)

    def logits(self, tokens: Tokenised, batch_size: int = 32) -> Outputs:
        """[N, K] of all texts, so many of similar length at a time."""
        found = np.zeros((len(tokens), self.session.get_outputs()[0].shape[1]), np.float32)
        for rows in length_batches(tokens.lengths, batch_size, np.random.default_rng(0)):
            found[rows] = self.session.run(None, feed(self.inputs, tokens, rows, self.told["padding"]))[0]
        return found


def session_of(file: Path, threads: int | None = None) -> Any:
    """An ONNX file, loaded; None takes as many threads as OMP_NUM_THREADS says, or else as there are cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0)) if threads is None else threads
    options.inter_op_num_threads = 1
    # Threads that wait in a loop for the next operator take the time of whatever else runs here.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def feed(names: Sequence[str], tokens: Tokenised, rows: Rows, padding: int) -> Feed:
    """These of a model's inputs for these texts, each [B, T]."""
    mask = np.arange(tokens.lengths[rows].max()) < tokens.lengths[rows, None]
    places = tokens.places(rows)
    types = np.zeros(len(places), np.int64) if tokens.types is None else tokens.types[places]
    inputs = {
        "input_ids": _padded(tokens.ids[places], mask, padding),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": _padded(types, mask, 0),
    }
    return {name: inputs[name] for name in names}


def _padded(values: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], padding: int) -> npt.NDArray[np.int64]:
    """[S] -> [B, T]."""
    padded = np.full(mask.shape, padding, np.int64)
    padded[mask] = values
    return padded


def softmax(logits: Outputs) -> Outputs:
    """[N, K] -> chances that add up to 1 in each row."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    chances: Outputs = powers / powers.sum(1, keepdims=True)
    return chances
