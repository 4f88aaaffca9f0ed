"""What models cost beside each other, on loaders whose cost is known, and on a text model in a process of its own."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysweep import measure
from tests.text_models import config_of, trained
from trainables.parts import text_build
from trainables.parts.footprint import Footprint, footprint, weight_bytes
from trainables.parts.model_files import WEIGHTS

TEXTS = [f"text {number}" for number in range(40)]
LOADER = """
import json, os, sys
import numpy as np

SPENT = [0.0]  # seconds, by all models

def load(folder):
    told = json.loads(open(os.path.join(folder, "told.json")).read())
    if told["only_in"] not in (None, os.getpid()):
        raise OSError("first line\\nno such weights")
    block = np.ones(told["megabytes"] * 125_000)
    def answer(texts, batch_size=32):
        SPENT[0] += told["seconds"] * len(texts)
        with open(os.path.join(folder, "..", "calls.txt"), "a") as file:
            threads = os.environ.get("OMP_NUM_THREADS")
            heavy = [name for name in ("torch", "pytest") if name in sys.modules]
            print(json.dumps([told["name"], list(texts), batch_size, threads, heavy]), file=file)
        print("chatter")
        return block[:len(texts)]
    return answer
"""
COSTS: dict[str, dict[str, Any]] = {
    "dense": {"megabytes": 200, "seconds": 0.004},
    "small": {"megabytes": 50, "seconds": 0.001},
}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Path]]:
    """Two models whose loader is on this process' path alone."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "weighed_loader.py").write_text(LOADER)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    yield {name: model(tmp_path, name, **costs) for name, costs in COSTS.items()}
    sys.modules.pop("weighed_loader", None)


def model(path: Path, name: str, megabytes: int, seconds: float, only_in: int | None = None) -> Path:
    """A folder whose loader takes so much; `only_in` is the one process where it can be loaded."""
    folder = path / name
    folder.mkdir()
    told = {"name": name, "megabytes": megabytes, "seconds": seconds, "only_in": only_in}
    (folder / "told.json").write_text(json.dumps(told))
    (folder / WEIGHTS).write_bytes(b"w" * megabytes)
    return folder


def calls(folders: dict[str, Path]) -> list[Any]:
    lines = (folders["dense"].parent / "calls.txt").read_text().splitlines()
    return [json.loads(line) for line in lines]


def measured(folders: dict[str, Path], texts: Any = TEXTS, **how: Any) -> dict[str, Footprint]:
    return footprint(folders, texts, "weighed_loader:load", threads=1, repeats=8, **how)


def test_models_take_turns_on_the_same_texts(folders: dict[str, Path]) -> None:
    found = measured(folders, memory=False)
    made = calls(folders)
    assert [call[0] for call in made] == ["dense", "small"] * 26
    assert [call[1:] for call in made[::2]] == [call[1:] for call in made[1::2]]
    ones, many = made[:26:2], made[26::2]
    assert [call[1:3] for call in ones] == [[[text], 1] for text in TEXTS[:13]]
    assert [call[1:3] for call in many] == [[TEXTS[start : start + 16], 16] for start in [0, 16] * 7][:13]
    assert {one.memory for one in found.values()} == {None}
    assert {(one.one.repeats, one.many.repeats) for one in found.values()} == {(8, 8)}


def test_milliseconds_are_those_of_one_text_and_of_sixteen(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = importlib.import_module("weighed_loader").SPENT
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    found = measured(folders, memory=False)
    times = {name: [one.one.p50_ms, one.one.p95_ms, one.many.p50_ms, one.many.p95_ms] for name, one in found.items()}
    assert times["dense"] == pytest.approx([4, 4, 64, 64])
    assert times["small"] == pytest.approx([1, 1, 16, 16])


def test_too_few_texts_are_repeated(folders: dict[str, Path]) -> None:
    measured(folders, TEXTS[:5], memory=False)
    assert {tuple(call[1]) for call in calls(folders)[26:]} == {tuple((TEXTS[:5] * 4)[:16])}


def test_bytes_are_those_of_the_files(folders: dict[str, Path]) -> None:
    found = measured(folders, memory=False)
    told = (folders["dense"] / "told.json").stat().st_size
    assert (found["dense"].weight_bytes, found["dense"].disk_bytes) == (200, 200 + told)
    (folders["small"] / "onnx").mkdir()
    (folders["small"] / "onnx" / "model.onnx").write_bytes(b"123")
    (folders["small"] / "onnx" / "model.onnx.data").write_bytes(b"4567")
    assert weight_bytes(folders["small"]) == 57


def test_memory_is_that_of_a_process_of_its_own_for_each(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = {name: one.memory for name, one in measured(folders).items()}
    assert found["dense"] is not None
    assert found["small"] is not None
    assert found["dense"].peak_mb - found["dense"].before_mb == pytest.approx(200, abs=15)
    assert found["small"].peak_mb - found["small"].before_mb == pytest.approx(50, abs=15)
    alone = calls(folders)[52:]
    assert [call[0] for call in alone] == ["dense", "small", "small", "dense"]
    assert all(call[1:] == [TEXTS[:16], 16, "1", []] for call in alone), "one thread, and neither torch nor pytest"
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_a_process_that_fails_says_why(folders: dict[str, Path], tmp_path: Path) -> None:
    broken = model(tmp_path, "broken", 1, 0.0, only_in=os.getpid())
    with pytest.raises(RuntimeError, match=r"weighed_loader:load could not serve .*broken.*: no such weights$"):
        measured({"broken": broken})


def test_the_threads_are_put_back(folders: dict[str, Path]) -> None:
    before = torch.get_num_threads()
    footprint(folders, TEXTS, "weighed_loader:load", threads=before + 1, repeats=1, memory=False)
    assert torch.get_num_threads() == before
    with pytest.raises(ModuleNotFoundError):
        footprint(folders, TEXTS, "no_such_loader:load", threads=before + 1, repeats=1)
    assert torch.get_num_threads() == before


def test_a_text_model_is_served_in_a_process_of_its_own(tmp_path: Path) -> None:
    config = config_of(encoder={"layers": 1, "max_length": 32})
    text_build.export_model(config, *trained(config), tmp_path / "model")
    loader = "trainables.parts.text_predictor:load"
    found = footprint({"dense": tmp_path / "model"}, ["a dog", "the cat"], loader, threads=1, repeats=3)["dense"]
    assert found.weight_bytes == (tmp_path / "model" / WEIGHTS).stat().st_size < found.disk_bytes
    assert found.memory is not None
    assert 100 < found.memory.before_mb < found.memory.peak_mb < 2000
    assert np.isfinite([found.one.p50_ms, found.one.p95_ms, found.many.p50_ms]).all()
