"""A finished model: its kernels in words, its sizes, and its files, which answer as it does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raysweep.measure import folder_bytes
from raysweep.problems import UserError
from raysweep.recipe import configure, find
from raysweep.trial import Trial
from tests.text_models import encoder_folder, moved
from trainables import sparse_bert
from trainables.parts import compressed, semi_structured
from trainables.parts.footprint import weight_bytes
from trainables.parts.packed import pack
from trainables.parts.pruning.settings import PruningSettings
from trainables.parts.quantise import int8_operators
from trainables.parts.sparse_predictor import load
from trainables.parts.text_inputs import scored
from trainables.parts.text_model import TextModel
from trainables.parts.text_predictor import TextPredictor, predict_texts
from trainables.parts.weights import weights_of

Flat = dict[str, Any]
AT_ONCE: Flat = {"data.train_rows": 64, "dense.epochs": 0, "train.epochs": 0, "pruning.calibration_rows": 16}
AT_ONCE |= {"measure.memory": False, "measure.repeats": 5}
UNITS: Flat = {"pruning.target": "heads+neurons"}


def trial_of(path: Path, flat: Flat) -> Trial:
    return Trial("t0000", configure(find("sparse_bert"), AT_ONCE | flat), 1, path, path / "shared")


class Finished:
    """A model pruned without training, whose weights are all moved first, so that none is zero."""

    def __init__(self, path: Path, flat: Flat) -> None:
        self.trial = trial_of(path, flat)
        self.run, self.pipeline, self.select = sparse_bert.begin(self.trial)
        moved(self.run.model)
        self.pipeline.begin()
        self.model = self.pipeline.finished()

    def save(self, folder: Path) -> dict[str, Any]:
        return compressed.save(self.trial, self.model, self.run.encoder, self.run.train, folder)


def logits(model: TextModel, finished: Finished) -> Tensor:
    """Of the texts of select."""
    tokens = finished.select.tokens
    return predict_texts(model, lambda rows: pack(tokens, rows), tokens.lengths, 64)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("none", "dense float32 kernels"),
        ("weights", "dense float32 kernels: a mask alone is no speed-up"),
        ("two_four", "dense float32 kernels: a mask alone is no speed-up; no sparse tensor cores on cpu"),
        ("heads+neurons", "dense float32 kernels on smaller matrices"),
        ("weights+heads", "dense float32 kernels on smaller matrices; the mask on what is left is no speed-up"),
        (
            "two_four+neurons",
            "dense float32 kernels on smaller matrices; the mask on what is left is no speed-up; no sparse tensor cores"
            " on cpu",
        ),
    ],
)
def test_what_computes_the_model_is_said_as_it_is(target: str, words: str) -> None:
    assert compressed.kernel(PruningSettings.model_validate({"target": target}), "cpu") == words


@pytest.mark.parametrize("sparsity", [0.25, 0.5])
def test_what_is_removed_leaves_a_smaller_file_that_answers_as_the_masked_model(
    sparsity: float, tmp_path: Path
) -> None:
    finished = Finished(tmp_path, UNITS | {"pruning.sparsity": sparsity})
    card = finished.save(tmp_path / "model")
    served = TextPredictor(tmp_path / "model")
    assert (logits(served.model, finished) - logits(finished.run.model, finished)).abs().max() < 1e-4
    kept = 1 - sparsity
    assert card["sizes"] == {"heads": [4 * kept] * 2, "neurons": [256 * kept] * 2}
    layer = kept * (3 * 64 * 65 + 64 * 64 + 256 * 65 + 64 * 256)  # embedded: two layers, 64 wide
    whole = sum(weight.numel() for weight in finished.run.model.parameters())
    removed = 2 * (layer / kept - layer)
    assert card["parameters"] == card["nonzero"] == whole - removed
    assert card["kernel"] == "dense float32 kernels on smaller matrices"
    plain = Finished(tmp_path / "plain", {})
    plain.save(tmp_path / "dense")
    assert weight_bytes(tmp_path / "dense") - weight_bytes(tmp_path / "model") == pytest.approx(4 * removed, abs=512)


@pytest.mark.parametrize(("share", "scope"), [(0.3, "layer"), (0.9, "global")])
def test_pruned_weights_are_zero_in_the_file_and_exactly_as_many(share: float, scope: str, tmp_path: Path) -> None:
    finished = Finished(tmp_path, {"pruning.target": "weights", "pruning.sparsity": share, "pruning.scope": scope})
    card = finished.save(tmp_path / "model")
    served = TextPredictor(tmp_path / "model").model
    matrices = [weight for name, weight in served.named_parameters() if ".layer." in name and weight.ndim == 2]
    zeros = [int((weight == 0).sum()) for weight in matrices]
    assert len(matrices) == 2 * 6
    if scope == "layer":
        assert zeros == [round(share * weight.numel()) for weight in matrices]
    assert sum(zeros) == pytest.approx(share * sum(weight.numel() for weight in matrices), abs=6)
    assert card["parameters"] - card["nonzero"] == sum(zeros)
    assert card["kernel"].endswith("a mask alone is no speed-up")
    assert torch.equal(logits(served, finished), logits(finished.run.model, finished))


def test_zeros_save_bytes_on_disk_but_not_in_memory(tmp_path: Path) -> None:
    dense, masked = (
        compressed.costs(each.model, each.run.encoder, each.select, "cpu")
        for each in (
            Finished(tmp_path / "dense", {}),
            Finished(tmp_path / "masked", {"pruning.target": "weights", "pruning.sparsity": 0.9}),
        )
    )
    assert masked["size.parameters"] == dense["size.parameters"] == dense["size.nonzero"]
    assert masked["size.bytes"] == dense["size.bytes"] == dense["size.file_bytes"]
    pruned = 2 * 6 * 4096 * 2  # of weights, two layers of 4 * 64 * 64 + 2 * 64 * 256
    assert dense["size.nonzero"] - masked["size.nonzero"] == pytest.approx(0.9 * pruned, abs=6)
    assert masked["size.file_bytes"] == pytest.approx(dense["size.file_bytes"] - 4 * 0.9 * pruned + pruned / 8, abs=24)


def test_told_bytes_of_the_file_are_those_of_the_file(tmp_path: Path) -> None:
    finished = Finished(tmp_path, {"pruning.target": "heads+weights"})
    card = finished.save(tmp_path / "model")
    told = compressed.costs(finished.model, finished.run.encoder, finished.select, "cpu")["size.file_bytes"]
    header = card["weight_bytes"] - told
    assert 0 < header < 16_384  # names and shapes
    assert card["weight_bytes"] == (tmp_path / "model" / "model.safetensors").stat().st_size
    assert card["bytes"] == folder_bytes(tmp_path / "model")


def test_where_sparse_tensor_cores_are_the_card_tells_what_they_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = Finished(tmp_path, {"pruning.target": "two_four"})
    before = [weight.clone() for weight in finished.model.parameters()]
    assert compressed.two_four_costs(finished.trial, finished.model, finished.select) == {}
    for module in (compressed, semi_structured):
        monkeypatch.setattr(module, "sparse_cores", lambda device: None)
    monkeypatch.setattr(torch.sparse, "to_sparse_semi_structured", lambda weight: weight)
    told = compressed.two_four_told(finished.trial, finished.model, {"a.weight": 22})
    taken = "2:4 kernels of sparse tensor cores for 12 of 13 matrices; dense are head.classifier"
    assert told == {"two_four": taken, "left_whole": ["a.weight: 22 inputs"]}
    timed = compressed.two_four_costs(finished.trial, finished.model, finished.select)
    assert set(timed) == {"latency.two_four_ms", "latency.dense16_ms"}
    assert all(map(torch.equal, before, finished.model.parameters()))


def test_a_quantised_model_answers_by_its_file(tmp_path: Path) -> None:
    finished = Finished(tmp_path, UNITS | {"quantise.kind": "static_int8", "quantise.calibration_rows": 16})
    assert finished.pipeline.quantised["size.bytes"] == finished.pipeline.quantised["size.file_bytes"]
    card = finished.save(folder := tmp_path / "model")
    assert card["kernel"].startswith("ONNX Runtime")
    assert "int8" in card["kernel"]
    assert int8_operators(folder / "model.onnx")
    assert card["weight_bytes"] < 4 * card["parameters"]
    found = compressed.answers(finished.trial, finished.model, folder, finished.select)
    assert np.array_equal(found["accuracy"].targets, finished.select.examples.targets)
    chances = load(folder)(finished.select.examples.texts)
    assert (chances.argmax(1) == found["accuracy"].predictions).all()


def test_earlier_weights_answer_and_the_last_ones_stay(tmp_path: Path) -> None:
    finished = Finished(tmp_path, {})
    model, trial = finished.run.model, finished.trial
    last = weights_of(model)
    none = {name: torch.zeros_like(weight) for name, weight in last.items()}
    right = next(iter(scored(model, finished.select, 64, "cpu").values()))
    found = compressed.before(trial, model, {"none": none, "last": last}, finished.select)
    assert set(found["none"].predictions) == {0.0}
    assert np.array_equal(found["last"].predictions, right.predictions)
    assert all(torch.equal(value, last[name]) for name, value in weights_of(model).items())


def test_costs_stand_beside_those_of_the_dense_model(tmp_path: Path) -> None:
    finished, dense = Finished(tmp_path / "a", UNITS), Finished(tmp_path / "b", {})
    finished.save(tmp_path / "small")
    dense.save(tmp_path / "whole")
    texts = finished.select.examples.texts[:20]
    found = compressed.costs_beside(finished.trial, tmp_path / "small", tmp_path / "whole", texts)
    assert found["size.file_bytes"] == weight_bytes(tmp_path / "small") < found["dense.file_bytes"]
    assert found["dense.disk_bytes"] == folder_bytes(tmp_path / "whole")
    assert found["latency.ratio"] == found["latency.p50_ms"] / found["dense.p50_ms"]
    assert "memory.peak_mb" not in found


MOST: Flat = {"pruning.target": "neurons", "pruning.sparsity": 0.99, "pruning.scope": "global"}
UNFIT: list[tuple[str, Flat, str]] = [
    ("bert", MOST, "pruning.target has neurons: 0.99 of 64 are 63, but only 62 can go if every layer keeps 1"),
    ("bert", {"pruning.target": "heads", "pruning.min_heads": 2}, "only 0 can go if every layer keeps 2"),
    ("bert", {"pruning.target": "weights", "encoder.layers": 0}, "pruning needs layers, but encoder.layers is 0"),
    ("albert", {"pruning.target": "weights"}, "encoder.name is of kind albert: take another"),
]


@pytest.mark.parametrize(("kind", "flat", "message"), UNFIT, ids=[message for *_, message in UNFIT])
def test_what_cannot_be_pruned_is_said_before_any_trial(kind: str, flat: Flat, message: str, tmp_path: Path) -> None:
    encoder = {"encoder.name": encoder_folder(tmp_path / kind, kind), "encoder.max_length": 40}
    with pytest.raises(UserError, match=message):
        sparse_bert.inspect(trial_of(tmp_path, flat | encoder).config)
    assert sparse_bert.inspect(trial_of(tmp_path, encoder).config).rows["train"]
