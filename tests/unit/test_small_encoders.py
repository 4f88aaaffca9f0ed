"""Folders of small encoders: configuration and tokenizer suit each other, and nothing else is in them."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from benchmarks import small_encoders
from trainables.parts import synthetic
from trainables.parts.encoder_files import WEIGHTS
from trainables.parts.encoders import count

KINDS = {"bitnet": "bitnet", "distilbert": "distilbert"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("encoders")
    small_encoders.main([str(place), "--layers", "2", "--hidden", "128"])
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_the_configuration_reads_what_the_tokenizer_writes(folder: Path, kind: str) -> None:
    files = {file.name for file in (folder / kind).iterdir()}
    assert {"config.json", "tokenizer.json"} <= files
    assert not files & set(WEIGHTS)
    config, tokenizer = AutoConfig.from_pretrained(folder / kind), AutoTokenizer.from_pretrained(folder / kind)
    assert (config.model_type, config.hidden_size, config.num_hidden_layers) == (kind, 128, 2)
    text = "the doctor bought a car"
    tokens = tokenizer(text, return_tensors="pt")
    assert tokens["input_ids"].tolist() == synthetic.tokenizer()(text, return_tensors="pt")["input_ids"].tolist()
    model = AutoModel.from_config(config).eval()
    with torch.inference_mode():
        ids, mask = (tokens[name] for name in ("input_ids", "attention_mask"))
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert states.shape == (1, ids.shape[1], 128)
    assert len(tokenizer) == config.vocab_size
    assert config.pad_token_id == tokenizer.pad_token_id


def test_both_kinds_weigh_about_the_same_behind_their_embeddings(folder: Path) -> None:
    sizes = []
    for kind in KINDS:
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder / kind))
        tables = [part for part in model.modules() if isinstance(part, torch.nn.Embedding)]
        sizes.append(count(model) - sum(map(count, tables)))
    assert max(sizes) < 1.05 * min(sizes)


def test_what_is_there_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "bitnet" / "config.json").read_bytes()
    with pytest.raises(SystemExit):
        small_encoders.main([str(folder), "--layers", "3"])
    assert "is there already" in capsys.readouterr().err
    assert (folder / "bitnet" / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "wrong", [["--hidden", "100"], ["--hidden", "0"], ["--layers", "0"], ["--tokenizer", "package:no_such_package"]]
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(wrong: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        small_encoders.main([str(tmp_path), *wrong])
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizers_own_ends_go_before_those_of_bert() -> None:
    assert small_encoders.one_of(0, 2) == 0
    assert small_encoders.one_of(None, 2) == 2
