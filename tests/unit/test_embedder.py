"""Exported models: what is loaded gives what was trained, dendrites or not, and needs neither recipe nor engine."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.parts.adapter import Adapter, initialise
from trainables.parts.batches import tokens_of
from trainables.parts.dendrites.layer import DendriticLayer, wrap
from trainables.parts.embedder import SAMPLE, Embedder, load, save_model
from trainables.parts.encoders import Encoder, EncoderSettings, load_encoder
from trainables.parts.pooling import embed_all

TEXTS = ["the doctor bought a car", "", "a dog", "z" * 300, "near the river the old farmer recorded a cat"]


def export(folder: Path, adapter: Adapter, layers: int | None = None, max_length: int = 128) -> Encoder:
    encoder = load_encoder(EncoderSettings(layers=layers, max_length=max_length), 3)
    save_model(folder, encoder.model, encoder.tokenizer, encoder.max_length, adapter)
    return encoder


def adapter_of(out_dim: int = 64, dendrites: int = 0, **options: int) -> Adapter:
    adapter = Adapter(64, out_dim, **options)
    initialise(adapter, "default", 0)
    if dendrites:
        layer = wrap(adapter, ["linear"], "tanh")["linear"]
        for _ in range(dendrites):
            layer.grow(0.1, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # trained, so that nothing is left at zero
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return adapter.eval()


def trained_vectors(encoder: Encoder, adapter: Adapter) -> np.ndarray:
    pooled = embed_all(encoder.model, tokens_of(encoder.tokenizer, TEXTS, encoder.max_length))
    with torch.no_grad():
        return adapter(torch.from_numpy(pooled)).numpy()


@pytest.mark.parametrize(
    "adapter",
    [
        adapter_of(),
        adapter_of(16),
        adapter_of(residual=True),
        adapter_of(24, hidden_width=5),
        adapter_of(16, dendrites=2),
        adapter_of(dendrites=1, residual=True),
    ],
)
def test_the_loaded_model_gives_what_was_trained(tmp_path: Path, adapter: Adapter) -> None:
    encoder = export(tmp_path / "model", adapter)
    vectors = load(tmp_path / "model")(TEXTS)
    assert np.abs(vectors - trained_vectors(encoder, adapter)).max() < 1e-5
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("residual", [False, True])
def test_sentence_transformers_gives_the_same_for_a_plain_model(tmp_path: Path, residual: bool) -> None:
    from sentence_transformers import SentenceTransformer

    export(tmp_path / "model", adapter_of(64 if residual else 16, residual=residual), layers=1, max_length=20)
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    assert np.abs(theirs - load(tmp_path / "model")(TEXTS)).max() < 1e-5


@pytest.mark.parametrize("adapter", [adapter_of(dendrites=1), adapter_of(hidden_width=4)])
def test_sentence_transformers_does_not_load_a_part_of_a_model(tmp_path: Path, adapter: Adapter) -> None:
    from sentence_transformers import SentenceTransformer

    export(tmp_path / "model", adapter)
    with pytest.raises((OSError, ValueError)):
        SentenceTransformer(str(tmp_path / "model"), device="cpu", local_files_only=True)


def test_the_batch_size_does_not_matter(tmp_path: Path) -> None:
    export(tmp_path / "model", adapter_of(16))
    embedder = Embedder(tmp_path / "model")
    assert np.abs(embedder.encode(TEXTS, 1) - embedder.encode(TEXTS, 32)).max() < 1e-5


def test_it_needs_neither_recipe_nor_engine(tmp_path: Path) -> None:
    adapter = adapter_of(16, dendrites=1)
    export(tmp_path / "model", adapter)
    code = f"""
import sys
from trainables.parts.embedder import load
print(load({str(tmp_path / "model")!r})(["a dog"]).shape)
print([name for name in sys.modules if name.partition(".")[0] in ("raysweep", "ray", "optuna", "mlflow", "wandb")])
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout == "(1, 16)\n[]\n"
    assert printed.stderr == ""


def test_verify_json_holds_the_answers_of_the_trained_model(tmp_path: Path) -> None:
    adapter = adapter_of(16)
    encoder = export(tmp_path / "model", adapter)
    told = json.loads((tmp_path / "model" / "verify.json").read_text())
    assert told["texts"] == list(SAMPLE)
    pooled = embed_all(encoder.model, tokens_of(encoder.tokenizer, SAMPLE, 128))
    with torch.no_grad():
        assert np.abs(adapter(torch.from_numpy(pooled)).numpy() - np.array(told["outputs"])).max() < 1e-5


def test_everything_is_safetensors_or_json(tmp_path: Path) -> None:
    export(tmp_path / "model", adapter_of())
    assert {file.suffix for file in (tmp_path / "model").rglob("*") if file.is_file()} == {".safetensors", ".json"}


def test_a_second_export_replaces_the_first_whole(tmp_path: Path) -> None:
    export(tmp_path / "model", adapter_of())
    dendritic = adapter_of(16, dendrites=1)
    export(tmp_path / "model", dendritic)
    assert not (tmp_path / "model" / "modules.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert isinstance(Embedder(tmp_path / "model").adapter.linear, DendriticLayer)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    export(tmp_path / "model", adapter_of(16))
    told = json.loads((tmp_path / "model" / "embedder.json").read_text())
    told["adapter"]["out_dim"] = 8
    (tmp_path / "model" / "embedder.json").write_text(json.dumps(told))
    with pytest.raises(RuntimeError, match="size mismatch"):
        load(tmp_path / "model")


def test_loading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    export(tmp_path / "model", adapter_of())
    before = torch.get_rng_state()
    load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)
