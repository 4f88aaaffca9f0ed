"""A model's folder as it is packed: safetensors, JSON and tokenizer files only; manifest.json has their hashes."""

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.problems import Problem, UserError

MANIFEST = "manifest.json"
VERIFY = "verify.json"
ALLOWED = {
    ".safetensors",
    ".json",
    ".txt",
    ".model",
    ".md",
}  # .txt, .model: vocabularies


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked folder: its loader ("package.module:function"), the hash of all its files, and its outputs' shape."""

    path: Path
    loader: str
    sha256: str
    size: int
    output_shape: tuple[int, ...]


def seal(path: Path, loader: str) -> ModelFolder:
    """Check the folder that a recipe exported and write its manifest. Raises UserError with every problem found."""
    files = [file for file in sorted(path.rglob("*")) if file.is_symlink() or not file.is_dir()]
    if problems := _problems(path, files):
        raise UserError(problems)
    verify = json.loads((path / VERIFY).read_text())
    hashes = {str(file.relative_to(path)): _sha256(file) for file in files if file != path / MANIFEST}
    whole = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    beside = path / f"{MANIFEST}.part"
    beside.write_text(json.dumps({"loader": loader, "sha256": whole, "files": hashes}, indent=1))
    os.replace(beside, path / MANIFEST)
    size = sum(file.stat().st_size for file in files if file.suffix == ".safetensors")
    return ModelFolder(path, loader, whole, size, _shape(verify["outputs"])[1:])


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
    if not any(file.suffix == ".safetensors" for file in files):
        problems.append(Problem(f"{path} holds no weights", hint="the recipe's export writes .safetensors"))
    if path / VERIFY not in files:
        problems.append(Problem(f"{path / VERIFY} is missing", hint='export writes {"texts": [...], "outputs": [...]}'))
    return problems


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while part := opened.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _shape(outputs: Any) -> tuple[int, ...]:
    return (len(outputs), *_shape(outputs[0])) if isinstance(outputs, list) and outputs else ()
