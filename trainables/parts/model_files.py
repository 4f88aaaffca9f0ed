"""Writing and reading the files of a model: safetensors and JSON, whole or not at all. Exported models use this."""

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


def blank_encoder(folder: Path) -> Any:
    """The encoder of a config.json, without pooler; its weights mean nothing yet."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.random.fork_rng(devices=[]):  # transformers draws weights, which are replaced at once
        model = AutoModel.from_config(config, dtype=torch.float32)
    model.pooler = None
    return model
