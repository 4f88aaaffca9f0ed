"""Tokenizers of decoders: padding, a mark between two texts, and a token of every text, as files too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

from raysweep.problems import UserError
from tests.decoders import BEGIN, CORPUS, END, STOP, gpt_tokenizer, llama_tokenizer, text_encoder_folder, told
from tests.text_models import byte_level
from trainables.parts import synthetic
from trainables.parts.batches import tokens_of
from trainables.parts.encoders import EncoderSettings, load_encoder
from trainables.parts.missing_tokens import completed
from trainables.parts.vocabulary import prune

TEXTS = ["the old dog", "", " near the river", "naïve 東京"]
GPT = completed(gpt_tokenizer())


def ids(tokenizer: Any, text: str) -> list[int]:
    """Of a text without any mark."""
    found: list[int] = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    return found


def marked(template: str, pair: str) -> Any:
    """Words with post-processing of the given form, whose marks are < and >."""
    words = {word: number for number, word in enumerate(["<", ">", "a", "b"])}
    core = tokenizers.Tokenizer(models.WordLevel(words))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single=template, pair=pair, special_tokens=[("<", 0), (">", 1)])
    return core


@pytest.mark.parametrize("make", [synthetic.tokenizer, lambda: byte_level(CORPUS)], ids=["BERT's", "RoBERTa's"])
def test_one_that_lacks_nothing_is_left_alone(make: Any) -> None:
    tokenizer = make()
    before = tokenizer.backend_tokenizer.to_str()
    assert completed(tokenizer) is tokenizer
    assert tokenizer.backend_tokenizer.to_str() == before


def test_what_was_completed_lacks_nothing() -> None:
    for tokenizer in (GPT, completed(llama_tokenizer())):
        assert completed(tokenizer) is tokenizer


def test_padding_is_the_end_of_text() -> None:
    given = gpt_tokenizer()
    assert given.pad_token is None
    assert (GPT.pad_token, GPT.pad_token_id) == (END, given.eos_token_id)
    llama = completed(llama_tokenizer())
    assert (llama.pad_token, llama.bos_token, llama.eos_token) == (STOP, BEGIN, STOP)
    assert given.pad_token is None, "the given one is left as it was"


def test_no_token_changes() -> None:
    given = gpt_tokenizer()
    assert GPT.get_vocab() == given.get_vocab()
    for text in [*TEXTS, *CORPUS[:10], f"a{END}b"]:
        assert GPT(text)["input_ids"] == given(text)["input_ids"]
        assert GPT.decode(ids(GPT, text)) == text


@given(st.text(max_size=12), st.text(max_size=12))
def test_the_end_of_text_stands_between_two(first: str, second: str) -> None:
    tokens = tokens_of(GPT, [(first, second)], 128)
    one, other = ids(GPT, first), ids(GPT, second)
    assert tokens.ids.tolist() == [*one, GPT.eos_token_id, *other]
    assert tokens.types is not None
    assert tokens.types.tolist() == [0] * (len(one) + 1) + [1] * len(other)


def test_a_pair_is_cut_with_its_mark() -> None:
    tokens = tokens_of(GPT, [(CORPUS[0], CORPUS[1])], 9)
    assert tokens.lengths.tolist() == [9]
    assert tokens.types is not None
    assert np.flatnonzero(tokens.ids == GPT.eos_token_id).tolist() == [tokens.types.tolist().index(1) - 1]
    assert tokens.ids[0] == ids(GPT, CORPUS[0])[0]


def test_offsets_stay_those_of_the_texts() -> None:
    given, found = (one.backend_tokenizer.encode("old dog", " by sea") for one in (gpt_tokenizer(), GPT))
    mark = found.sequence_ids.index(None)
    assert found.sequence_ids.count(None) == 1
    assert [*found.offsets[:mark], *found.offsets[mark + 1 :]] == given.offsets


def test_a_mark_before_each_text_is_kept_and_enough() -> None:
    given = llama_tokenizer()
    made = completed(llama_tokenizer())
    assert made.backend_tokenizer.encode("old", "dog").ids == given.backend_tokenizer.encode("old", "dog").ids
    assert made.backend_tokenizer.encode("old", "dog").tokens.count(BEGIN) == 2


@pytest.mark.parametrize(
    ("single", "pair", "wanted"),
    [
        ("$A", "$A $B", "a > b"),
        ("< $A", "< $A $B", "< a > b"),
        ("$A >", "$A $B >", "a > b >"),
        ("< $A", "< $A < $B", "< a < b"),
    ],
)
def test_marks_that_there_are_stay_where_they_are(single: str, pair: str, wanted: str) -> None:
    names = {"eos_token": ">", "bos_token": "<"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=marked(single, pair), **names)
    made = completed(tokenizer).backend_tokenizer
    assert " ".join(made.encode("a", "b").tokens) == wanted
    assert made.encode("a").tokens == tokenizer.backend_tokenizer.encode("a").tokens


def test_without_a_special_token_it_is_refused() -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=marked("$A", "$A $B"))
    with pytest.raises(UserError, match="no special token to pad or part texts with"):
        completed(tokenizer)


def test_padding_parts_two_texts_where_there_is_no_other_mark() -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=marked("$A", "$A $B"), pad_token=">")
    assert completed(tokenizer).backend_tokenizer.encode("a", "b").tokens == ["a", ">", "b"]


def test_every_text_has_a_token() -> None:
    texts = ["", "the dog", ""]
    tokens = tokens_of(GPT, texts, 128)
    dog = ids(GPT, "the dog")
    assert tokens.lengths.tolist() == [1, len(dog), 1]
    assert tokens.ids.tolist() == [GPT.pad_token_id, *dog, GPT.pad_token_id]
    pairs = tokens_of(GPT, [("", ""), ("", "the dog")], 128)
    assert pairs.lengths.tolist() == [1, 1 + len(dog)]
    bare = gpt_tokenizer()  # whose pairs have no mark either
    bare.pad_token = END
    empty = tokens_of(bare, [("", "")], 128)
    assert empty.types is not None
    assert (empty.ids.tolist(), empty.types.tolist()) == ([bare.pad_token_id], [0])


def as_once(folder: Path) -> None:
    """The files of a tokenizer of GPT-2 as they were before there was one for all of it."""
    model = told(str(folder), "tokenizer.json")["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]))
    told(str(folder), "tokenizer_config.json", add_bos_token=False)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neo", "bitnet"])
@pytest.mark.parametrize("old", [False, True], ids=["one file", "old files"])
def test_what_is_written_is_read_as_it_was(kind: str, old: bool, tmp_path: Path) -> None:
    folder = text_encoder_folder(tmp_path / "given", kind)
    if old and kind != "bitnet":
        as_once(tmp_path / "given")
    encoder = load_encoder(EncoderSettings(name=folder, max_length=32), 0)
    encoder.tokenizer.save_pretrained(tmp_path / "written")
    encoder.model.config.save_pretrained(tmp_path / "written")  # type: ignore[operator, union-attr]
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "written")
    assert again.pad_token_id == encoder.tokenizer.pad_token_id is not None
    pairs = [("the old dog", "near the river"), ("", "a"), ("a", ""), (CORPUS[0], CORPUS[1])]
    for texts in (TEXTS, pairs):
        mine, theirs = (tokens_of(one, texts, 16) for one in (encoder.tokenizer, again))
        assert mine.ids.tolist() == theirs.ids.tolist()
        assert mine.lengths.tolist() == theirs.lengths.tolist()
    assert tokens_of(again, [("a", "a")], 16).types is not None
    assert tokens_of(again, [("a", "a")], 16).ids.tolist().count(ids(again, "a")[0]) == 2
    assert len(tokens_of(again, [("a", "a")], 16).ids) == (4 if kind == "bitnet" else 3)


def test_a_pruned_vocabulary_keeps_both() -> None:
    pruned = prune(GPT, CORPUS[:20], 290, 128).tokenizer
    assert len(pruned) == 290 < len(GPT)
    found = tokens_of(pruned, [("the dog", "a")], 128)
    assert pruned.convert_ids_to_tokens(found.ids.tolist()).count(END) == 1
    assert pruned.pad_token == END
