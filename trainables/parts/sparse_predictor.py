"""How to use an exported model of SparseBERT, whatever it was made of. Nothing here imports raysweep."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

ONNX = "model.onnx"


def load(folder: str | Path) -> Callable[..., Any]:
    """What an exported folder holds, as a function from texts, or pairs of texts, to outputs.

    Only what the folder needs is imported: a model in ONNX does without torch.
    """
    if (Path(folder) / ONNX).is_file():
        from trainables.parts.onnx_predictor import OnnxPredictor

        return OnnxPredictor(folder).predict
    from trainables.parts.text_predictor import TextPredictor

    return TextPredictor(folder).predict
