"""Exported models in ONNX answer as the models that they come from, and need neither torch nor raysweep."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raysweep.logged_model import ONNX, PINNED, _pins
from raysweep.model_folder import seal
from tests.text_models import byte_level, moved, random_model
from trainables.parts import onnx_files, synthetic
from trainables.parts.batches import tokens_of
from trainables.parts.onnx_files import save_onnx
from trainables.parts.onnx_predictor import OnnxPredictor, session_of, softmax
from trainables.parts.quantise import Kind, QuantiseSettings
from trainables.parts.sparse_predictor import load
from trainables.parts.text_model import Shape, TextModel, start_head
from trainables.parts.text_predictor import TextPredictor, save_model

TEXTS = ["the doctor bought a car", "", "a dog", "z" * 60, "near the river the old farmer recorded a zebra"]
PAIRS = [(text, TEXTS[-place]) for place, text in enumerate(TEXTS)]
LABELS = {"task": "cola", "kind": "classification", "labels": ["bad", "fair", "good"], "max_length": 24, "stride": 0}
NUMBER = {"task": "stsb", "kind": "regression", "labels": [], "max_length": 24, "stride": 0}
CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "labels": ("bert", LABELS, TEXTS),
    "labels of pairs": ("bert", LABELS, PAIRS),
    "numbers of pairs": ("roberta", NUMBER, PAIRS),
}


def tokenizer_of(kind: str) -> Any:
    return byte_level(TEXTS) if kind == "roberta" else synthetic.tokenizer()


def model_of(kind: str, outputs: int) -> TextModel:
    encoder = random_model(kind, tokenizer_of(kind))
    encoder.pooler = None
    model = TextModel(encoder, Shape(outputs))
    start_head(model, 0, None)
    moved(model, 0.2)
    return model.eval()


def save(folder: Path, case: str, kind: Kind = "onnx") -> TextModel:
    architecture, told, texts = CASES[case]
    model = model_of(architecture, max(1, len(told["labels"])))
    save_onnx(QuantiseSettings(kind=kind), model, tokenizer_of(architecture), told, texts[:3], texts, folder)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Each case in ONNX and in torch."""
    found = {}
    for case in ("labels of pairs", "numbers of pairs"):
        place, (architecture, told, texts) = tmp_path_factory.mktemp("models"), CASES[case]
        model = save(place / "onnx", case)
        save_model(place / "torch", model, tokenizer_of(architecture), told, texts[:3])
        found[case] = (place / "onnx", place / "torch")
    return found | {"labels": found["labels of pairs"]}


@pytest.mark.parametrize("case", CASES)
def test_it_answers_as_the_model_in_torch(case: str, folders: dict[str, tuple[Path, Path]]) -> None:
    texts = CASES[case][2]
    found, wanted = (load(folder)(texts) for folder in folders[case])
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-5
    assert len(np.unique(found)) >= 5


@pytest.mark.parametrize("case", CASES)
def test_neither_order_nor_batch_size_nor_threads_matter(case: str, folders: dict[str, tuple[Path, Path]]) -> None:
    texts, (folder, _) = CASES[case][2], folders[case]
    predictor = OnnxPredictor(folder, threads=1)
    together = predictor.predict(texts)
    assert np.abs(predictor.predict(texts, 1) - together).max() < 1e-5
    assert np.abs(predictor.predict(texts[::-1], batch_size=2)[::-1] - together).max() < 1e-5
    assert np.abs(OnnxPredictor(folder, threads=2).predict(texts) - together).max() < 1e-5
    assert predictor.predict([]).shape == (0, *together.shape[1:])


def test_the_loader_takes_what_the_folder_holds(folders: dict[str, tuple[Path, Path]]) -> None:
    owners = [type(load(folder).__self__) for folder in folders["labels"]]  # type: ignore[attr-defined]
    assert owners == [OnnxPredictor, TextPredictor]


