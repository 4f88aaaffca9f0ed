"""The registered model's own code ("models from code"): MLflow copies this file into the model and runs it on loading.

It stands alone: where a model is served, raysweep is not installed, only the package that the model's loader is in.
"""

import importlib
import json
import reprlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy.typing as npt
from mlflow.exceptions import MlflowException

Texts = Sequence[str] | Sequence[tuple[str, str]]
Encode = Callable[[Texts], npt.NDArray[Any]]
MANIFEST = "manifest.json"


def load_function(folder: Path) -> Encode:
    """The function from texts, or pairs, to an array that manifest.json names as "package.module:function"."""
    module, _, name = json.loads((folder / MANIFEST).read_text())["loader"].partition(":")
    encode: Encode = getattr(importlib.import_module(module), name)(folder)
    return encode


def texts_of(table: Any, columns: Sequence[str]) -> Texts:
    """The texts of the only column, or a pair for each row of the two. Raises MlflowException when one is not there."""
    if not set(columns) <= set(table):
        expected, found = (", ".join(map(repr, names)) for names in (columns, table))
        raise MlflowException.invalid_parameter_value(f"expected the columns {expected}; found {found or 'none'}")
    sides = [_column(table, name) for name in columns]
    return sides[0] if len(sides) == 1 else list(zip(*sides, strict=True))


def _column(table: Any, name: str) -> list[str]:
    texts = list(table[name])
    for row, text in enumerate(texts):
        if not isinstance(text, str):  # the signature lets missing values and lists pass
            said = f"expected texts in the column {name!r}; found {reprlib.repr(text)} in row {row}"
            raise MlflowException.invalid_parameter_value(said)
    return texts


# MLflow takes type hints on `predict` for a schema, beside the signature that the model has, and asks for them if there
# are none. Recording is what silences it: it sets filters of its own.
with warnings.catch_warnings(record=True):

    class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        """A column `text`, or `text` and `text_pair`, in; one row of numbers for each row out."""

        def load_context(self, context: Any) -> None:
            folder = Path(context.artifacts["model"])
            self._columns = json.loads((folder / MANIFEST).read_text())["columns"]
            self._encode = load_function(folder)

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            """Outputs of shape (rows,) or (rows, dimensions)."""
            return self._encode(texts_of(model_input, self._columns))


mlflow.models.set_model(ServedModel())
