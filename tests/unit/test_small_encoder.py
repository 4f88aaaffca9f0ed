"""Encoders with smaller word tables: exact sizes, vectors that stay with their tokens, and other kinds than BERT."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysweep.problems import UserError
from tests.task_folders import folder_of, write_jsonl
from tests.text_models import byte_level, config_of, encoder_folder, logits_alone, opinions, trial_of
from trainables import dendritic_bert
from trainables.parts import synthetic, text_build
from trainables.parts.batches import tokens_of
from trainables.parts.encoders import Encoder, EncoderSettings, embeddings_of, load_encoder
from trainables.parts.packed import pack, token_states
from trainables.parts.small_encoder import most_frequent, shrink
from trainables.parts.text_predictor import load
from trainables.parts.text_settings import TableSettings

TEXTS = ["the old dog", "the old cat", "the dog was sold", "near the river"]
ROWS, WIDTH = len(synthetic.tokenizer()), 64
INNER = 4 * WIDTH
LAYER = 4 * (WIDTH + 1) * WIDTH + (WIDTH + 1) * INNER + (INNER + 1) * WIDTH + 2 * 2 * WIDTH  # attention, two, norms
BESIDE_WORDS = 128 * WIDTH + 2 * WIDTH + 2 * WIDTH + 2 * LAYER  # positions, types, a norm, and two layers
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "factorised": {"kind": "factorised", "rank": 8},
    "pruned": {"kind": "pruned", "rows": 110},
    "pruned and factorised": {"kind": "pruned", "rows": 110, "rank": 8},
    "tied": {"kind": "tied", "rows": 20},
    "tied and factorised": {"kind": "tied", "rows": 20, "rank": 8},
}
SIZES = {
    "full": ROWS * 64,
    "factorised": ROWS * 8 + 8 * 64,
    "pruned": 110 * 64,
    "pruned and factorised": 110 * 8 + 8 * 64,
    "tied": 20 * 64,
    "tied and factorised": 20 * 8 + 8 * 64,
}
every_kind = pytest.mark.parametrize("kind", SETTINGS)


def whole(**settings: Any) -> Encoder:
    return load_encoder(EncoderSettings(**settings), 3)


def shrunk(texts: Any = TEXTS, **settings: Any) -> Encoder:
    return shrink(whole(), TableSettings(**settings), texts)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@every_kind
def test_the_sizes_are_exact(kind: str) -> None:
    used = [" ".join(synthetic.vocabulary())]  # so that there are as many as asked for
    encoder = shrunk(used, **SETTINGS[kind])
    table: Any = encoder.model.get_input_embeddings()  # type: ignore[operator]
    assert count(table) == SIZES[kind]
    assert count(encoder.model) == SIZES[kind] + BESIDE_WORDS
    assert encoder.whole == ROWS * 64 + BESIDE_WORDS + (WIDTH + 1) * WIDTH  # and the pooler
    assert encoder.whole_embeddings == ROWS * 64 + (128 + 2 + 2) * WIDTH


@every_kind
@torch.no_grad()
def test_words_have_the_vectors_that_they_had(kind: str) -> None:
    before, encoder = whole(), shrunk(**SETTINGS[kind] | ({"rank": 63} if "factorised" in kind else {}))
    vectors, tables = [], [one.model.get_input_embeddings() for one in (before, encoder)]  # type: ignore[operator]
    for one, table in zip((before, encoder), tables, strict=True):
        vectors.append(table(torch.from_numpy(tokens_of(one.tokenizer, TEXTS, 32).ids)))
    tolerance = 0.1 if "factorised" in kind else 0.0  # what one singular value of 64 is worth
    torch.testing.assert_close(vectors[1], vectors[0], atol=tolerance, rtol=0)
    assert (encoder.tokenizer is before.tokenizer) == (not kind.startswith("pruned"))


@torch.no_grad()
def test_the_tokenizer_and_the_vectors_of_a_pruned_encoder_belong_together() -> None:
    before, encoder = whole(), shrunk(kind="pruned")
    old, new = (one.model.get_input_embeddings().weight for one in (before, encoder))  # type: ignore[operator]
    pieces = encoder.tokenizer.get_vocab()
    assert {"the", "old", "dog", "cat", "river"} <= pieces.keys()
    assert {"clock", "young"}.isdisjoint(pieces)
    assert new.shape == (len(pieces), WIDTH)
    ids = before.tokenizer.get_vocab()
    assert all(torch.equal(new[number], old[ids[piece]]) for piece, number in pieces.items())
    config: Any = encoder.model.config
    assert (config.vocab_size, config.pad_token_id) == (len(pieces), encoder.tokenizer.pad_token_id)


@torch.no_grad()
def test_a_pruned_encoder_says_of_its_own_words_what_it_said() -> None:
    before, encoder = whole(), shrunk(kind="pruned")
    states = []
    for one in (before, encoder):
        tokens = tokens_of(one.tokenizer, TEXTS, 32)
        states.append(token_states(one.model, pack(tokens, np.arange(len(TEXTS)))))
    torch.testing.assert_close(states[1], states[0], atol=1e-5, rtol=0)


def test_the_rows_of_a_tied_table_are_those_of_the_most_frequent_tokens() -> None:
    encoder = whole()
    kept = encoder.tokenizer.convert_ids_to_tokens(most_frequent(encoder, TEXTS, 8).tolist())
    assert sorted(kept) == sorted([*encoder.tokenizer.all_special_tokens, "the", "dog", "old"])
    assert most_frequent(encoder, TEXTS, ROWS).tolist() == list(range(ROWS))


@every_kind
@pytest.mark.parametrize("freeze", [False, True])
def test_freezing_stops_the_embeddings_and_nothing_else(kind: str, freeze: bool) -> None:
    model = shrunk(**SETTINGS[kind], freeze=freeze).model
    inside = {name for name, _ in model.named_parameters() if name.startswith("embeddings.")}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    every = {name for name, _ in model.named_parameters()}
    assert len(inside) > 3
    assert trained == (every - inside if freeze else every)
    assert {id(one) for one in embeddings_of(model).parameters()} == {
        id(one) for name, one in model.named_parameters() if name in inside
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "factorised", "rank": 64}, "embedding.rank is 64, but the word vectors have only 64 numbers"),
        ({"kind": "pruned", "rank": 99}, "embedding.rank is 99, but the word vectors have only 64 numbers"),
        ({"kind": "tied", "rows": 9, "rank": 65}, "embedding.rank is 65, but the word vectors have only 64 numbers"),
        ({"kind": "tied", "rows": 999}, f"embedding.rows is 999, but the vocabulary has {ROWS} tokens"),
        ({"kind": "pruned", "rows": 30}, r"a vocabulary of 30 tokens is too small for this tokenizer \(at least \d+"),
    ],
)
def test_what_cannot_be_had_is_told_with_what_there_is(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        shrunk(**settings)


def opinions_folder(path: Path) -> str:
    return folder_of(path, write_jsonl, train=opinions(48), validation=opinions(16, 48))


def trained_and_loaded(path: Path, name: str, **groups: Any) -> float:
    """Train one epoch, export; the largest difference between the trained and the loaded model's chances."""
    groups["encoder"] = {"name": name, "max_length": 24, **groups.get("encoder", {})}
    data = {"source": opinions_folder(path / "data"), "select_share": 0.25}
    config = config_of(data=data, train={"epochs": 1, "lr": 0.01, "batch_size": 8}, **groups)
    trial = trial_of(path, config)
    dendritic_bert.inspect(config)
    (report,) = dendritic_bert.train(trial)
    assert all(np.isfinite(value) for value in report.metrics.values())
    dendritic_bert.export(trial, report.state(), path / "model")
    encoder = text_build.new_encoder(config, trial.seed)
    model = dendritic_bert.kept_model(trial, report.state(), encoder)
    texts = ["the young dog 3", "a zebra", "", "old old old"]
    wanted = logits_alone(model, tokens_of(encoder.tokenizer, texts, 24)).softmax(1).numpy()
    return float(np.abs(load(path / "model")(texts) - wanted).max())


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        *[(kind, layers) for kind in ("distilbert", "mpnet", "nomic_bert") for layers in (0, 1, None)],
        ("modernbert", 1),
        ("modernbert", None),
    ],
)
def test_other_kinds_of_encoders_are_trained_and_come_back(kind: str, layers: int | None, tmp_path: Path) -> None:
    name = encoder_folder(tmp_path / "encoder", kind)
    assert trained_and_loaded(tmp_path, name, encoder={"layers": layers}) < 1e-6