def test_it_needs_neither_torch_nor_transformers_nor_raysweep(folders: dict[str, tuple[Path, Path]]) -> None:
    folder = folders["labels of pairs"][0]
    code = f"""
import json, sys
sys.modules["raysweep"] = None
from trainables.parts.sparse_predictor import load
print(json.dumps(load({str(folder)!r})({PAIRS!r}).tolist()))
heavy = ("torch", "transformers", "onnx", "ray", "optuna", "mlflow", "wandb", "pydantic_core")
print([name for name in sys.modules if name in heavy])
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outputs, modules = printed.stdout.splitlines()
    assert np.abs(np.array(json.loads(outputs)) - load(folder)(PAIRS)).max() < 1e-6
    assert modules == "[]"
    assert printed.stderr == ""


def test_a_folder_says_what_it_is_and_can_be_registered(folders: dict[str, tuple[Path, Path]]) -> None:
    folder, plain = folders["labels of pairs"]
    told = json.loads((folder / "model.json").read_text())
    assert told.items() >= LABELS.items()
    assert (told["quantised"], told["kernel"]) == ("onnx", "ONNX Runtime, dense float32")
    verify = json.loads((folder / "verify.json").read_text())
    assert verify["texts"] == [list(pair) for pair in PAIRS[:3]]
    assert np.abs(np.array(verify["outputs"]) - load(folder)(PAIRS[:3])).max() < 1e-7
    sealed = seal(folder, "trainables.parts.sparse_predictor:load")
    assert sealed.size == (folder / "model.onnx").stat().st_size
    pinned, others = _pins(sealed), _pins(seal(plain, "trainables.parts.sparse_predictor:load"))
    assert [pin for pin in pinned if pin not in others] == [f"{ONNX}=={session_version()}"]
    assert {pin.partition("==")[0] for pin in others} <= set(PINNED)


def session_version() -> str:
    import onnxruntime

    version: str = onnxruntime.__version__
    return version


def test_calibration_sees_as_many_training_texts_as_are_asked_for() -> None:
    model, tokenizer = model_of("bert", 2), synthetic.tokenizer()
    texts = [f"the dog {number}" for number in range(50)]

    def seen(rows: int) -> list[list[int]]:
        settings = QuantiseSettings(kind="static_int8", calibration_rows=rows)
        found = onnx_files.calibration_feeds(settings, model, tokenizer, texts, 16)
        return [one["input_ids"][0].tolist() for one in found]

    every = [tokens_of(tokenizer, [text], 16).ids.tolist() for text in texts]
    assert sorted(seen(100)) == sorted(every)
    few = seen(7)
    assert len(few) == 7
    assert all(one in every for one in few)
    assert few == seen(7)
    assert few != every[:7]


@pytest.mark.parametrize("step", ["export_onnx", "quantise", "write_json"])
def test_a_writer_that_is_killed_leaves_the_old_model(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise MemoryError

    def written(model: TextModel, file: Path) -> None:
        file.write_bytes(b"")

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.json").write_text("{}")
    monkeypatch.setattr(onnx_files, "export_onnx", written)
    monkeypatch.setattr(onnx_files, step, killed)
    with pytest.raises(MemoryError):
        save(tmp_path / "model", "labels")
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["old.json"]


def test_other_devices_are_refused(folders: dict[str, tuple[Path, Path]]) -> None:
    with pytest.raises(ValueError, match="expected device cpu, found cuda"):
        OnnxPredictor(folders["labels"][0], "cuda")


def test_a_session_takes_the_threads_that_it_is_given(
    folders: dict[str, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folders["labels"][0] / "model.onnx"

    def threads(asked: int | None) -> int:
        count: int = session_of(file, asked).get_session_options().intra_op_num_threads
        return count

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [threads(2), threads(None)] == [2, 3]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads(None) == 0  # as many as there are cores


@given(arrays(np.float32, (3, 4), elements=st.floats(-1e4, 1e4, width=32)))
def test_chances_are_those_of_torch(logits: np.ndarray) -> None:
    torch.testing.assert_close(torch.from_numpy(softmax(logits)), torch.from_numpy(logits).softmax(1))


def test_a_file_is_one_file_of_plain_operators(folders: dict[str, tuple[Path, Path]]) -> None:
    model = onnx.load(folders["labels"][0] / "model.onnx", load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert {part.domain for part in model.opset_import} <= {""}
    assert not model.functions
