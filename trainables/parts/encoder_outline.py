"""An encoder without its weights: what settings ask of one is seen before anything large is read."""

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from raysweep.problems import Problem, UserError
from trainables.parts import synthetic
from trainables.parts.encoder_files import (
    CONFIG,
    FRESH,
    check_vocabulary,
    encoder_folder,
    model_config,
    read_tokenizer,
    stamp,
)
from trainables.parts.encoders import EncoderSource, keep_layers


def outline(settings: EncoderSource) -> Any:
    """The model that `load_encoder` gives, whose parameters but those of 'embedded' have shapes alone (device meta).

    Raises UserError where it could not be loaded; what the weights' files hold is not looked at.
    """
    if settings.name == "embedded":
        model: Any = synthetic.encoder(seed=0)
    else:
        folder = encoder_folder(settings.name)
        model = outlined(folder)
        _check_tokenizer(folder, stamp(folder), settings.name.startswith(FRESH))
    model.pooler = None
    if settings.layers is not None:
        keep_layers(model, settings.layers)
    return model


def outlined(folder: Path) -> Any:
    """A copy, with every layer and its pooler, by the config.json in a folder. Raises UserError where that is wrong."""
    return copy.deepcopy(_outlined(folder, stamp(folder)))


@lru_cache(maxsize=32)
def _outlined(folder: Path, stamp: object) -> Any:
    """Once for all configurations; `stamp` changes when the files do."""
    from transformers import AutoModel

    try:
        with torch.device("meta"):
            return AutoModel.from_config(model_config(folder), dtype=torch.float32).eval()
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:  # as transformers refuses settings
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError([Problem(f"describes no encoder: {reason}", str(folder / CONFIG))]) from error


@lru_cache(maxsize=32)
def _check_tokenizer(folder: Path, stamp: object, fresh: bool) -> None:
    config = model_config(folder)
    tokenizer = read_tokenizer(folder, config)
    if fresh:
        check_vocabulary(folder, config, tokenizer)