@pytest.mark.parametrize("special_last", [False, True])
@pytest.mark.parametrize("layers", [0, 1])
def test_a_pruned_encoder_of_robertas_kind_is_trained_and_comes_back(
    layers: int, special_last: bool, tmp_path: Path
) -> None:
    tokenizer = byte_level([row["sentence"] for row in opinions(64)] + TEXTS, special_last)
    longest = {"max_position_embeddings": len(tokenizer) + 40}  # positions are counted from behind the padding's id
    name = encoder_folder(tmp_path / "encoder", "roberta", tokenizer, **longest)
    settings = {"encoder": {"layers": layers}, "embedding": {"kind": "pruned"}}
    assert trained_and_loaded(tmp_path, name, **settings) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("special_last", [False, True])
def test_pruning_moves_no_positions_of_robertas(special_last: bool, layers: int, tmp_path: Path) -> None:
    tokenizer = byte_level(TEXTS, special_last)
    longest = {"max_position_embeddings": len(tokenizer) + 40}
    name = encoder_folder(tmp_path / "encoder", "roberta", tokenizer, **longest)
    before = whole(name=name, layers=layers, max_length=24)
    encoder = shrink(whole(name=name, layers=layers, max_length=24), TableSettings(kind="pruned"), TEXTS[:3])
    assert len(encoder.tokenizer) < len(tokenizer)
    states = []
    for one in (before, encoder):
        tokens = tokens_of(one.tokenizer, TEXTS[:3], 24)
        states.append(token_states(one.model, pack(tokens, np.arange(3))))
    torch.testing.assert_close(states[1], states[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "changes"), [("electra", {"embedding_size": 8}), ("modernbert", {})])
