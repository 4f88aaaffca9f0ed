"""Writing a text model as an ONNX file, quantised or not, with what `OnnxPredictor` needs beside it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from trainables.parts.batches import Texts, tokens_of
from trainables.parts.model_files import VERIFY, write_json, written_beside
from trainables.parts.onnx_form import export_onnx, input_names
from trainables.parts.onnx_predictor import ENCODER, FILE, MODEL, Feed, OnnxPredictor, feed
from trainables.parts.quantise import QuantiseSettings, kernel, quantise
from trainables.parts.text_model import TextModel


def save_onnx(
    settings: QuantiseSettings,
    model: TextModel,
    tokenizer: Any,
    told: dict[str, Any],
    sample: Texts,
    calibration: Texts,
    folder: Path,
) -> None:
    """Write a model, whole or not at all, in place of what is in `folder`; verify.json has its answers to `sample`.

    `told` says kind, labels and max_length; static_int8 is calibrated on some of the `calibration` texts.
    """
    config: Any = model.encoder.config
    facts = {"shape": model.structure(), "padding": config.pad_token_id or 0, "quantised": settings.kind}
    with written_beside(folder) as beside, TemporaryDirectory() as place:
        tokenizer.save_pretrained(beside / ENCODER)
        export_onnx(model, whole := Path(place, MODEL))
        inputs = calibration_feeds(settings, model, tokenizer, calibration, told["max_length"])
        quantise(settings.kind, whole, beside / MODEL, inputs)
        write_json(beside / FILE, told | facts | {"kernel": kernel(settings.kind, beside / MODEL)})
        write_json(beside / VERIFY, {"texts": sample, "outputs": OnnxPredictor(beside).predict(sample).tolist()})


def calibration_feeds(
    settings: QuantiseSettings, model: TextModel, tokenizer: Any, texts: Texts, max_length: int
) -> Iterator[Feed]:
    """Inputs of one text each, without padding, whose values no product will see; the same texts at all times."""
    count = min(settings.calibration_rows, len(texts))
    chosen = np.random.default_rng(0).choice(len(texts), count, replace=False)
    tokens = tokens_of(tokenizer, [texts[row] for row in chosen], max_length)
    for row in range(count):
        yield feed(input_names(model.encoder), tokens, np.array([row]), padding=0)
