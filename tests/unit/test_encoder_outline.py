"""An encoder without its weights is the one that is loaded, and what cannot be loaded has none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from raysweep.problems import UserError
from tests.decoders import text_encoder_folder
from trainables.parts.encoder_outline import outline, outlined
from trainables.parts.encoders import EncoderSource, load_encoder

Shapes = dict[str, torch.Size]


def shapes_of(model: Any) -> Shapes:
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def changed(folder: str, **settings: Any) -> None:
    file = Path(folder, "config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize("layers", [None, 1, 0])
@pytest.mark.parametrize("kind", ["gpt2", "gpt_neo", "bitnet", "distilbert", "modernbert", "bert"])
def test_it_has_the_shapes_of_what_is_loaded(kind: str, layers: int | None, tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, kind)
    for name in (folder, f"fresh:{folder}"):
        settings = EncoderSource(name=name, max_length=40, layers=layers)
        found = outline(settings)
        assert shapes_of(found) == shapes_of(load_encoder(settings, seed=0).model)
        assert {parameter.device.type for parameter in found.parameters()} == {"meta"}


def test_the_embedded_one_too() -> None:
    settings = EncoderSource(name="embedded", layers=1)
    assert shapes_of(outline(settings)) == shapes_of(load_encoder(settings, seed=3).model)


def test_no_weights_are_read(tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, "bert")
    weights = Path(folder, "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert shapes_of(outline(EncoderSource(name=folder)))


def test_copies_and_changed_files_are_told_apart(tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, "bert")
    one = outline(EncoderSource(name=folder, layers=1))
    assert len(shapes_of(one)) < len(shapes_of(outline(EncoderSource(name=folder))))
    changed(folder, intermediate_size=320)
    assert any(320 in shape for shape in shapes_of(outlined(Path(folder))).values())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "nobody"}, "describes no encoder: .*nobody"),
        ({"num_attention_heads": 7}, "describes no encoder: .*7"),
        ({"vocab_size": 50}, r"vocab_size is 50, but the tokenizer beside it knows \d+ tokens"),
    ],
)
def test_what_cannot_be_loaded_has_none(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, "bert")
    changed(folder, **settings)
    with pytest.raises(UserError, match=words):
        outline(EncoderSource(name=f"fresh:{folder}"))
