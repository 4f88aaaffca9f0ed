"""A model's folder as it is packed: weights, JSON, YAML and tokenizer files only; manifest.json has their hashes."""

import hashlib
import importlib.util
import json
import os
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.problems import Problem, UserError

MANIFEST = "manifest.json"
VERIFY = "verify.json"
COLUMNS = ("text", "text_pair")  # of a registered model's input: both for pairs of texts, else the first alone
VERIFY_SHAPE = '{"texts": [...], "outputs": [...]}'
WEIGHTS = {".safetensors", ".onnx"}  # formats that hold no code
ALLOWED = WEIGHTS | {".json", ".yaml", ".txt", ".model", ".md"}  # .txt, .model: vocabularies


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked folder: its loader ("package.module:function"), its input's columns, the hash of all its files.

    `output_shape` is that of the outputs for one text, or pair of texts.
    """

    path: Path
    loader: str
    columns: tuple[str, ...]
    sha256: str
    size: int
    output_shape: tuple[int, ...]


def seal(path: Path, loader: str) -> ModelFolder:
    """Check the folder that a recipe exported and write its manifest. Raises UserError with every problem found."""
    files = [file for file in sorted(path.rglob("*")) if file.is_symlink() or not file.is_dir()]
    if problems := _problems(path, files):
        raise UserError(problems)
    verify = json.loads((path / VERIFY).read_text())
    columns = COLUMNS[:1] if isinstance(verify["texts"][0], str) else COLUMNS
    hashes = {str(file.relative_to(path)): _sha256(file) for file in files if file != path / MANIFEST}
    whole = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    beside = path / f"{MANIFEST}.part"
    manifest = {"loader": loader, "columns": columns, "sha256": whole, "files": hashes}
    beside.write_text(json.dumps(manifest, indent=1))
    os.replace(beside, path / MANIFEST)
    size = sum(file.stat().st_size for file in files if file.suffix in WEIGHTS)
    return ModelFolder(path, loader, columns, whole, size, np.shape(verify["outputs"])[1:])


def code_of(loader: str) -> Path:
    """The top-level package, or module file, that the loader is in: it travels with the model.

    `trainables` may lie in several folders; the one that holds the loader is meant.
    """
    module = loader.partition(":")[0]
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        raise UserError(f"the recipe's LOADER '{loader}' is in no package that can be found")
    file = Path(found.origin)
    inside = file.parent if file.name == "__init__.py" else file
    depth = module.count(".")
    return inside.parents[depth - 1] if depth else inside


def _problems(path: Path, files: list[Path]) -> list[Problem]:
    if not files:
        return [Problem(f"{path} holds no model", hint="the recipe's export writes it")]
    refused = [file for file in files if file.is_symlink() or file.suffix not in ALLOWED]
    hint = f"allowed are {', '.join(sorted(ALLOWED))}"
    problems = [Problem(f"{file} may not be part of a registered model", hint=hint) for file in refused]
    if not any(file.suffix in WEIGHTS for file in files):
        hint = f"the recipe's export writes {' or '.join(sorted(WEIGHTS))}"
        problems.append(Problem(f"{path} holds no weights", hint=hint))
    if path / VERIFY not in files:
        return [*problems, Problem(f"{path / VERIFY} is missing", hint=f"export writes {VERIFY_SHAPE}")]
    wrong = [] if path / VERIFY in refused else _verify_problems(path / VERIFY)
    return problems + [Problem(said, str(path / VERIFY)) for said in wrong]


def _verify_problems(file: Path) -> list[str]:
    try:
        told = json.loads(file.read_text())
    except ValueError as error:
        return [f"expected {VERIFY_SHAPE}, found no JSON: {error}"]
    if not isinstance(told, dict) or not {"texts", "outputs"} <= told.keys():
        return [f"expected {VERIFY_SHAPE}, found {reprlib.repr(told)}"]
    texts = told["texts"]
    if not isinstance(texts, list) or not texts:
        return [f"texts: expected a list with at least one text or pair of texts, found {reprlib.repr(texts)}"]
    return _text_problems(texts) + _output_problems(told["outputs"], len(texts))


def _text_problems(texts: list[Any]) -> list[str]:
    strings = [place for place, text in enumerate(texts) if isinstance(text, str)]
    pairs = [place for place, text in enumerate(texts) if _is_pair(text)]
    problems = [
        f"texts[{place}]: expected a string or a list of two strings, found {reprlib.repr(texts[place])}"
        for place in sorted({*range(len(texts))} - {*strings, *pairs})
    ]
    if strings and pairs:
        found = f"a string at [{strings[0]}] and a list of two at [{pairs[0]}]"
        problems.append(f"texts: expected only strings or only lists of two, found {found}")
    return problems


def _is_pair(text: Any) -> bool:
    return isinstance(text, list) and len(text) == 2 and all(isinstance(side, str) for side in text)


def _output_problems(outputs: Any, texts: int) -> list[str]:
    try:
        shape = np.asarray(outputs, dtype=np.float64).shape
    except (TypeError, ValueError):  # text, or rows that are not of one length
        found = reprlib.repr(outputs)
    else:
        if shape[:1] == (texts,) and len(shape) <= 2 and 0 not in shape:
            return []
        found = f"shape {shape}"
    return [f"outputs: expected numbers of shape ({texts},) or ({texts}, dimensions), found {found}"]


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while part := opened.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
