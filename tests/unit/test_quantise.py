"""Quantised models: how far they are from float32, how large they are, and what computes them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from tests.pruned_models import text_model
from trainables.parts.batches import Tokenised
from trainables.parts.onnx_form import export_onnx, input_names
from trainables.parts.onnx_predictor import Feed, feed, session_of
from trainables.parts.packed import pack
from trainables.parts.quantise import Kind, QuantiseSettings, check, int8_operators, kernel, quantise
from trainables.parts.silence import silenced

KINDS: list[Kind] = ["onnx", "dynamic_int8", "static_int8", "weights_int8", "fp16"]
# Root mean square of the difference to float32's logits, as a share of their standard deviation.
ERRORS = {"onnx": 1e-5, "dynamic_int8": 0.15, "static_int8": 0.2, "weights_int8": 0.15, "fp16": 0.005}
SHARES = {"onnx": (0.99, 1.01), "dynamic_int8": (0.25, 0.3), "static_int8": (0.25, 0.3), "weights_int8": (0.25, 0.3)}
SHARES |= {"fp16": (0.5, 0.55)}
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "vocab_size": 4000}


def texts(count: int, seed: int) -> Tokenised:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 20, count)
    return Tokenised(rng.integers(5, 4000, lengths.sum()), np.cumsum(lengths) - lengths, lengths, 0, None)


MODELS: dict[str, Any] = {
    kind: text_model(kind, **SIZES, **{inner: 192})
    for kind, inner in {"bert": "intermediate_size", "gpt2": "n_inner"}.items()
}
MODELS["bert"].encoder.pooler = None  # as the recipe has it


def feeds(architecture: str, tokens: Tokenised) -> list[Feed]:
    """Each text alone."""
    names = input_names(MODELS[architecture].encoder)
    return [feed(names, tokens, np.array([row]), 0) for row in range(len(tokens))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models in every kind: ARCHITECTURE-KIND.onnx."""
    folder = tmp_path_factory.mktemp("quantised")
    for architecture, model in MODELS.items():
        export_onnx(model, folder / f"{architecture}.onnx")
        for kind in KINDS:
            given = feeds(architecture, texts(32, 1))
            quantise(kind, folder / f"{architecture}.onnx", folder / f"{architecture}-{kind}.onnx", given)
    return folder


def logits(file: Path, architecture: str, tokens: Tokenised, size: int = 1) -> np.ndarray:
    """[N, K], `size` texts at a time."""
    session, names = session_of(file, 1), input_names(MODELS[architecture].encoder)
    batches = [np.arange(start, min(start + size, len(tokens))) for start in range(0, len(tokens), size)]
    return np.concatenate([session.run(None, feed(names, tokens, rows, 0))[0] for rows in batches])


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_nearly_those_of_float32(architecture: str, kind: Kind, folder: Path) -> None:
    tokens = texts(24, 2)
    with torch.no_grad():
        wanted = MODELS[architecture](pack(tokens, np.arange(24))).numpy()
    found = logits(folder / f"{architecture}-{kind}.onnx", architecture, tokens)
    assert found.dtype == np.float32
    error = np.sqrt(np.square(found - wanted).mean()) / wanted.std(0).mean()
    assert error < ERRORS[kind]
    assert kind == "onnx" or error > 1e-5  # it is quantised indeed


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_files_are_as_small_as_their_numbers(architecture: str, kind: Kind, folder: Path) -> None:
    whole = 4 * sum(weight.numel() for weight in MODELS[architecture].parameters())
    low, high = SHARES[kind]
    graph = onnx.load(folder / f"{architecture}-{kind}.onnx").graph
    assert low < sum(numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer) / whole < high
    assert (folder / f"{architecture}-{kind}.onnx").stat().st_size < high * whole + 100_000  # of nodes and names


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("kind", ["onnx", "static_int8", "weights_int8"])
def test_a_text_is_answered_alike_whatever_is_beside_it(architecture: str, kind: Kind, folder: Path) -> None:
    tokens, file = texts(24, 3), folder / f"{architecture}-{kind}.onnx"
    alone = logits(file, architecture, tokens)
    assert len(set(tokens.lengths.tolist())) > 5
    assert np.abs(logits(file, architecture, tokens, 8) - alone).max() < 1e-5


def test_with_dynamic_scales_it_is_not(folder: Path) -> None:
    tokens, file = texts(24, 3), folder / "bert-dynamic_int8.onnx"
    alone, together = (logits(file, "bert", tokens, size) for size in (1, 8))
    assert 1e-4 < np.abs(alone - together).max() < 0.3 * alone.std(0).mean()


