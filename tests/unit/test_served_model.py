"""The code inside a registered model, called without MLflow's check of the signature in front of it."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from raysweep.served_model import ServedModel


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the loader's function was handed, call by call."""
    calls: list[Any] = []

    def encode(texts: Any) -> Any:
        calls.append(texts)
        return np.zeros(len(texts))

    loader = ModuleType("stub_loader")
    loader.load = lambda folder: encode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stub_loader", loader)
    return calls


def served(folder: Path, *columns: str) -> Any:
    (folder / "manifest.json").write_text(json.dumps({"loader": "stub_loader:load", "columns": columns}))
    model = ServedModel()
    model.load_context(SimpleNamespace(artifacts={"model": str(folder)}))
    return model


def test_one_column_is_handed_on_as_strings(tmp_path: Path, given: list[Any]) -> None:
    table = pd.DataFrame({"other": [1, 2], "text": ["a", ""]}, index=[7, 3])
    assert served(tmp_path, "text").predict(None, table).shape == (2,)
    assert given == [["a", ""]]


def test_two_columns_are_handed_on_as_tuples_in_their_order(tmp_path: Path, given: list[Any]) -> None:
    table = pd.DataFrame({"text_pair": ["c", "d"], "text": ["a", "b"]}, index=[7, 3])
    served(tmp_path, "text", "text_pair").predict(None, table)
    served(tmp_path, "text", "text_pair").predict(None, table[:0])
    assert given == [[("a", "c"), ("b", "d")], []]
    assert {type(pair) for pair in given[0]} == {tuple}


def test_a_missing_column_is_named_with_those_that_were_found(tmp_path: Path, given: list[Any]) -> None:
    with pytest.raises(MlflowException) as caught:
        served(tmp_path, "text", "text_pair").predict(None, pd.DataFrame({"text": ["a"], "pair": ["b"]}))
    assert caught.value.message == "expected the columns 'text', 'text_pair'; found 'text', 'pair'"
    assert caught.value.get_http_status_code() == 400
    assert given == []


@pytest.mark.parametrize("cell", [None, float("nan"), 3, ["a", "b"]])
def test_a_cell_without_a_text_is_not_made_one(tmp_path: Path, given: list[Any], cell: Any) -> None:
    table = pd.DataFrame({"text": ["a", "b"], "text_pair": pd.Series(["c", cell], dtype=object)})
    with pytest.raises(MlflowException, match=r"expected texts in the column 'text_pair'; found .* in row 1"):
        served(tmp_path, "text", "text_pair").predict(None, table)
    assert given == []
