"""A trained sentence embedder as files, and how to use it without the recipe: encoder, mean pooling, adapter.

Everything is safetensors and JSON. A plain adapter is stored as sentence-transformers' Dense, so that
`SentenceTransformer(folder)` loads it too. One with dendrites, or with a second hidden layer, has no such form: then
modules.json is left out, and as the encoder stands in a folder of its own, sentence-transformers refuses the model
rather than load it without its adapter.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.parts import adapter as adapters
from trainables.parts.adapter import Adapter
from trainables.parts.batches import tokens_of
from trainables.parts.dendrites.layer import rebuild, structure
from trainables.parts.model_files import VERIFY, WEIGHTS, blank_encoder, write_json, write_weights, written_beside
from trainables.parts.pooling import embed, in_batches

ENCODER, POOLING, ADAPTER = "0_Transformer", "1_Pooling", "2_Dense"
FILE = "embedder.json"
SAMPLE = (  # of verify.json: short, long, plain, and with marks, so that padding and unknown words are tried
    "A man is playing a guitar.",
    "The doctor bought a red bicycle near the river.",
    "Two dogs run through the snow while a small child watches them from behind the kitchen window of an old house.",
    "Prices fell by 3.5% on Friday, the bank said.",
    "hello",
)
Vectors = npt.NDArray[np.float32]


class Embedder:
    """A model that `save_model` wrote. Only this package, torch and transformers are needed to use it."""

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        from transformers import AutoTokenizer

        folder = Path(folder)
        told = json.loads((folder / FILE).read_text())
        self.max_length: int = told["max_length"]
        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder / ENCODER, local_files_only=True)
        self.encoder = blank_encoder(folder / ENCODER)
        self.encoder.load_state_dict(load_file(folder / ENCODER / WEIGHTS))
        self.encoder.to(device).eval()
        self.adapter = rebuild(adapters.from_structure(told["adapter"]), told["dendrites"])
        self.adapter.load_state_dict(load_file(folder / ADAPTER / WEIGHTS))
        self.adapter.to(device).eval()

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        """Vectors (N, d) of the texts, float32, in their order; not normalised."""
        tokens = tokens_of(self.tokenizer, texts, self.max_length)
        return in_batches(self._vectors, tokens, batch_size, self.device)

    def _vectors(self, ids: Tensor, mask: Tensor) -> Tensor:
        vectors: Tensor = self.adapter(embed(self.encoder, ids, mask))
        return vectors


def load(folder: str | Path) -> Callable[[Sequence[str]], Vectors]:
    """What an exported folder holds, as a function from texts to vectors."""
    return Embedder(folder).encode


def save_model(folder: Path, encoder: nn.Module, tokenizer: Any, max_length: int, adapter: Adapter) -> None:
    """Write a model, whole or not at all, in place of what is in `folder`; verify.json has its answers to `SAMPLE`."""
    dendrites = structure(adapter)
    with written_beside(folder) as beside:
        write_weights(beside / ENCODER, encoder)
        encoder.config.save_pretrained(beside / ENCODER)  # type: ignore[union-attr, operator]
        tokenizer.save_pretrained(beside / ENCODER)
        write_weights(beside / ADAPTER, adapter)
        write_json(beside / FILE, {"max_length": max_length, "adapter": adapter.structure(), "dendrites": dendrites})
        if not dendrites and not adapter.hidden_width:
            _write_sentence_transformers(beside, max_length, adapter)
        outputs = Embedder(beside).encode(SAMPLE)
        write_json(beside / VERIFY, {"texts": SAMPLE, "outputs": outputs.tolist()})


def _write_sentence_transformers(folder: Path, max_length: int, adapter: Adapter) -> None:
    """The JSON by which sentence-transformers finds encoder, pooling and adapter."""
    library = "sentence_transformers.models"
    parts = {ENCODER: "Transformer", POOLING: "Pooling", ADAPTER: "Dense"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"{library}.{kind}"}
        for i, (path, kind) in enumerate(parts.items())
    ]
    encoder = {"max_seq_length": max_length, "do_lower_case": False, "model_args": {"add_pooling_layer": False}}
    dense = {
        "in_features": adapter.in_dim,
        "out_features": adapter.out_dim,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
        "use_residual": adapter.residual,
    }
    (folder / POOLING).mkdir()
    write_json(folder / "modules.json", modules)
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine", "prompts": {}})
    write_json(folder / ENCODER / "sentence_bert_config.json", encoder)
    write_json(
        folder / POOLING / "config.json", {"word_embedding_dimension": adapter.in_dim, "pooling_mode_mean_tokens": True}
    )
    write_json(folder / ADAPTER / "config.json", dense)
