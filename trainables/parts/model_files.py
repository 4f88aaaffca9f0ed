"""Writing and reading the files of a model: safetensors and JSON, whole or not at all. Exported models use this."""

import copy
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

WEIGHTS = "model.safetensors"
VERIFY = "verify.json"


@contextmanager
def written_beside(folder: Path) -> Iterator[Path]:
    """An empty folder to write into; it takes the place of `folder` when the block ends without an error."""
    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    yield beside
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(beside, folder)


def write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")


def write_weights(folder: Path, module: nn.Module) -> None:
    """All parameters and buffers that a state_dict holds."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def write_config(folder: Path, encoder: Any) -> None:
    """An encoder's config.json, as of float weights: what has quantised it on the way is not part of what is served."""
    config = copy.deepcopy(encoder.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(folder)


def blank_encoder(folder: Path) -> Any:
    """The encoder of a config.json, without pooler; its weights mean nothing yet.

    None are drawn, and memory that is never written to takes no room: what replaces parts of it by smaller ones before
    weights are loaded never takes that of the larger.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.initialization import no_init_weights

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]), no_init_weights():  # some may draw in a way of their own
        model = AutoModel.from_config(config, dtype=torch.float32)
    model.pooler = None
    return model
