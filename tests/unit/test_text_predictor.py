"""Exported text models: what is loaded gives what was trained, whatever the model is, and needs no raysweep."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.task_folders import folder_of, write_jsonl
from tests.text_models import config_of, logits_alone, opinions, trained, trial_of
from trainables import dendritic_bert
from trainables.parts import text_build
from trainables.parts.answers import best_answers
from trainables.parts.batches import tokens_of
from trainables.parts.dendrites.layer import dendritic_layers
from trainables.parts.encoders import Encoder
from trainables.parts.model_files import written_beside
from trainables.parts.spans import windows
from trainables.parts.task_data import read_examples
from trainables.parts.tasks import TASKS
from trainables.parts.text_model import TextModel
from trainables.parts.text_predictor import NONE, TextPredictor, load, save_model
from trainables.parts.word_tables import table_structure

TEXTS = ["the doctor bought a car", "", "a dog", "z" * 60, "near the river the old farmer recorded a zebra"]
PAIRS = [(text, TEXTS[-place]) for place, text in enumerate(TEXTS)]
LONG = "the doctor sold a boat . " * 8
QUESTIONS = [
    ("what was sold ?", "near the river the nurse sold a red car ."),
    ("who bought a clock ?", f"{LONG}the singer bought a clock . {LONG}"),
    ("where was it ?", "\n  "),
    ("who ?", ""),
]
DENDRITES = {"enabled": True, "target": "all_linear"}
CASES: dict[str, dict[str, Any]] = {
    "no layers": {"encoder": {"layers": 0}},
    "no layers, mean+max": {"encoder": {"layers": 0}, "model": {"pooling": "mean+max", "hidden": 8}},
    "dendrites everywhere": {"encoder": {"layers": 1}, "model": {"hidden": 8}, "dendrites": DENDRITES},
    "dendrites and pooler": {"model": {"pooler": True, "pooling": "cls"}, "dendrites": DENDRITES},
    "factorised": {"encoder": {"layers": 0}, "embedding": {"kind": "factorised", "rank": 8}},
    "pruned": {"encoder": {"layers": 0}, "embedding": {"kind": "pruned", "rows": 200}},
    "pruned and factorised": {"embedding": {"kind": "pruned", "rank": 8}},
    "tied": {"encoder": {"layers": 0}, "embedding": {"kind": "tied", "rows": 100}},
    "tied and factorised": {"embedding": {"kind": "tied", "rows": 100, "rank": 8}},
    "number": {"data": {"task": "regression"}, "encoder": {"layers": 1}},
    "number of a pair": {"data": {"task": "stsb"}, "encoder": {"layers": 0}},
    "label of a pair": {"data": {"task": "mnli"}, "encoder": {"layers": 1}, "dendrites": DENDRITES},
    "answers": {"data": {"task": "squad"}, "encoder": {"layers": 1}, "dendrites": DENDRITES},
    "answers without layers": {"data": {"task": "squad"}, "encoder": {"layers": 0}, "model": {"hidden": 8}},
    "answers, pruned": {"data": {"task": "squad"}, "encoder": {"layers": 1}, "embedding": {"kind": "pruned"}},
}
cases = pytest.mark.parametrize("case", CASES)


def configured(case: str) -> Any:
    groups = CASES[case]
    groups = {**groups, "encoder": {"max_length": 32, **groups.get("encoder", {})}, "spans": {"stride": 8}}
    return config_of(**groups)


def exported(case: str, folder: Path) -> tuple[Any, TextModel, Encoder]:
    """As it was trained, and written."""
    config = configured(case)
    model, encoder = trained(config, 2 if config.dendrites.enabled else 0)
    text_build.export_model(config, model, encoder, folder)
    return config, model, encoder


def texts_of(config: Any) -> Any:
    task = TASKS[config.data.task]
    return QUESTIONS if task.kind == "span" else PAIRS if len(task.texts) == 2 else TEXTS


def expected(config: Any, model: TextModel, encoder: Encoder, texts: Any) -> np.ndarray:
    """What the trained model says of each text by itself."""
    kind = TASKS[config.data.task].kind
    if kind != "span":
        logits = logits_alone(model, tokens_of(encoder.tokenizer, texts, 32))
        return (logits[:, 0] if kind == "regression" else logits.softmax(1)).numpy()
    parts = windows(encoder.tokenizer, *zip(*texts, strict=True), None, 32, 8)
    logits = logits_alone(model, parts.tokens).numpy()
    found = best_answers(logits[:, 0], logits[:, 1], parts, len(texts))
    return np.array([[one.first_char, one.last_char_exclusive, max(one.score, NONE)] for one in found])


@cases
def test_the_loaded_model_gives_what_was_trained(case: str, tmp_path: Path) -> None:
    config, model, encoder = exported(case, tmp_path / "model")
    texts, before = texts_of(config), torch.get_rng_state()
    outputs, wanted = load(tmp_path / "model")(texts), expected(config, model, encoder, texts)
    assert torch.equal(torch.get_rng_state(), before)
    assert outputs.dtype == np.float32
    assert outputs.shape == wanted.shape
    assert np.abs(outputs - wanted).max() < 1e-6 * max(1, np.abs(wanted[np.abs(wanted) < 1e6]).max())
    assert len(np.unique(outputs)) >= 5


@cases
def test_neither_order_nor_batch_size_nor_the_kind_of_pairs_matters(case: str, tmp_path: Path) -> None:
    config, _, _ = exported(case, tmp_path / "model")
    predictor, texts = TextPredictor(tmp_path / "model"), texts_of(config)
    together = predictor.predict(texts)
    assert np.abs(predictor.predict(texts, 1) - together).max() < 1e-5
    assert np.abs(predictor.predict(texts[::-1], 2)[::-1] - together).max() < 1e-5
    as_lists = [text if isinstance(text, str) else list(text) for text in texts]
    assert np.array_equal(predictor.predict(as_lists), together)
    assert predictor.predict([]).shape == (0, *together.shape[1:])


def test_structures_are_those_of_the_files(tmp_path: Path) -> None:
    for case in ("dendrites everywhere", "tied and factorised", "pruned"):
        _, model, encoder = exported(case, tmp_path / case)
        loaded: Any = TextPredictor(tmp_path / case)
        assert loaded.model.shape == model.shape
        assert [len(layer.dendrites) for layer in dendritic_layers(loaded.model).values()] == [2] * (
            8 if case == "dendrites everywhere" else 0
        )
        assert loaded.tokenizer.get_vocab() == encoder.tokenizer.get_vocab()
        tables = [one.encoder.get_input_embeddings() for one in (loaded.model, model)]
        assert table_structure(tables[0]) == table_structure(tables[1])
    assert len(loaded.tokenizer) == 200


def test_answers_lie_inside_their_contexts(tmp_path: Path) -> None:
    exported("answers", tmp_path / "model")
    outputs = load(tmp_path / "model")(QUESTIONS * 3)
    assert outputs.shape == (12, 3)
    for (_, context), (first, end, score) in zip(QUESTIONS * 3, outputs.tolist(), strict=True):
        answer = context[int(first) : int(end)]
        assert 0 <= first <= end <= len(context)
        assert (answer == "") == (score == NONE) == (not context.strip())
        assert answer == answer.strip()
    assert load(tmp_path / "model")([]).shape == (0, 3)


def test_an_answer_is_found_in_any_window(tmp_path: Path) -> None:
    config, model, encoder = exported("answers without layers", tmp_path / "model")
    clock = encoder.tokenizer.convert_tokens_to_ids("clock")
    with torch.no_grad():  # the word's vector, and it alone, says that an answer begins and ends with it
        model.encoder.get_input_embeddings().weight[clock] = 50 * torch.eye(64)[7]  # type: ignore[operator]
        model.head.hidden.weight.zero_()[0, 7] = 1.0  # type: ignore[union-attr]
        model.head.classifier.weight.zero_()[:, 0] = 5.0
    text_build.export_model(config, model, encoder, tmp_path / "model")
    contexts = [LONG * before + "a clock was here . " + LONG * (3 - before) for before in range(4)]
    outputs = load(tmp_path / "model")([("what was here ?", context) for context in contexts])
    found = [context[int(first) : int(end)] for context, (first, end, _) in zip(contexts, outputs, strict=True)]
    assert found == ["clock"] * 4


def test_verify_json_holds_the_answers_of_the_trained_model(tmp_path: Path) -> None:
    for case in ("label of a pair", "number", "answers"):
        config, model, encoder = exported(case, tmp_path / case)
        told = json.loads((tmp_path / case / "verify.json").read_text())
        texts = read_examples(config.data, "select").texts[:8]
        assert told["texts"] == [text if isinstance(text, str) else list(text) for text in texts]
        assert np.abs(np.array(told["outputs"]) - expected(config, model, encoder, texts)).max() < 1e-5


def read_told(folder: Path) -> dict[str, Any]:
    told = json.loads((folder / "model.json").read_text())
    return {name: told[name] for name in ("kind", "labels", "max_length", "stride")}


def test_it_needs_neither_recipe_nor_engine(tmp_path: Path) -> None:
    names = ["dendrites everywhere", "pruned", "tied and factorised", "answers"]
    wanted = []
    for name in names:
        config, _, _ = exported(name, tmp_path / name)
        wanted.append(load(tmp_path / name)(texts_of(config)).tolist())
    code = f"""
