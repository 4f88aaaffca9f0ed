"""The registered model's own code ("models from code"): MLflow copies this file into the model and runs it on loading.

It stands alone: where a model is served, raysweep is not installed, only the package that the model's loader is in.
"""

import importlib
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy.typing as npt

Encode = Callable[[Sequence[str]], npt.NDArray[Any]]


def load_function(folder: Path) -> Encode:
    """The function from texts to an array that the model's manifest.json names as "package.module:function"."""
    module, _, name = json.loads((folder / "manifest.json").read_text())["loader"].partition(":")
    encode: Encode = getattr(importlib.import_module(module), name)(folder)
    return encode


# MLflow takes type hints on `predict` for a schema, beside the signature that the model has, and asks for them if there
# are none. Recording is what silences it: it sets filters of its own.
with warnings.catch_warnings(record=True):

    class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        """A column `text` in, one row of numbers for each text out."""

        def load_context(self, context: Any) -> None:
            self._encode = load_function(Path(context.artifacts["model"]))

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            """Outputs of shape (texts,) or (texts, dimensions)."""
            return self._encode([str(text) for text in model_input["text"]])


mlflow.models.set_model(ServedModel())