def test_an_encoder_that_cannot_do_without_layers_is_named(kind: str, changes: dict[str, int], tmp_path: Path) -> None:
    name = encoder_folder(tmp_path / "encoder", kind, **changes)
    assert trained_and_loaded(tmp_path, name) < 1e-6
    message = (
        r"encoder\.layers 0 needs embeddings as wide as the encoder, of a kind .*, which '.*encoder' does not have"
    )
    with pytest.raises(UserError, match=message):
        trained_and_loaded(tmp_path, name, encoder={"layers": 0})


def test_without_layers_questions_need_a_tokenizer_that_tells_them_from_contexts(tmp_path: Path) -> None:
    tokenizer = byte_level(TEXTS)
    for kind, known in (("bytes", tokenizer), ("words", synthetic.tokenizer())):
        name = encoder_folder(tmp_path / kind, "roberta", known, max_position_embeddings=140)
        config = config_of(data={"task": "squad"}, encoder={"name": name, "layers": 0, "max_length": 128})
        if kind == "words":
            text_build.new_encoder(config, 0)
        else:
            with pytest.raises(UserError, match=r"encoder\.layers 0 needs, for questions, a tokenizer that .*bytes'"):
                text_build.new_encoder(config, 0)


def test_a_rank_is_held_against_the_word_vectors_not_the_encoder(tmp_path: Path) -> None:
    name = encoder_folder(tmp_path / "encoder", "electra", embedding_size=8)
    with pytest.raises(UserError, match=r"embedding\.rank is 12, but the word vectors have only 8 numbers"):
        trained_and_loaded(tmp_path, name, embedding={"kind": "factorised", "rank": 12})
    assert trained_and_loaded(tmp_path, name, embedding={"kind": "factorised", "rank": 7}) < 1e-6