import json, sys
sys.modules["raysweep"] = None
from trainables.parts.text_predictor import load
texts = {[texts_of(configured(name)) for name in names]!r}
print(json.dumps([load(f"{tmp_path}/{{name}}")(given).tolist() for name, given in zip({names!r}, texts)]))
print([name for name in sys.modules if name.partition(".")[0] in ("ray", "optuna", "mlflow", "wandb", "pydantic_core")])
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outputs, modules = printed.stdout.splitlines()
    for found, given in zip(json.loads(outputs), wanted, strict=True):
        assert np.abs(np.array(found) - np.array(given)).max() < 1e-6
    assert modules == "[]"
    assert printed.stderr == ""


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def write_half(folder: Path) -> None:
    with written_beside(folder) as beside:
        (beside / "file").write_text("new")
        raise KeyboardInterrupt


def test_what_ends_half_way_leaves_the_old_folder_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with written_beside(folder) as beside:
        (beside / "inner").mkdir()
        (beside / "inner" / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_half(folder)
    assert content(folder) == {"inner/file": b"old"}
    with written_beside(folder) as beside:
        assert content(beside) == {}
        (beside / "file").write_text("newer")
    assert content(folder) == {"file": b"newer"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("step", ["config.json", "weights", "verify.json"])
def test_a_writer_that_is_killed_leaves_no_half_model(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model, encoder = exported("no layers", tmp_path / "model")
    before, told = content(tmp_path / "model"), read_told(tmp_path / "model")

    def killed(*_: Any, **__: Any) -> None:
        raise MemoryError

    target = {
        "config.json": "transformers.PreTrainedConfig.save_pretrained",
        "weights": "trainables.parts.packed_weights.save_file",
        "verify.json": "trainables.parts.text_predictor.TextPredictor.predict",
    }[step]
    with monkeypatch.context() as patched:
        patched.setattr(target, killed)
        for name in ("model", "fresh"):
            with pytest.raises(MemoryError):
                save_model(tmp_path / name, model, encoder.tokenizer, told, TEXTS)
    assert content(tmp_path / "model") == before
    assert not (tmp_path / "fresh").exists()
    save_model(tmp_path / "fresh", model, encoder.tokenizer, told, TEXTS)
    assert content(tmp_path / "fresh").keys() == before.keys()


def test_a_second_export_replaces_the_first_whole(tmp_path: Path) -> None:
    exported("tied", tmp_path / "model")
    (tmp_path / "model" / "left.json").write_text("{}")
    exported("no layers", tmp_path / "model")
    assert {Path(name).suffix for name in content(tmp_path / "model")} == {".safetensors", ".json"}
    assert "left.json" not in content(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("task", ["cola", "mrpc", "mnli", "qnli", "wnli"])
def test_labels_are_told_in_the_order_of_their_chances(task: Any, tmp_path: Path) -> None:
    config = config_of(data={"task": task}, encoder={"layers": 0})
    model, encoder = trained(config)
    card = text_build.export_model(config, model, encoder, tmp_path / "model")
    predictor = TextPredictor(tmp_path / "model")
    assert card["labels"] == predictor.labels == list(TASKS[task].labels)
    texts = PAIRS if len(TASKS[task].texts) == 2 else TEXTS
    outputs = predictor.predict(texts)
    assert outputs.shape == (5, len(TASKS[task].labels))
    assert outputs.sum(1) == pytest.approx(1)


@pytest.mark.parametrize("names", [("negative", "positive"), ("positive", "negative")])
def test_the_second_chance_is_that_of_the_second_label_however_a_source_numbers_them(
    names: tuple[str, str], tmp_path: Path
) -> None:
    positive = names.index("positive")
    rows = [row | {"label": positive if row["label"] else 1 - positive} for row in opinions(80)]
    source = folder_of(tmp_path / "data", write_jsonl, train=rows[:60], validation=rows[60:])
    config = config_of(
        data={"source": source, "labels": names, "select_share": 0.2},
        encoder={"layers": 0},
        train={"epochs": 4, "lr": 0.05, "batch_size": 8},
    )
    trial = trial_of(tmp_path, config)
    *_, last = dendritic_bert.train(trial)
    dendritic_bert.export(trial, last.state(), tmp_path / "model")
    predictor = TextPredictor(tmp_path / "model")
    assert predictor.labels == ["negative", "positive"]
    assert (predictor.predict(["the young cat 1", "the old cat 1"])[:, 1] > 0.5).tolist() == [True, False]


def test_labels_of_data_of_ones_own_are_those_that_were_given(tmp_path: Path) -> None:
    rows = [{"text": row["sentence"], "label": row["label"] + 1} for row in opinions(40)]
    rows[0] = rows[0] | {"label": 0}
    source = folder_of(tmp_path / "data", write_jsonl, train=rows, validation=rows[:4], test=rows[:4])
    data = {"task": "classification", "source": source, "labels": ["other", "old", "young"]}
    config = config_of(data=data, encoder={"layers": 0})
    model, encoder = trained(config)
    text_build.export_model(config, model, encoder, tmp_path / "model")
    assert TextPredictor(tmp_path / "model").labels == ["other", "old", "young"]
    assert load(tmp_path / "model")(["a dog"]).shape == (1, 3)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    exported("no layers", tmp_path / "model")
    told = json.loads((tmp_path / "model" / "model.json").read_text())
    told["shape"]["outputs"] = 3
    (tmp_path / "model" / "model.json").write_text(json.dumps(told))
    with pytest.raises(RuntimeError, match="size mismatch"):
        load(tmp_path / "model")
