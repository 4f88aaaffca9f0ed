"""Half of the heads and of the neurons removed: each form of the smaller model timed in turns with one dense model."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from raysweep.measure import interleaved_latency
from trainables.parts.batches import Tokenised, tokens_of
from trainables.parts.encoders import Encoder, EncoderSettings, load_encoder
from trainables.parts.onnx_files import save_onnx
from trainables.parts.onnx_predictor import OnnxPredictor, feed, softmax
from trainables.parts.packed import pack
from trainables.parts.pruning.removal import remove
from trainables.parts.pruning.units import groups_of
from trainables.parts.quantise import Kind, QuantiseSettings
from trainables.parts.task_data import TaskDataSettings, labels_of, read_examples
from trainables.parts.text_model import Shape, TextModel, start_head

Options = dict[str, Any]
Found = list[dict[str, Any]]
LENGTHS = {"as they are": 128, "40 tokens": 40, "128 tokens": 128}  # and where texts are cut
BATCHES = (1, 16)
WARMUP = 5
KINDS: tuple[Kind, ...] = ("onnx", "dynamic_int8")  # beside torch; the first one is float32 as torch is
LIKE = [(f"removed, {form}", f"dense, {form}") for form in ("torch", *KINDS)]
UNLIKE = [("removed, onnx", "dense, torch"), ("removed, dynamic_int8", "dense, torch")]
UNLIKE += [("removed, dynamic_int8", "dense, onnx")]


@dataclass(frozen=True, slots=True)
class Served:
    """A model in one of its forms, in steps: tokens to its inputs, inputs to logits, logits to chances."""

    tokenizer: Any
    inputs: Callable[[Tokenised], Any]
    logits: Callable[[Any], Any]
    chances: Callable[[Any], Any]


def removal(options: Options) -> Found:
    """Milliseconds of each model and of the one it is compared with, by length of texts and batch."""
    texts = read_examples(TaskDataSettings(task="sst2", source=options["data"]), "report").texts
    found = []
    with TemporaryDirectory() as place:
        models = served(options, [str(text) for text in texts[:8]], Path(place))
        for name, size in product(LENGTHS, BATCHES):
            longest = LENGTHS[name]
            shown = joined(texts, longest) if name != "as they are" else [str(text) for text in texts]
            batches = [shown[start : start + size] for start in range(0, 8 * size, size)]
            tokens = [tokens_of(models["dense, torch"].tokenizer, batch, longest) for batch in batches]
            told = {"texts": name, "batch": size, "tokens": float(np.mean([one.lengths.mean() for one in tokens]))}
            check_same(models, tokens[0])
            whole = {key: from_texts(model, batches, longest) for key, model in models.items()}
            alone = {key: from_tokens(model, tokens) for key, model in models.items()}
            found += [told | one for one in pairs("text to answer", whole, LIKE + UNLIKE, options["repeats"])]
            found += [told | one for one in pairs("model alone", alone, LIKE, options["repeats"])]
    return found


def pairs(
    what: str, calls: Mapping[str, Callable[[], Any]], compared: Sequence[tuple[str, str]], repeats: int
) -> Iterator[dict[str, Any]]:
    """Median milliseconds of two models in turns, with no other model between them."""
    for model, peer in compared:
        turns = {"model": calls[model], "peer": calls[peer]}
        yield {"what": what, "model": model, "peer": peer, "ms": in_turns(turns, repeats)}


def in_turns(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each."""
    with torch.inference_mode():
        return {name: found.p50_ms for name, found in interleaved_latency(calls, WARMUP, repeats).items()}


def text_model(options: Options) -> tuple[TextModel, Encoder]:
    """The encoder with all its layers, and a classifier of two labels."""
    encoder = load_encoder(EncoderSettings(name=options["encoder"]), seed=1)
    model = TextModel(encoder.model, Shape(outputs=2))
    start_head(model, 1, None)
    return model, encoder


def halved(model: TextModel) -> TextModel:
    """A copy without every second head and every second neuron of feed-forward layers."""
    small = copy.deepcopy(model)
    kept = {group.name: torch.arange(group.units) % 2 == 0 for group in groups_of(small, small.encoder)}
    remove(small, small.encoder, kept)
    return small


def served(options: Options, sample: Sequence[str], place: Path) -> dict[str, Served]:
    """The dense model and the smaller one in each form, all with the same number of threads."""
    dense, encoder = text_model(options)
    labels = labels_of(TaskDataSettings(task="sst2", source=options["data"]))
    told = {"kind": "classification", "labels": list(labels), "max_length": encoder.max_length, "stride": 0}
    found = {}
    for name, model in {"dense": dense.eval(), "removed": halved(dense).eval()}.items():
        found[f"{name}, torch"] = in_torch(model, encoder.tokenizer)
        for kind in KINDS:
            folder = place / f"{name}-{kind}"
            save_onnx(QuantiseSettings(kind=kind), model, encoder.tokenizer, told, sample, sample, folder)
            found[f"{name}, {kind}"] = in_onnx(OnnxPredictor(folder, threads=options["threads"]))
    return found


def in_torch(model: TextModel, tokenizer: Any) -> Served:
    return Served(
        tokenizer,
        lambda tokens: pack(tokens, np.arange(len(tokens))),
        model,
        lambda logits: logits.softmax(1),
    )


def in_onnx(predictor: OnnxPredictor) -> Served:
    padding = predictor.told["padding"]
    return Served(
        predictor.tokenizer,
        lambda tokens: feed(predictor.inputs, tokens, np.arange(len(tokens)), padding),
        lambda inputs: predictor.session.run(None, inputs)[0],
        softmax,
    )


def check_same(models: Mapping[str, Served], tokens: Tokenised) -> None:
    """What is compared in float32 must compute the same."""
    with torch.inference_mode():
        for name in ("dense", "removed"):
            ours, theirs = (models[f"{name}, {form}"] for form in ("torch", "onnx"))
            logits = ours.logits(ours.inputs(tokens)).numpy()
            np.testing.assert_allclose(theirs.logits(theirs.inputs(tokens)), logits, atol=1e-4, err_msg=name)


def joined(texts: Sequence[Any], words: int) -> list[str]:
    """Texts of so many words, which are at least so many tokens: the given ones end to end, cut anew."""
    stream = cycle(word for text in texts for word in text.split())
    return [" ".join(islice(stream, words)) for _ in range(8 * max(BATCHES))]


def from_texts(model: Served, batches: Sequence[Sequence[str]], longest: int) -> Callable[[], Any]:
    """From texts to the chance of each label: tokeniser, embeddings and all behind them."""
    turns = cycle(batches)
    return lambda: model.chances(model.logits(model.inputs(tokens_of(model.tokenizer, next(turns), longest))))


def from_tokens(model: Served, batches: Sequence[Tokenised]) -> Callable[[], Any]:
    """From tokens to logits: embeddings and all behind them."""
    turns = cycle([model.inputs(tokens) for tokens in batches])
    return lambda: model.logits(next(turns))