def test_more_layers_than_there_are_are_refused_by_any_name_of_theirs(tmp_path: Path) -> None:
    for kind in ("distilbert", "modernbert"):
        name = encoder_folder(tmp_path / kind, kind)
        with pytest.raises(UserError, match=rf"encoder\.layers is 3, but '.*{kind}' allows at most 2"):
            whole(name=name, layers=3, max_length=24)


def test_positions_that_roberta_keeps_for_padding_are_no_room_for_text(tmp_path: Path) -> None:
    name = encoder_folder(tmp_path / "roberta", "roberta", pad_token_id=1)
    with pytest.raises(UserError, match=r"encoder\.max_length is 39, but '.*roberta' allows at most 38"):
        whole(name=name, max_length=39)
    encoder = whole(name=name, max_length=38)
    ids = torch.full((1, 38), 7)
    assert encoder.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.isfinite().all()


def test_layers_that_share_their_weights_cannot_be_counted_off(tmp_path: Path) -> None:
    name = encoder_folder(tmp_path / "albert", "albert", embedding_size=8)
    with pytest.raises(UserError, match="need 2 layers one behind another, but AlbertModel keeps them in another way"):
        whole(name=name, layers=1, max_length=24)
    assert trained_and_loaded(tmp_path, name) < 1e-6


def test_an_encoder_whose_embeddings_have_another_name_learns_at_the_rates_told(tmp_path: Path) -> None:
    name = encoder_folder(tmp_path / "gpt_neox", "gpt_neox")
    assert trained_and_loaded(tmp_path, name, model={"pooling": "max"}) < 1e-6
    config = config_of(
        data={"source": str(tmp_path / "data"), "select_share": 0.25},
        encoder={"name": name, "max_length": 24},
        train={"embeddings_lr_multiplier": 0.25, "head_lr_multiplier": 3.0},
    )
    model = text_build.new_model(config, text_build.new_encoder(config, 0), 0)
    multiple = text_build.multiples(config.train, model)
    assert multiple("encoder.embed_in.weight") == 0.25
    assert multiple("encoder.layers.0.mlp.dense_h_to_4h.weight") == 1.0
    assert multiple("head.classifier.weight") == 3.0


def test_a_pooler_that_an_encoder_does_not_have_is_told(tmp_path: Path) -> None:
    name = encoder_folder(tmp_path / "encoder", "distilbert")
    with pytest.raises(UserError, match=r"model\.pooler is true, but '.*encoder' is of a kind without a pooler"):
        trained_and_loaded(tmp_path, name, model={"pooler": True})


@pytest.mark.parametrize("kind", ["roberta", "modernbert"])
def test_the_configuration_of_a_pruned_encoder_knows_its_special_tokens(kind: str, tmp_path: Path) -> None:
    tokenizer = byte_level(TEXTS, special_last=True)
    names = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "cls": "<s>", "sep": "</s>"}
    ids = {f"{role}_token_id": tokenizer.convert_tokens_to_ids(name) for role, name in names.items()}
    if kind == "roberta":
        ids["max_position_embeddings"] = len(tokenizer) + 40
    name = encoder_folder(tmp_path / "encoder", kind, tokenizer, **ids)
    encoder = shrink(whole(name=name, max_length=24), TableSettings(kind="pruned"), TEXTS[:1])
    config: Any = encoder.model.config
    roles = [role for role in names if hasattr(config, f"{role}_token_id")]
    assert {"bos", "eos", "pad"} <= set(roles)
    found = [getattr(config, f"{role}_token_id") for role in roles]
    assert encoder.tokenizer.convert_ids_to_tokens(found) == [names[role] for role in roles]
    assert config.vocab_size == len(encoder.tokenizer) < len(tokenizer)
