"""A sentence model: encoder, mean pooling, adapter. How it is put together, and how it becomes files."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from raysweep.measure import Latency, folder_bytes, latency, sizes
from raysweep.problems import UserError
from trainables.parts.adapter import Adapter, matched_width, output_width
from trainables.parts.dendrites import structure
from trainables.parts.embedder import Embedder, save_model
from trainables.parts.encoders import Encoder, count
from trainables.parts.pooling import embed
from trainables.parts.settings import AdapterSettings


class SentenceModel(nn.Module):
    """Encoder, mean pooling, adapter. Without an encoder it takes what pooling would have given."""

    def __init__(self, encoder: nn.Module | None, adapter: Adapter) -> None:
        super().__init__()
        self.encoder, self.adapter = encoder, adapter

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Token ids [B, T] with their mask, or pooled embeddings [B, H], to [B, d]."""
        if self.encoder is not None:
            assert mask is not None
            inputs = embed(self.encoder, inputs, mask)
        embeddings: Tensor = self.adapter(inputs)
        return embeddings


def new_adapter(settings: AdapterSettings, hidden: int, texts: int) -> Adapter:
    """A blank adapter behind an encoder `hidden` wide. Raises UserError when it does not fit encoder or data."""
    width = output_width(hidden, settings.compression, settings.out_dim)
    if settings.residual and width != hidden:
        raise UserError(f"adapter.residual needs the encoder's width, {hidden}, but adapter.out_dim is {width}")
    if settings.init == "pca" and width > (most := min(hidden, texts)):
        raise UserError(f"adapter.init pca can give {most} dimensions here, not {width}: lower adapter.out_dim")
    return Adapter(
        hidden,
        width,
        residual=settings.residual,
        hidden_width=matched_width(hidden, width, settings.matched_dendrites),
        dropout=settings.dropout,
        dropout_position=settings.dropout_position,
        noise_std=settings.noise_std,
    )


def export_model(model: SentenceModel, encoder: Encoder, folder: Path) -> dict[str, Any]:
    """Write a model in plain torch, with `encoder` if it has none of its own; what the registry says of it."""
    save_model(folder, model.encoder or encoder.model, encoder.tokenizer, encoder.max_length, model.adapter)
    encoded = sizes(model.encoder or encoder.model, embedding=["embeddings."], encoder=["encoder."])
    return {
        "parameters": encoded.total + count(model.adapter),
        "token_embedding_parameters": encoded.embedding,
        "adapter_parameters": count(model.adapter),
        "dimensions": model.adapter.out_dim,
        "embedding_bytes": 4 * model.adapter.out_dim,
        "bytes": folder_bytes(folder),
        "dendrites": max((layer["dendrites"] for layer in structure(model).values()), default=0),
        "sentence_transformer": (folder / "modules.json").exists(),
    }


def served_latency(model: SentenceModel, encoder: Encoder, texts: Sequence[str], device: str) -> Latency:
    """Time of one text at a time, from text to vector, by the exported model."""
    with TemporaryDirectory() as folder:
        export_model(model, encoder, Path(folder, "model"))
        embedder = Embedder(Path(folder, "model"), device)
    turns = cycle(texts)
    return latency(lambda: embedder.encode([next(turns)]), warmup=5, repeats=50)
