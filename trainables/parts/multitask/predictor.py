"""A trained multi-task model as files, and how to use it without the recipe.

A folder holds the encoder's config.json and tokenizer once, model.json with structure, tasks and labels, and all
weights in safetensors; verify.json has the model's answers to a few texts. Where sentence-transformers knows such
vectors, `SentenceTransformer(folder)` gives them too: see `sentence_form`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.parts.batches import Texts, in_order, tokens_of
from trainables.parts.model_files import VERIFY, WEIGHTS, blank_encoder, write_json, written_beside
from trainables.parts.multitask.model import MultitaskModel, Tower, from_structure
from trainables.parts.multitask.sentence_form import ENCODER, has_form, places, write_form
from trainables.parts.packed import pack

FILE = "model.json"
ROWS = 4096  # pairs whose features, three vectors each, are made at a time
Numbers = npt.NDArray[np.float32]
Places = Mapping[str, Sequence[str]]  # folder: how names begin in the model, and how in that folder's file


class MultitaskPredictor:
    """A model that `save_model` wrote. Only this package, torch and transformers are needed to use it."""

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        from transformers import AutoTokenizer

        folder = Path(folder)
        self.told: dict[str, Any] = json.loads((folder / FILE).read_text())
        self.tasks: dict[str, dict[str, Any]] = self.told["tasks"]
        self.columns: list[str] = self.told["columns"]
        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder / ENCODER, local_files_only=True)
        self.model = from_structure(self.told["structure"], lambda: blank_encoder(folder / ENCODER))
        self.model.load_state_dict(_read(folder, self.told["places"]))
        self.model.to(device).eval()

    def encode(self, texts: Sequence[str], task: str | None = None, batch_size: int = 32) -> Numbers:
        """Sentence vectors (N, F) of the texts, float32, in their order; not normalised.

        Raises ValueError when each task has an encoder of its own and no task is named.
        """
        if task is None and len(self.model.towers) > 1:
            raise ValueError(f"each task has an encoder of its own here: name one of {', '.join(self.tasks)}")
        tower = self._tower(next(iter(self.tasks)) if task is None else task)
        return self._vectors(tower, _single(texts, "an encoder"), batch_size).numpy()

    def predict(self, task: str, texts: Texts, batch_size: int = 32) -> Numbers:
        """What a task answers to each text, or pair of texts, in their order, float32.

        Labels: a chance for each, (N, K), with the loss `binary` too. Numbers: one each, (N,).
        Raises ValueError when there is no such task, or it takes pairs and these are none, or the other way round.
        """
        return self._answers([task], texts, batch_size)[0]

    def answers(self, texts: Texts, batch_size: int = 32) -> Numbers:
        """What is served, (N, columns): the answers of all tasks that take one text, side by side.

        Where none does, it is those of all tasks, to pairs. `columns` says what is where: "task.label", or the task.
        """
        found = self._answers(served(self.tasks), texts, batch_size)
        return np.concatenate([answer if answer.ndim == 2 else answer[:, None] for answer in found], axis=1)

    def _tower(self, task: str) -> Tower:
        if task not in self.tasks:
            raise ValueError(f"there is no task '{task}' here: name one of {', '.join(self.tasks)}")
        return self.model.tower(task)

    def _answers(self, tasks: Sequence[str], texts: Texts, size: int) -> list[Numbers]:
        """What these tasks answer, which all take texts, or all take pairs; each tower encodes a text once."""
        towers = {task: self._tower(task) for task in tasks}
        name, width = f"task {tasks[0]}", self.model.vector_shape.width
        sides = _paired(texts, name) if self.tasks[tasks[0]]["pairs"] else [_single(texts, name)]
        every = [text for side in sides for text in side]
        vectors = {tower: self._vectors(tower, every, size) for tower in dict.fromkeys(towers.values())}
        shape = (len(sides), len(texts), width)
        return [self._answer(task, *vectors[tower].view(shape)) for task, tower in towers.items()]

    def _vectors(self, tower: Tower, texts: Sequence[str], size: int) -> Tensor:
        """[N, F], on the CPU."""
        if not texts:
            return torch.empty(0, tower.vector.width)
        tokens = tokens_of(self.tokenizer, texts, self.told["max_length"])
        return in_order(lambda rows: tower(pack(tokens, rows, self.device)), tokens.lengths, size)

    @torch.inference_mode()
    def _answer(self, task: str, *sides: Tensor) -> Numbers:
        parts = zip(*(torch.split(side, ROWS) for side in sides), strict=True)
        logits = torch.cat([self.model.answer(task, *(part.to(self.device) for part in each)).cpu() for each in parts])
        if self.tasks[task]["kind"] == "regression":
            return logits[:, 0].numpy()
        if self.tasks[task]["loss"] == "binary":
            return torch.cat([-logits, logits], dim=1).sigmoid().numpy()
        return logits.softmax(1).numpy()


def load(folder: str | Path) -> Callable[[Texts], Numbers]:
    """What an exported folder holds, as a function from texts, or pairs of texts, to the answers that are served."""
    return MultitaskPredictor(folder).answers


def served(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The tasks that `load` answers: those of one text, or where there are none, all."""
    return [name for name, told in tasks.items() if not told["pairs"]] or list(tasks)