def operators_that_run(file: Path, place: Path) -> list[str]:
    """The types of operators behind ONNX Runtime's own optimisation."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(place), 3
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(place).graph.node]


# Of each of two layers: query, key, value, what joins them, and two matrices of the feed-forward layer; the classifier.
@pytest.mark.parametrize(
    ("kind", "stored", "runs", "count"),
    [
        ("dynamic_int8", {"MatMulInteger": 13, "Gather": 3}, ("MatMulIntegerToFloat", "DynamicQuantizeMatMul"), 13),
        ("static_int8", {"MatMul": 12, "Gemm": 1, "Gather": 3}, ("MatMulIntegerToFloat", "QGemm"), 13),
        ("weights_int8", {"MatMulNBits": 13, "Gather": 3}, ("MatMulNBits",), 13),
    ],
)
def test_all_weights_are_int8_and_so_is_what_runs(
    kind: Kind, stored: dict[str, int], runs: tuple[str, ...], count: int, folder: Path, tmp_path: Path
) -> None:
    file = folder / f"bert-{kind}.onnx"
    assert int8_operators(file) == stored
    found = operators_that_run(file, tmp_path / "optimised.onnx")
    assert sum(found.count(name) for name in runs) == count
    left = found.count("MatMul") + found.count("FusedMatMul")
    assert left == 4  # queries by keys, and chances by values, in each layer
    assert "Gemm" not in found


def test_it_is_said_what_computes_a_model(folder: Path) -> None:
    words = {kind: kernel(kind, folder / f"bert-{kind}.onnx") for kind in KINDS}
    assert words["onnx"] == "ONNX Runtime, dense float32"
    assert words["fp16"] == "ONNX Runtime, weights stored in 16 bits; on a CPU computed in float32"
    assert words["static_int8"] == (
        "ONNX Runtime, weights of 12 MatMul, 3 Gather, 1 Gemm in int8; activations in int8, scaled as calibrated"
    )
    assert words["dynamic_int8"].endswith("; activations in int8, scaled anew for each batch")


def test_static_scales_are_those_of_the_texts_that_it_is_given(folder: Path, tmp_path: Path) -> None:
    def scales(name: str, tokens: Tokenised) -> dict[str, float]:
        seen = iter(feeds("bert", tokens))
        quantise("static_int8", folder / "bert.onnx", tmp_path / name, seen)
        assert next(seen, None) is None
        graph = onnx.load(tmp_path / name).graph
        scales = [one for one in graph.initializer if one.name.endswith("_scale") and "weight" not in one.name]
        return {one.name: numpy_helper.to_array(one).item() for one in scales if not one.dims}

    same, again, others = scales("a", texts(16, 4)), scales("b", texts(16, 4)), scales("c", texts(16, 5))
    fewer = scales("d", texts(1, 4))
    assert same == again
    assert len(same) == 9  # a classifier, and in each layer four inputs of matrices, of which three share one
    assert all(same[name] != others[name] for name in same)
    assert all(fewer[name] < same[name] for name in same)


def test_nothing_is_logged_and_the_root_logger_stays_as_it_is(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = root.level, root.handlers[:], logging.root.manager.disable
    for kind in KINDS:
        quantise(kind, folder / "bert.onnx", tmp_path / kind, feeds("bert", texts(2, 1)))
    assert (root.level, root.handlers, logging.root.manager.disable) == before
    assert capfd.readouterr() == ("", "")


def test_what_is_silenced_speaks_again_even_behind_an_error(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        logging.getLogger("library").warning("unheard")
        logging.basicConfig(level=logging.DEBUG, force=True)
        raise KeyError

    before = logging.getLogger().level
    with pytest.raises(KeyError), silenced():
        fail()
    assert logging.getLogger().level == before
    logging.getLogger("library").warning("heard")
    assert caplog.messages == ["heard"]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_in_texts_are_refused(kind: Kind) -> None:
    [said] = check(QuantiseSettings(kind=kind), "span")
    assert said == f"quantise.kind {kind} is for labels and numbers, not for answers in texts: set it to none"
    assert check(QuantiseSettings(kind=kind), "classification") == []
    assert check(QuantiseSettings(), "span") == []


@pytest.mark.parametrize("wrong", [{"kind": "int4"}, {"calibration_rows": 0}, {"bits": 8}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        QuantiseSettings.model_validate(wrong)
