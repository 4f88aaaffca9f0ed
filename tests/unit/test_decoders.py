"""Decoders and other kinds of encoders: how they are loaded, cut, frozen, batched and pooled."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from raysweep.problems import UserError
from tests.decoders import CORPUS, text_encoder_folder, tokenizer_of, told
from tests.text_models import alone, logits_alone, moved, random_model
from trainables.parts import synthetic
from trainables.parts.batches import tokens_of
from trainables.parts.encoder_files import encoder_folder
from trainables.parts.encoders import (
    EncoderSettings,
    check_encoder,
    count,
    embeddings_of,
    freeze,
    is_decoder,
    layers,
    load_encoder,
)
from trainables.parts.model_files import blank_encoder
from trainables.parts.packed import pack, pool, token_states
from trainables.parts.text_model import Shape, TextModel, start_head
from trainables.parts.text_predictor import load, save_model

DECODERS = ["gpt2", "gpt_neo", "bitnet"]
KINDS = [*DECODERS, "distilbert", "modernbert", "bert"]
BEFORE = {"gpt2": {"wte", "wpe"}, "gpt_neo": {"wte", "wpe"}, "bitnet": {"embed_tokens"}}
BEHIND = {"gpt2": "ln_f", "gpt_neo": "ln_f", "bitnet": "norm", "modernbert": "final_norm"}
TEXTS = [CORPUS[0], "", "a dog", CORPUS[1][:20], "cat"]
ONLINE = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}

every_kind = pytest.mark.parametrize("kind", KINDS)


def settings_of(folder: str, **changes: Any) -> EncoderSettings:
    return EncoderSettings(**{"name": folder, "max_length": 40, **changes})


def messages(folder: str, **changes: Any) -> list[str]:
    return [str(problem) for problem in check_encoder(settings_of(folder, **changes))]


@torch.no_grad()
def states_alone(model: Any, ids: Tensor) -> Tensor:
    """[T, H] of one text [T], as transformers gives it."""
    states: Tensor = model(input_ids=ids[None]).last_hidden_state[0]
    return states


@every_kind
def test_it_is_loaded_and_counted_whole(kind: str, tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, kind)
    assert messages(folder) == []
    encoder = load_encoder(settings_of(folder), 0)
    reference = transformers.AutoModel.from_pretrained(folder)
    assert encoder.hidden == 16
    assert encoder.whole == count(reference)
    before = BEFORE.get(kind, {"embeddings"})
    assert encoder.whole_embeddings == sum(count(getattr(reference, name)) for name in before)
    assert encoder.model.config.pad_token_id == encoder.tokenizer.pad_token_id is not None  # type: ignore[union-attr]
    assert {parameter.dtype for parameter in encoder.model.parameters()} == {torch.float32}
    theirs = dict(reference.named_parameters())
    assert all(torch.equal(theirs[name], parameter) for name, parameter in encoder.model.named_parameters())


@every_kind
def test_a_text_in_a_batch_has_the_states_that_it_has_alone(kind: str, tmp_path: Path) -> None:
    encoder = load_encoder(settings_of(text_encoder_folder(tmp_path, kind)), 0)
    tokens = tokens_of(encoder.tokenizer, TEXTS, 40)
    with torch.no_grad():
        together = token_states(encoder.model, pack(tokens, np.arange(len(TEXTS))))
    apart = torch.cat([states_alone(encoder.model, batch.ids) for batch in alone(tokens)])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


@every_kind
def test_the_first_layers_are_kept_and_read_again(kind: str, tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path / "given", kind)
    whole, half = (load_encoder(settings_of(folder, layers=kept), 0) for kept in (None, 1))
    found: list[Tensor] = []
    layers(whole.model)[0].register_forward_hook(
        lambda _, __, out: found.append(out[0] if isinstance(out, tuple) else out)
    )
    ids = torch.arange(5, 14)
    states_alone(whole.model, ids)
    norm: nn.Module = getattr(whole.model, BEHIND[kind]) if kind in BEHIND else nn.Identity()
    torch.testing.assert_close(states_alone(half.model, ids), norm(found[0][0]), atol=1e-6, rtol=0)
    assert half.whole == whole.whole
    model: Any = half.model
    if kind == "gpt_neo":
        assert model.config.attention_layers == ["global"]
        assert model.config.expand_attention_types_params(model.config.attention_types) == ["global"]
    model.config.save_pretrained(tmp_path / "written")
    again = blank_encoder(tmp_path / "written")
    again.load_state_dict(model.state_dict())
    assert torch.equal(states_alone(again.eval(), ids), states_alone(model, ids))


@every_kind
def test_the_first_part_is_frozen(kind: str, tmp_path: Path) -> None:
    settings = settings_of(text_encoder_folder(tmp_path, kind), freeze="first", freeze_layers=1)
    encoder = load_encoder(settings, 0)
    freeze(encoder, settings)
    model: Any = encoder.model
    last = {id(weight) for weight in layers(model)[1].parameters()}
    last |= {id(weight) for weight in getattr(model, BEHIND[kind]).parameters()} if kind in BEHIND else set()
    assert {id(weight) for weight in model.parameters() if weight.requires_grad} == last
    frozen = {id(weight) for weight in embeddings_of(model).parameters()}
    before = BEFORE.get(kind, {"embeddings"})
    assert frozen == {id(weight) for name in before for weight in getattr(model, name).parameters()}


@pytest.mark.parametrize("kind", DECODERS)
def test_the_last_token_is_the_texts_true_end(kind: str, tmp_path: Path) -> None:
    encoder = load_encoder(settings_of(text_encoder_folder(tmp_path, kind)), 0)
    tokens = tokens_of(encoder.tokenizer, TEXTS, 40)
    batch = pack(tokens, np.arange(len(TEXTS)))
    with torch.no_grad():
        pooled = pool(token_states(encoder.model, batch), batch, "last")
    ends = torch.stack([states_alone(encoder.model, one.ids)[-1] for one in alone(tokens)])
    torch.testing.assert_close(pooled, ends, atol=1e-5, rtol=0)
    longer = states_alone(encoder.model, torch.cat([batch.ids[:5], batch.ids[:7].flip(0)]))
    torch.testing.assert_close(longer[4], states_alone(encoder.model, batch.ids[:5])[-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gpt2", {}),
        ("gpt_neo", {"attention_types": [[["global", "local"], 1]]}),
        ("bitnet", {"num_key_value_heads": 1}),
        ("llama", {}),
        ("opt", {"word_embed_proj_dim": 16, "ffn_dim": 32}),
        ("gpt_neox", {}),
        ("qwen2", {"num_key_value_heads": 1}),
        ("bert", {"is_decoder": True}),
        ("bert", {}),
        ("distilbert", {}),
        ("roberta", {}),
        ("modernbert", {}),
        ("mpnet", {}),
        ("bert-generation", {}),
        ("cpmant", {"dim_head": 8, "dim_ff": 32, "prompt_length": 4}),
    ],
)
def test_a_decoder_is_one_whose_tokens_see_nothing_behind_them(kind: str, changes: dict[str, Any]) -> None:
    assert_told_by_its_answers(random_model(kind, synthetic.tokenizer(), **changes))
    assert is_decoder({}) is False


def test_one_that_writes_may_see_both_sides() -> None:
    config = transformers.XLNetConfig(vocab_size=60, d_model=16, n_layer=2, n_head=2, d_inner=32)
    assert_told_by_its_answers(transformers.XLNetModel(config).eval())


def assert_told_by_its_answers(model: Any) -> None:
    """`is_decoder` says what a change of the last token does to the states before it."""
    ids = torch.arange(5, 14)
    other = torch.cat([ids[:-1], ids[:1]])
    blind = torch.allclose(states_alone(model, ids)[:-1], states_alone(model, other)[:-1], atol=1e-6)
    assert is_decoder(model.config) == blind
    assert is_decoder(json.loads(model.config.to_json_string())) == blind


@pytest.mark.parametrize("kind", DECODERS)
def test_limits_have_other_names(kind: str, tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, kind)
    assert messages(folder, layers=2, max_length=40) == []
    assert messages(folder, layers=3, max_length=41) == [
        f"encoder.layers is 3, but '{folder}' allows at most 2",
        f"encoder.max_length is 41, but '{folder}' allows at most 40",
    ]


def test_no_keys_and_values_are_kept(tmp_path: Path) -> None:
    model: Any = load_encoder(settings_of(text_encoder_folder(tmp_path, "gpt_neo")), 0).model
    assert model(input_ids=torch.arange(3)[None]).past_key_values is None


def test_bitnet_is_loaded_without_its_rounding(tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, "bitnet")
    plain = load_encoder(settings_of(folder), 0)
    halves = transformers.AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
    halves.save_pretrained(folder)
    own = {"AutoConfig": "configuration_bitnet.BitNetConfig", "AutoModel": "modeling_bitnet.BitNetModel"}
    told(folder, quantization_config=ONLINE, auto_map=own)  # as in the published files, the code of which is not used
    assert messages(folder) == []
    encoder = load_encoder(settings_of(folder), 0)
    assert {type(part) for part in layers(encoder.model).modules() if isinstance(part, nn.Linear)} == {nn.Linear}
    weights, rounded = encoder.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(weight, rounded[name].bfloat16().float()) for name, weight in weights.items())
    encoder.model.config.save_pretrained(tmp_path / "written")  # type: ignore[operator, union-attr]
    assert "quantization_config" not in told(str(tmp_path / "written"))


@pytest.mark.parametrize("mode", [{"quantization_mode": "offline"}, {}])
def test_packed_weights_cannot_be_trained(mode: dict[str, str], tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, "bitnet")
    told(folder, quantization_config={"quant_method": "bitnet", **mode})
    (found,) = messages(folder)
    assert "has its ternary weights packed, and cannot be trained" in found
    assert "bf16" in found
    assert messages(f"fresh:{folder}") == []
    load_encoder(settings_of(f"fresh:{folder}"), 0)


@every_kind
def test_fresh_weights_are_drawn_by_the_seed(kind: str, tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, kind, weights=False)
    assert any("no weights" in message for message in messages(folder))
    assert messages(f"fresh:{folder}") == []
    before = torch.get_rng_state()
    one, again, other = (load_encoder(settings_of(f"fresh:{folder}"), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.fingerprint == again.fingerprint != other.fingerprint
    torch.manual_seed(1)
    theirs = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(folder)).state_dict()
    mine, others = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(theirs[name], weight) for name, weight in mine.items())
    assert any(not torch.equal(others[name], weight) for name, weight in mine.items())
    torch.set_rng_state(before)


def test_stored_weights_are_not_used_where_fresh_ones_are_asked_for(tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, "distilbert")
    stored, fresh = (load_encoder(settings_of(name), 0) for name in (folder, f"fresh:{folder}"))
    assert stored.fingerprint != fresh.fingerprint
    assert stored.whole == fresh.whole


def test_a_fresh_encoder_has_limits_and_a_word_for_each_token(tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path, "gpt_neo", weights=False)
    name = f"fresh:{folder}"
    assert messages(name, max_length=50) == [f"encoder.max_length is 50, but '{name}' allows at most 40"]
    told(folder, vocab_size=50)
    with pytest.raises(UserError, match=r"vocab_size is 50, but the tokenizer beside it knows \d+ tokens"):
        load_encoder(settings_of(name), 0)
    (tmp_path / "tokenizer.json").unlink()
    assert any("no tokenizer" in message for message in messages(name))
    assert "no 'fresh:'" in messages("fresh:embedded")[0]


def test_no_weights_of_the_hub_are_fetched_for_a_fresh_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, list[str]] = {}

    def fetched(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    for name in ("someone/whole", "fresh:someone/bare"):
        assert encoder_folder(name) == tmp_path
    assert set(asked["someone/whole"]) - set(asked["someone/bare"]) == {"model*.safetensors", "pytorch_model*.bin"}
    assert {"*.json", "*.txt"} <= set(asked["someone/bare"])


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("texts", [TEXTS, [("the dog", "a cat"), ("", ""), (CORPUS[0], "cat")]], ids=["one", "two"])
def test_what_is_served_is_what_was_loaded(kind: str, texts: Any, tmp_path: Path) -> None:
    encoder = load_encoder(settings_of(text_encoder_folder(tmp_path / "given", kind), layers=1), 0)
    model = TextModel(encoder.model, Shape(2, pooling="last")).eval()
    start_head(model, 0, None)
    moved(model.head)
    facts = {"task": "sst2", "kind": "classification", "labels": ["no", "yes"], "max_length": 40, "stride": 0}
    save_model(tmp_path / "model", model, encoder.tokenizer, facts, texts)
    wanted = logits_alone(model, tokens_of(encoder.tokenizer, texts, 40)).softmax(1).numpy()
    assert np.abs(load(tmp_path / "model")(texts) - wanted).max() < 1e-6
    assert len(np.unique(wanted)) >= 3


def test_the_makers_lack_what_is_to_be_completed() -> None:
    assert all(tokenizer_of(kind).pad_token is None for kind in DECODERS)