def columns_of(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What stands in which column of the answers that are served."""
    labels = {name: tasks[name]["labels"] for name in served(tasks)}
    return [column for name, own in labels.items() for column in ([f"{name}.{label}" for label in own] or [name])]


def save_model(folder: Path, model: MultitaskModel, tokenizer: Any, told: dict[str, Any], sample: Texts) -> None:
    """Write a model, whole or not at all, in place of what is in `folder`; verify.json has its answers to `sample`.

    `told` says max_length and tasks: of each kind, loss, labels and pairs. `sample` is texts, or pairs if no task takes
    one text.
    """
    encoder: Any = next(iter(model.towers.values())).encoder
    apart = places(model)
    facts = {"structure": model.structure(), "places": apart, "columns": columns_of(told["tasks"])}
    with written_beside(folder) as beside:
        encoder.config.save_pretrained(beside / ENCODER)
        tokenizer.save_pretrained(beside / ENCODER)
        _write(beside, model.state_dict(), apart)
        if has_form(model):
            write_form(beside, model, told["max_length"])
        write_json(beside / FILE, told | facts)
        write_json(beside / VERIFY, {"texts": sample, "outputs": load(beside)(sample).tolist()})


def _write(folder: Path, weights: Mapping[str, Tensor], apart: Places) -> None:
    """The weights that have a place of their own go there, all others into `folder` itself."""
    left = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    for place, (here, there) in apart.items():
        own = [name for name in left if name.startswith(here)]
        (folder / place).mkdir(exist_ok=True)
        _save({there + name.removeprefix(here): left.pop(name) for name in own}, folder / place / WEIGHTS)
    _save(left, folder / WEIGHTS)


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    save_file(tensors, file, metadata={"format": "pt"})


def _read(folder: Path, apart: Places) -> dict[str, Tensor]:
    """What `_write` was given."""
    found: dict[str, Tensor] = load_file(folder / WEIGHTS)
    for place, (here, there) in apart.items():
        own = load_file(folder / place / WEIGHTS)
        found |= {here + name.removeprefix(there): tensor for name, tensor in own.items()}
    return found


def _single(texts: Any, taker: str) -> list[str]:
    """The texts. Raises ValueError in words when they are none."""
    found = [texts] if isinstance(texts, str) else list(texts)
    if isinstance(texts, str) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{taker} takes a list of texts, not {texts!r:.80}")
    return found


def _paired(texts: Any, taker: str) -> list[list[str]]:
    """The first texts and the second ones. Raises ValueError in words when they are no pairs of texts."""
    found = [texts] if isinstance(texts, str) else list(texts)
    if any(isinstance(pair, str) or len(pair) != 2 for pair in found):
        raise ValueError(f"{taker} takes a list of pairs of texts, not {texts!r:.80}")
    return [_single([pair[side] for pair in found], taker) for side in (0, 1)]
