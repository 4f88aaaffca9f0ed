"""Removed heads and neurons: the smaller model computes what the whole one does without them, trains on, is rebuilt."""

import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.text_models import moved, random_model
from trainables.parts import synthetic
from trainables.parts.encoders import keep_layers
from trainables.parts.packed import Packed, token_states
from trainables.parts.pruning.architectures import ARCHITECTURES
from trainables.parts.pruning.removal import changed_sizes, remove, resize, sizes_of
from trainables.parts.pruning.units import Kind, groups_of
from trainables.parts.text_model import Shape, TextModel, start_head
from trainables.parts.text_predictor import TextPredictor, load, save_model

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
NEURONS = 24
# Texts longer than ModernBERT's window of local attention, in layers of both kinds; GPT-2's other way to attend.
CHANGES: dict[str, dict[str, Any]] = {
    "bert": {"intermediate_size": NEURONS},
    "camembert": {"intermediate_size": NEURONS},
    "distilbert": {"hidden_dim": NEURONS},
    "electra": {"intermediate_size": NEURONS, "embedding_size": 16},
    "gpt2": {"n_inner": NEURONS, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    "gpt_neox": {"intermediate_size": NEURONS},
    "modernbert": {"intermediate_size": NEURONS, "local_attention": 6, "global_attn_every_n_layers": 2},
    "roberta": {"intermediate_size": NEURONS},
    "xlm-roberta": {"intermediate_size": NEURONS},
}
# What attention modules of transformers tell of their heads, here of 8 numbers each.
ATTRIBUTES = {"num_attention_heads": 1, "n_heads": 1, "num_heads": 1, "all_head_size": 8, "split_size": 8}
SAVED = ("bert", "modernbert", "gpt2")
TEXTS = ["the doctor bought a car", "", "a dog", "near the river the old farmer recorded a zebra " * 3]
TOLD = {"kind": "classification", "labels": ["no", "yes"], "max_length": 32, "stride": 8}
Kept = dict[str, Tensor]
kinds = pytest.mark.parametrize("kind", ARCHITECTURES)


def tiny(kind: str) -> Any:
    return random_model(kind, synthetic.tokenizer(), **SIZES | CHANGES[kind])


def text_model(kind: str) -> TextModel:
    encoder = tiny(kind)
    encoder.pooler = None
    model = TextModel(encoder, Shape(2, hidden=8))
    start_head(model, 0, None)
    moved(model.head)
    return model


def texts() -> Packed:
    """Texts of 30, 1, 7 and 19 tokens: side by side, most have padding."""
    ids = torch.randint(10, 200, (57,), generator=torch.Generator().manual_seed(3))
    return Packed(ids, torch.tensor([30, 1, 7, 19]))


def drawn(encoder: Any, seed: int, kinds: tuple[Kind, ...] = ("heads", "neurons")) -> Kept:
    """Some units of each group, as many of another layer as it happens, and at least one."""
    generator, kept = torch.Generator().manual_seed(seed), {}
    for group in groups_of(encoder, encoder):
        if group.kind in kinds:
            kept[group.name] = torch.rand(group.units, generator=generator) < 0.5
            kept[group.name][int(torch.randint(group.units, (), generator=generator))] = True
    return kept


def counts(kept: Mapping[str, Tensor], kind: Kind) -> list[int]:
    return [int(chosen.sum()) for name, chosen in kept.items() if name.endswith(kind)]


@torch.no_grad()
def zeroed(encoder: Any, kept: Kept, consumed_alone: bool = False) -> Any:
    """A copy whose other units have no weights; or where only nothing is made of them."""
    encoder = copy.deepcopy(encoder)
    for group in groups_of(encoder, encoder):
        for part in group.parts:
            if group.name in kept and (part.consumes or not consumed_alone):
                gone = part.places[~kept[group.name]].flatten()
                encoder.get_parameter(part.parameter).index_fill_(part.axis, gone, 0.0)
    return encoder


def removed(encoder: Any, kept: Kept) -> Any:
    encoder = copy.deepcopy(encoder)
    remove(encoder, encoder, kept)
    return encoder


@torch.no_grad()
def distance(one: Any, other: Any) -> float:
    """The greatest difference of two encoders' token states."""
    return float((token_states(one, texts()) - token_states(other, texts())).abs().max())


@kinds
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_smaller_model_computes_what_the_whole_one_does_with_zeros(kind: str, attention: str) -> None:
    encoder = tiny(kind)
    encoder.set_attn_implementation(attention)
    for seed in range(4):
        kept = drawn(encoder, seed)
        smaller = removed(encoder, kept)
        assert distance(smaller, zeroed(encoder, kept)) < 1e-5
        assert distance(smaller, zeroed(encoder, kept, consumed_alone=True)) < 1e-5
        assert distance(smaller, encoder) > 0.01
        assert sizes_of(smaller) == {"heads": counts(kept, "heads"), "neurons": counts(kept, "neurons")}
    assert sizes_of(encoder) == {"heads": [4] * 3, "neurons": [NEURONS] * 3}


@kinds
@pytest.mark.parametrize("gone", ["heads", "neurons"])
def test_one_kind_of_units_can_go_alone(kind: str, gone: Kind) -> None:
    encoder = tiny(kind)
    kept = drawn(encoder, 7, (gone,))
    smaller = removed(encoder, kept)
    assert distance(smaller, zeroed(encoder, kept)) < 1e-5
    whole = {"heads": [4] * 3, "neurons": [NEURONS] * 3}
    assert sizes_of(smaller) == whole | {gone: counts(kept, gone)}


@kinds
def test_what_is_left_is_smaller_by_what_went_and_each_module_knows_its_shape(kind: str) -> None:
    encoder = tiny(kind)
    kept = drawn(encoder, 5)
    gone = 0
    for group in groups_of(encoder, encoder):
        one = sum(part.places[0].numel() * other_sizes(encoder, part.parameter, part.axis) for part in group.parts)
        gone += one * int((~kept[group.name]).sum())
    smaller = removed(encoder, kept)
    assert parameters(encoder) - parameters(smaller) == gone > 0
    for module in smaller.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        elif type(module).__name__ == "Conv1D":
            assert module.weight.shape == (module.nx, module.nf)
    assert all(parameter.is_contiguous() for parameter in smaller.parameters())
    for name, width in ATTRIBUTES.items():
        told = [getattr(module, name) for module in smaller.modules() if hasattr(module, name)]
        assert told in ([], [width * heads for heads in counts(kept, "heads")])


def other_sizes(encoder: Any, parameter: str, axis: int) -> int:
    shape = encoder.get_parameter(parameter).shape
    return int(shape.numel() // shape[axis])


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@kinds
def test_units_can_go_again_and_again(kind: str) -> None:
    encoder = tiny(kind)
    first = {name: torch.arange(len(all_of)) != 1 for name, all_of in drawn(encoder, 0).items()}
    second = {name: torch.arange(len(all_of) - 1) != 1 for name, all_of in first.items()}
    both = {name: (torch.arange(len(all_of)) != 1) & (torch.arange(len(all_of)) != 2) for name, all_of in first.items()}
    twice, once = removed(removed(encoder, first), second), removed(encoder, both)
    assert all(torch.equal(one, other) for one, other in zip(twice.parameters(), once.parameters(), strict=True))
    assert distance(twice, zeroed(encoder, both)) < 1e-5


@kinds
def test_training_goes_on_with_what_is_left(kind: str) -> None:
    model = text_model(kind)
    frozen: Any = model.encoder.get_input_embeddings()  # type: ignore[operator]
    groups = groups_of(model, model.encoder)
    frozen.requires_grad_(False)
    model.get_parameter(groups[0].parts[0].parameter).requires_grad_(False)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    remove(model, model.encoder, drawn(model.encoder, 2))
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == learns
    assert all(parameter.is_leaf and parameter.grad is None for parameter in model.parameters())
    optimizer, labels = torch.optim.AdamW(model.parameters(), lr=1e-3), torch.tensor([0, 1, 1, 0])
    losses = []
    for _ in range(5):  # without dropout, so that only what was learnt changes the loss
        loss = nn.functional.cross_entropy(model.eval()(texts()), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[1]
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == learns


@kinds
def test_a_blank_encoder_takes_the_weights_of_a_smaller_one(kind: str) -> None:
    smaller = removed(tiny(kind), drawn(tiny(kind), 3))
    blank = random_model(kind, synthetic.tokenizer(), **SIZES | CHANGES[kind])
    resize(blank, json.loads(json.dumps(sizes_of(smaller))))
    blank.load_state_dict(smaller.state_dict())
    assert distance(blank, smaller) == 0
    assert changed_sizes(blank) == changed_sizes(smaller) == sizes_of(smaller)


def test_units_go_from_the_layers_that_an_encoder_was_cut_to() -> None:
    encoder = tiny("modernbert")
    keep_layers(encoder, 2)
    kept = drawn(encoder, 1)
    assert [len(sizes) for sizes in sizes_of(removed(encoder, kept)).values()] == [2, 2]
    assert distance(removed(encoder, kept), zeroed(encoder, kept)) < 1e-5


def test_what_is_kept_whole_is_no_change() -> None:
    encoder = tiny("bert")
    smaller = removed(encoder, {group.name: torch.ones(group.units) > 0 for group in groups_of(encoder, encoder)})
    assert changed_sizes(smaller) is None
    assert distance(smaller, encoder) == 0
    assert sizes_of(random_model("mpnet", synthetic.tokenizer())) == {}


def test_mistakes_of_programmers_are_caught_before_anything_is_cut() -> None:
    encoder = tiny("bert")
    some = torch.arange(4) > 1
    for kept, message in (
        ({"layer 0 heads": some, "layer 9 heads": some}, "layer 9 heads"),
        ({"layer 0 heads": some, "layer 1 heads": some[:3]}, "layer 1 heads"),
        ({"layer 0 heads": some, "layer 1 heads": some & ~some}, "nothing would be left"),
    ):
        with pytest.raises(AssertionError, match=message):
            remove(encoder, encoder, kept)
    assert sizes_of(encoder) == {"heads": [4] * 3, "neurons": [NEURONS] * 3}


def saved(kind: str, folder: Path, whole: bool = False) -> TextModel:
    """A model whose layers are of different sizes, and its files."""
    model = text_model(kind)
    if not whole:
        remove(model, model.encoder, drawn(model.encoder, 6))
    save_model(folder, model.eval(), synthetic.tokenizer(), TOLD, TEXTS)
    return model


@pytest.mark.parametrize("kind", SAVED)
def test_a_smaller_model_goes_through_files(kind: str, tmp_path: Path) -> None:
    model = saved(kind, tmp_path / "model")
    loaded = TextPredictor(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(loaded.model(texts()), model(texts()))
    sizes = sizes_of(model.encoder)
    assert loaded.told["sizes"] == sizes
    assert all(len(set(counted)) > 1 for counted in sizes.values())
    config: Any = loaded.model.encoder.config
    assert config.num_attention_heads == 4
    verify = json.loads((tmp_path / "model" / "verify.json").read_text())
    assert np.abs(loaded.predict(TEXTS) - np.array(verify["outputs"])).max() < 1e-6
    save_model(tmp_path / "again", loaded.model, loaded.tokenizer, TOLD, TEXTS)
    assert (tmp_path / "again" / "model.json").read_text() == (tmp_path / "model" / "model.json").read_text()


@pytest.mark.parametrize("kind", SAVED)
def test_a_whole_model_is_written_as_it_was_before_there_were_sizes(kind: str, tmp_path: Path) -> None:
    model = saved(kind, tmp_path / "model", whole=True)
    assert "sizes" not in json.loads((tmp_path / "model" / "model.json").read_text())
    with torch.no_grad():
        assert torch.equal(TextPredictor(tmp_path / "model").model(texts()), model(texts()))


def test_a_fresh_process_without_the_engine_loads_them_and_finds_no_code_in_them(tmp_path: Path) -> None:
    for kind in SAVED:
        saved(kind, tmp_path / kind)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    assert not [file for file in files if b"trainables" in file.read_bytes()]
    code = f"""
import json, sys
sys.modules["raysweep"] = None
from trainables.parts.text_predictor import load
print(json.dumps([load(f"{tmp_path}/{{kind}}")({TEXTS!r}).tolist() for kind in {SAVED!r}]))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wanted = [load(tmp_path / kind)(TEXTS).tolist() for kind in SAVED]
    assert np.abs(np.array(json.loads(printed.stdout)) - np.array(wanted)).max() < 1e-6
    assert printed.stderr == ""
