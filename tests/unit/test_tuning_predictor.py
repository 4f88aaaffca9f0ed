"""Exported models that were tuned: their answers, what model.json tells, the libraries and memory they need."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.ternary_encoders import tiny
from tests.text_models import logits_alone, random_model
from tests.tuned_models import BASES, based, tuned
from trainables.parts import synthetic
from trainables.parts.batches import tokens_of
from trainables.parts.model_files import blank_encoder
from trainables.parts.ternary.convert import make_ternary
from trainables.parts.text_model import Shape, TextModel, draw_head
from trainables.parts.text_predictor import TextPredictor, save_model
from trainables.parts.tuning.lora import exported_bytes, plain

TEXTS = ["the doctor bought a car", "a dog", "near the river the old farmer recorded a zebra"]
TOLD = {"kind": "classification", "labels": ["no", "yes"], "max_length": 32, "stride": 0}


def model_on(encoder: Any) -> TextModel:
    encoder.pooler = None
    model = TextModel(encoder, Shape(2))
    draw_head(model.head, torch.Generator().manual_seed(3))
    model.head.classifier.weight.data *= 4
    return model.eval()


def save(folder: Path, model: TextModel) -> Any:
    """Its export; verify.json is of TEXTS."""
    made: Any = plain(model)
    save_model(folder, made, synthetic.tokenizer(), dict(TOLD), TEXTS)
    return json.loads((folder / "model.json").read_text())


def chances(model: TextModel) -> Any:
    return logits_alone(model, tokens_of(synthetic.tokenizer(), TEXTS, 32)).softmax(1).numpy()


@pytest.mark.parametrize("kind", ["bert", "gpt2", "bitnet"])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("lora", [False, True])
def test_the_loaded_model_gives_what_was_tuned(kind: str, base: str, lora: bool, tmp_path: Path) -> None:
    model = model_on(tuned(kind, base) if lora else based(kind, base))
    told = save(tmp_path / "model", model)
    wanted = {"ternary"} | ({"low_rank"} if lora else set()) if base == "ternary" else set()
    assert {"ternary", "low_rank", "sizes"} & told.keys() == wanted
    predictor, before = TextPredictor(tmp_path / "model"), chances(model)
    limit = 0.1 if base == "int8" else 1e-5  # outside of training, int8 rounds the inputs of products
    assert np.abs(predictor.predict(TEXTS) - before).max() < limit
    assert np.ptp(before[:, 1]) > 0.005, "answers differ between texts"
    verified = json.loads((tmp_path / "model" / "verify.json").read_text())["outputs"]
    assert np.abs(np.array(verified) - before).max() < limit
    assert sum(tensor.nbytes for tensor in predictor.model.state_dict().values()) == exported_bytes(model)


def test_what_quantised_an_encoder_is_not_in_its_config(tmp_path: Path) -> None:
    encoder = tiny("bitnet")
    encoder.config.quantization_config = {"quant_method": "bitnet", "quantization_mode": "online"}
    model = model_on(encoder)
    save(tmp_path / "model", model)
    written = json.loads((tmp_path / "model" / "encoder" / "config.json").read_text())
    assert "quantization_config" not in written
    assert hasattr(encoder.config, "quantization_config"), "the trained one keeps its own"
    assert np.abs(TextPredictor(tmp_path / "model").predict(TEXTS) - chances(model)).max() < 1e-5


def test_a_blank_encoder_draws_nothing_and_what_is_loaded_is_all_of_it(tmp_path: Path) -> None:
    for kind in ("bert", "gpt2", "gpt_neo", "bitnet"):
        encoder = tiny(kind)
        encoder.pooler = None
        encoder.config.save_pretrained(tmp_path / kind)
        before = torch.get_rng_state()
        blanks = [blank_encoder(tmp_path / kind) for _ in range(2)]
        assert torch.equal(torch.get_rng_state(), before)
        kept = dict(encoder.named_buffers())  # none is saved, so the blank ones have them right
        assert all(torch.equal(tensor, kept[name]) for name, tensor in blanks[0].named_buffers())
        assert {name for name, _ in blanks[0].named_parameters()} == encoder.state_dict().keys() - kept.keys()


SERVING = """
import json, sys
from raysweep.measure import peak_memory_mb
for name in ("raysweep", "peft", "bitsandbytes"):
    sys.modules[name] = None
from trainables.parts.text_predictor import load
folders, texts = json.load(sys.stdin)
print(json.dumps([[load(folder)(texts).tolist(), peak_memory_mb()] for folder in folders]))
"""


def test_serving_needs_nothing_that_trained_and_less_memory_where_layers_are_packed(tmp_path: Path) -> None:
    """One process, so that libraries count once: a small model first, then what has the lower peak."""
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_hidden_layers": 4}
    models = {"small": model_on(tuned("bert", "ternary"))}
    models["float"] = model_on(random_model("bert", synthetic.tokenizer(), **sizes))
    models["packed"] = copy.deepcopy(models["float"])
    make_ternary(models["packed"].encoder)
    for name, model in models.items():
        save(tmp_path / name, model)
    names = ("small", "packed", "float")
    given = json.dumps([[str(tmp_path / name) for name in names], TEXTS])
    printed = subprocess.run([sys.executable, "-c", SERVING], input=given, capture_output=True, text=True, check=True)
    assert printed.stderr == ""
    answers, (small, packed, whole) = zip(*json.loads(printed.stdout), strict=True)
    for name, found in zip(names, answers, strict=True):
        assert np.abs(np.array(found) - chances(models[name])).max() < 1e-5
    weights = sum(parameter.nbytes for parameter in models["float"].encoder.parameters()) / 1e6
    assert whole - small > weights > 40
    assert packed - small < 0.7 * weights, "the float layers that packed ones replace are never in memory"
