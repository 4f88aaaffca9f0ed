"""The form in which sentence-transformers finds a shared tower: encoder, pooling, projection and norm.

It knows pools side by side, but no sum, average or gate of them, and one encoder. Nothing here imports raysweep.
"""

import inspect
from pathlib import Path
from typing import Any

from torch import nn

from trainables.parts.model_files import write_json
from trainables.parts.multitask.model import SHARED, MultitaskModel
from trainables.parts.multitask.vectors import ACTIVATIONS, VectorShape

ENCODER, POOLING, DENSE, NORM = "encoder", "1_Pooling", "2_Dense", "3_LayerNorm"
LIBRARY = "sentence_transformers.models"


def has_form(model: MultitaskModel) -> bool:
    """Whether `SentenceTransformer(folder)` can give what `encode` gives."""
    return SHARED in model.towers and model.vector_shape.combine == "concat"


def places(model: MultitaskModel) -> dict[str, tuple[str, str]]:
    """Where weights must lie: by folder, how their names begin in the model, and how in that folder's file."""
    if not has_form(model):
        return {}
    tower, shape = f"towers.{SHARED}.", model.vector_shape
    found = {ENCODER: (f"{tower}encoder.", "")}
    if shape.projection:
        found[DENSE] = (f"{tower}vector.projection.", "")
    if shape.layer_norm:
        found[NORM] = (f"{tower}vector.norm.", "norm.")
    return found


def write_form(folder: Path, model: MultitaskModel, max_length: int) -> None:
    """The JSON by which sentence-transformers finds the parts, whose weights and encoder are there already."""
    shape = model.vector_shape
    kinds = {ENCODER: "Transformer", POOLING: "Pooling"}
    kinds |= {DENSE: "Dense"} if shape.projection else {}
    kinds |= {NORM: "LayerNorm"} if shape.layer_norm else {}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"{LIBRARY}.{kind}"}
        for place, (path, kind) in enumerate(kinds.items())
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine", "prompts": {}})
    write_json(folder / ENCODER / "sentence_bert_config.json", _transformer(model.tower(SHARED).encoder, max_length))
    (folder / POOLING).mkdir()
    write_json(folder / POOLING / "config.json", _pooling(shape))
    if shape.projection:
        write_json(folder / DENSE / "config.json", _dense(shape))
    if shape.layer_norm:
        write_json(folder / NORM / "config.json", {"dimension": shape.width})


def _transformer(encoder: nn.Module, max_length: int) -> dict[str, Any]:
    told: dict[str, Any] = {"max_seq_length": max_length, "do_lower_case": False}
    if "add_pooling_layer" in inspect.signature(type(encoder)).parameters:  # it would be drawn, as no file has it
        told["model_args"] = {"add_pooling_layer": False}
    return told


def _pooling(shape: VectorShape) -> dict[str, Any]:
    names = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
    modes = {f"pooling_mode_{words}": pool in shape.pools for pool, words in names.items()}
    return {"word_embedding_dimension": shape.hidden, **modes}


def _dense(shape: VectorShape) -> dict[str, Any]:
    activation = ACTIVATIONS[shape.activation]
    return {
        "in_features": shape.pooled,
        "out_features": shape.projection,
        "bias": True,
        "activation_function": f"{activation.__module__}.{activation.__name__}",
        "use_residual": shape.residual,
    }
