"""Exported multi-task models: what is loaded gives what was trained, and needs neither raysweep nor the recipe."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.multitask_models import OTHERS, PAIRS, TEXTS, config_of, encoder_of, trained, vectors_alone
from trainables.parts.encoders import Encoder
from trainables.parts.multitask import build
from trainables.parts.multitask.model import MultitaskModel
from trainables.parts.multitask.predictor import MultitaskPredictor, load

PROJECTED = {"projection": 8, "activation": "gelu", "residual": True, "layer_norm": True}
POOLINGS: dict[str, dict[str, Any]] = {
    "mean": {},
    "cls": {"kind": "cls", "layer_norm": True},
    "max, projected": {"kind": "max", "projection": 8},
    "side by side": {"kind": "cls+mean", "combine": "concat"},
    "side by side, projected": {"kind": "cls+mean", **PROJECTED},
    "residual of one width": {"projection": 64, "residual": True, "activation": "tanh"},
    "sum": {"kind": "cls+mean", "combine": "sum", "layer_norm": True},
    "average": {"kind": "cls+mean", "combine": "average", "projection": 8},
    "gated": {"kind": "cls+mean", "combine": "gated", **PROJECTED},
}
WIDTHS = {"mood": (2,), "topic": (3,), "sense": (3,), "rating": (), "likeness": (), "degree": ()}
BESIDE = ("sum", "average", "gated")  # which sentence-transformers has no module for


def exported(folder: Path, *names: str, **groups: Any) -> tuple[MultitaskModel, Encoder, dict[str, Any]]:
    """As it was trained, and written; with its card."""
    config = config_of(*names, **groups)
    model, encoder = trained(config)
    one = any(not shape.pairs for shape in model.tasks.values())
    card = build.export_model(config, model, encoder, folder, TEXTS if one else PAIRS)
    return model, encoder, card


@torch.no_grad()
def wanted(model: MultitaskModel, encoder: Encoder, task: str) -> np.ndarray:
    """What the trained model says of each text, or pair, by itself."""
    sides = [TEXTS, OTHERS] if model.tasks[task].pairs else [TEXTS]
    logits = model.answer(task, *(vectors_alone(model, encoder, task, side) for side in sides)).double().numpy()
    match model.tasks[task].loss:
        case "cross_entropy":
            return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        case "binary":
            chance = 1 / (1 + np.exp(-logits))
            return np.concatenate([1 - chance, chance], axis=1)
        case _:
            return logits[:, 0]


@pytest.mark.parametrize(("pooling", "sharing"), [*((name, "hard") for name in POOLINGS), ("gated", "none")])
def test_the_loaded_model_gives_what_was_trained(pooling: str, sharing: Any, tmp_path: Path) -> None:
    model, encoder, _ = exported(tmp_path / "model", pooling=POOLINGS[pooling], sharing=sharing)
    before = torch.get_rng_state()
    predictor = MultitaskPredictor(tmp_path / "model")
    for task, shape in model.tasks.items():
        texts: Any = PAIRS if shape.pairs else TEXTS
        vectors, alone = predictor.encode(TEXTS, task, 1), vectors_alone(model, encoder, task, TEXTS).numpy()
        assert np.abs(vectors - alone).max() < 1e-6
        found, expected = predictor.predict(task, texts, 1), wanted(model, encoder, task)
        assert found.dtype == np.float32
        assert found.shape == expected.shape == (5, *WIDTHS[task])
        assert np.abs(found - expected).max() < 1e-6
        assert len(np.unique(expected.round(5))) >= 5
        assert np.abs(predictor.predict(task, texts) - expected).max() < 1e-5
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert", "electra"])
def test_encoders_of_every_kind_come_back(kind: str, tmp_path: Path) -> None:
    source = {"name": encoder_of(tmp_path / "encoder", kind), "max_length": 24}
    model, encoder, card = exported(tmp_path / "model", "topic", "degree", encoder=source, pooling={"projection": 8})
    predictor = MultitaskPredictor(tmp_path / "model")
    assert np.abs(predictor.predict("topic", TEXTS) - wanted(model, encoder, "topic")).max() < 1e-5
    assert np.abs(predictor.predict("degree", PAIRS) - wanted(model, encoder, "degree")).max() < 1e-5
    assert card["sentence_transformer"]
    same_as_sentence_transformers(tmp_path / "model")


@pytest.mark.parametrize("pooling", [name for name in POOLINGS if name not in BESIDE])
def test_sentence_transformers_gives_the_same_vectors(pooling: str, tmp_path: Path) -> None:
    _, _, card = exported(tmp_path / "model", "topic", "likeness", pooling=POOLINGS[pooling])
    assert card["sentence_transformer"]
    same_as_sentence_transformers(tmp_path / "model")


def same_as_sentence_transformers(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    vectors = theirs.encode(TEXTS)
    assert np.abs(vectors - MultitaskPredictor(folder).encode(TEXTS)).max() < 5e-6
    cosine = torch.nn.functional.cosine_similarity(*map(torch.from_numpy, (vectors[:1], vectors[1:2])))
    assert theirs.similarity(vectors[:1], vectors[1:2]).item() == pytest.approx(cosine.item(), abs=1e-6)


@pytest.mark.parametrize(("pooling", "sharing"), [*((name, "hard") for name in BESIDE), ("mean", "none")])
def test_sentence_transformers_does_not_load_what_it_has_no_form_for(
    pooling: str, sharing: Any, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    _, _, card = exported(tmp_path / "model", "topic", pooling=POOLINGS[pooling], sharing=sharing)
    assert not card["sentence_transformer"]
    with pytest.raises((OSError, ValueError)):
        SentenceTransformer(str(tmp_path / "model"), device="cpu", local_files_only=True)


def test_tasks_of_one_text_are_served_side_by_side(tmp_path: Path) -> None:
    model, encoder, _ = exported(tmp_path / "model", "mood", "likeness", "topic", "rating", "sense", sharing="none")
    parts = [wanted(model, encoder, task).reshape(5, -1) for task in ("mood", "topic", "rating")]
    outputs = load(tmp_path / "model")(TEXTS)
    assert outputs.shape == (5, 6)
    assert np.abs(outputs - np.concatenate(parts, axis=1)).max() < 1e-5
    assert MultitaskPredictor(tmp_path / "model").columns == [
        "mood.negative", "mood.positive", "topic.a", "topic.b", "topic.c", "rating",
    ]  # fmt: skip


def test_tasks_of_pairs_are_served_where_there_are_no_others(tmp_path: Path) -> None:
    model, encoder, _ = exported(tmp_path / "model", "likeness", "sense")
    parts = [wanted(model, encoder, task).reshape(5, -1) for task in ("likeness", "sense")]
    outputs = load(tmp_path / "model")(PAIRS)
    assert np.abs(outputs - np.concatenate(parts, axis=1)).max() < 1e-5
    assert np.array_equal(load(tmp_path / "model")([list(pair) for pair in PAIRS]), outputs)  # type: ignore[arg-type]
    columns = ["likeness", "sense.entailment", "sense.neutral", "sense.contradiction"]
    assert MultitaskPredictor(tmp_path / "model").columns == columns


def test_a_shared_encoder_reads_a_text_once_for_all_tasks(tmp_path: Path) -> None:
    for sharing, times in (("hard", 1), ("none", 3)):
        exported(tmp_path / sharing, "mood", "topic", "rating", sharing=sharing)
        predictor, seen = MultitaskPredictor(tmp_path / sharing), []
        for tower in predictor.model.towers.values():
            tower.encoder.register_forward_hook(lambda *_, seen=seen: seen.append(1))  # type: ignore[union-attr, misc]
        predictor.answers(TEXTS)
        assert len(seen) == times


def test_neither_order_nor_batch_size_matters(tmp_path: Path) -> None:
    exported(tmp_path / "model", pooling=POOLINGS["gated"])
    predictor = MultitaskPredictor(tmp_path / "model")
    for task, told in predictor.tasks.items():
        texts: Any = PAIRS if told["pairs"] else TEXTS
        together = predictor.predict(task, texts)
        assert np.abs(predictor.predict(task, texts, 1) - together).max() < 1e-5
        assert np.abs(predictor.predict(task, texts[::-1], 2)[::-1] - together).max() < 1e-5
        assert predictor.predict(task, []).shape == (0, *together.shape[1:])
    assert predictor.answers([]).shape == (0, 6)
    assert predictor.encode([]).shape == (0, 8)
    many = predictor.predict("degree", PAIRS * 1000)  # more than the features of which are made at a time
    assert np.abs(many.reshape(1000, 5) - predictor.predict("degree", PAIRS)).max() < 1e-5


def test_mistakes_are_said_in_words(tmp_path: Path) -> None:
    exported(tmp_path / "own", "mood", "sense", sharing="none")
    exported(tmp_path / "alone", "mood", sharing="none")
    own, alone = MultitaskPredictor(tmp_path / "own"), MultitaskPredictor(tmp_path / "alone")
    assert np.array_equal(alone.encode(TEXTS), alone.encode(TEXTS, "mood"))
    assert not np.allclose(own.encode(TEXTS, "mood"), own.encode(TEXTS, "sense"), atol=0.01)
    with pytest.raises(ValueError, match="each task has an encoder of its own here: name one of mood, sense"):
        own.encode(TEXTS)
    with pytest.raises(ValueError, match="there is no task 'modo' here: name one of mood, sense"):
        own.predict("modo", TEXTS)
    with pytest.raises(ValueError, match="there is no task 'topic' here: name one of mood"):
        alone.encode(TEXTS, "topic")
    with pytest.raises(ValueError, match=r"task mood takes a list of texts, not \[\('the doctor bought a car', 'a car"):
        own.predict("mood", PAIRS)
    wrong: list[Any] = ["a dog", TEXTS, [("a", "b", "c")], [("a", 1)]]
    for texts in wrong:
        with pytest.raises(ValueError, match="task sense takes a list of"):
            own.predict("sense", texts)
    with pytest.raises(ValueError, match="an encoder takes a list of texts, not 'a dog'"):
        alone.encode("a dog")


def test_verify_json_holds_what_is_served(tmp_path: Path) -> None:
    model, encoder, _ = exported(tmp_path / "texts", "rating", "degree", "mood")
    exported(tmp_path / "pairs", "degree", "sense")
    told = json.loads((tmp_path / "texts" / "verify.json").read_text())
    parts = [wanted(model, encoder, task).reshape(5, -1) for task in ("rating", "mood")]
    assert told["texts"] == TEXTS
    assert np.abs(np.array(told["outputs"]) - np.concatenate(parts, axis=1)).max() < 1e-5
    told = json.loads((tmp_path / "pairs" / "verify.json").read_text())
    assert told["texts"] == [list(pair) for pair in PAIRS]
    assert np.shape(told["outputs"]) == (5, 4)


def test_what_is_served_is_timed_from_texts_to_answers() -> None:
    for tasks in (("mood", "likeness"), ("likeness",)):
        config = config_of(*tasks, sharing="none")
        model, encoder = trained(config)
        costs = build.served_costs(config, model, encoder, threads=1)
        assert costs["size.disk_bytes"] > build.sized(model)["size.bytes"]
        assert 0 < costs["latency.p50_ms"] <= costs["latency.p95_ms"]
        assert costs["latency.batch16_ms"] > 0


def test_the_sample_is_of_what_is_served() -> None:
    texts, pairs = build.sample(config_of("likeness", "mood")), build.sample(config_of("sense", "degree"))
    assert len(texts) == len(pairs) == 8
    assert all(isinstance(text, str) for text in texts)
    assert all(len(pair) == 2 for pair in pairs)


def test_the_card_says_what_the_model_is(tmp_path: Path) -> None:
    model, _, card = exported(tmp_path / "model", "mood", "likeness", pooling=PROJECTED)
    files = [file for file in (tmp_path / "model").rglob("*") if file.is_file()]
    weights = [load_file(file) for file in files if file.suffix == ".safetensors"]
    assert sum(values.size for part in weights for values in part.values()) == card["parameters"]
    assert card == {
        "max_length": 32,
        "tasks": {
            "mood": {"kind": "classification", "loss": "binary", "labels": ["negative", "positive"], "pairs": False},
            "likeness": {"kind": "regression", "loss": "cosine", "labels": [], "pairs": True},
        },
        "columns": ["mood.negative", "mood.positive"],
        "sharing": "hard",
        "learned": "everything",
        "dimensions": 8,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "encoder_parameters": sum(weight.numel() for weight in model.tower("mood").encoder.parameters()),
        "bytes": sum(file.stat().st_size for file in files),
        "weight_bytes": sum(file.stat().st_size for file in files if file.suffix == ".safetensors"),
        "sentence_transformer": True,
    }
    assert {file.suffix for file in files} == {".safetensors", ".json"}


def test_a_model_without_heads_is_an_embedder(tmp_path: Path) -> None:
    model, encoder, card = exported(tmp_path / "model", "likeness")
    assert card["encoder_parameters"] == card["parameters"]
    assert np.abs(load(tmp_path / "model")(PAIRS)[:, 0] - wanted(model, encoder, "likeness")).max() < 1e-5
    same_as_sentence_transformers(tmp_path / "model")


def test_a_second_export_replaces_the_first_whole(tmp_path: Path) -> None:
    exported(tmp_path / "model", "mood", pooling=PROJECTED)
    exported(tmp_path / "model", "topic", sharing="none")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    names = {str(file.relative_to(tmp_path / "model")) for file in (tmp_path / "model").rglob("*.safetensors")}
    assert names == {"model.safetensors"}
    assert not (tmp_path / "model" / "modules.json").exists()


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    exported(tmp_path / "model", "mood", "topic")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    save_file({name: values for name, values in weights.items() if name != "heads.mood.classifier.bias"}, file)
    with pytest.raises(RuntimeError, match=r"heads\.mood\.classifier\.bias"):
        load(tmp_path / "model")


def test_it_needs_neither_recipe_nor_engine(tmp_path: Path) -> None:
    exported(tmp_path / "hard", pooling=POOLINGS["gated"])
    exported(tmp_path / "none", "sense", "degree", sharing="none")
    code = f"""
import json, sys
sys.modules["raysweep"] = None
from trainables.parts.multitask.predictor import MultitaskPredictor, load
given = {{"hard": {TEXTS!r}, "none": {PAIRS!r}}}
print(json.dumps([load(f"{tmp_path}/{{name}}")(texts).tolist() for name, texts in given.items()]))
print(MultitaskPredictor("{tmp_path}/hard").encode(["a dog"]).shape)
print([name for name in sys.modules if name.partition(".")[0] in ("ray", "optuna", "mlflow", "wandb", "pydantic_core")])
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outputs, shape, modules = printed.stdout.splitlines()
    for found, name, texts in zip(json.loads(outputs), ("hard", "none"), (TEXTS, PAIRS), strict=True):
        assert np.abs(np.array(found) - load(tmp_path / name)(texts)).max() < 1e-6
    assert (shape, modules, printed.stderr) == ("(1, 8)", "[]", "")
