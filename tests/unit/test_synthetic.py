"""The synthetic pairs: the same everywhere, apart between splits, and not to be solved by comparing words."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from trainables.parts import synthetic
from trainables.parts.data import DataSettings, data_facts
from trainables.parts.scores import spearman

SPLITS: tuple[synthetic.Split, ...] = ("train", "select", "report")


def test_sizes() -> None:
    assert [len(synthetic.pairs(split)) for split in SPLITS] == [2000, 400, 400]


def test_no_sentence_stands_in_two_pairs() -> None:
    sentences = [text for split in SPLITS for first, second, _ in synthetic.pairs(split) for text in (first, second)]
    assert len(set(sentences)) == len(sentences) == 5600


def test_another_process_makes_the_same_pairs() -> None:
    code = "from trainables.parts.data import *; print(data_facts(DataSettings()).hashes['report'])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == data_facts(DataSettings()).hashes["report"]


def test_it_says_that_it_is_synthetic() -> None:
    facts = data_facts(DataSettings())
    assert facts.synthetic
    assert "synthetic" in facts.name
    assert "synthetic" in facts.source


@pytest.mark.parametrize("split", SPLITS)
def test_scores_are_graded_over_the_whole_range(split: synthetic.Split) -> None:
    scores = np.array([score for *_, score in synthetic.pairs(split)])
    counts, _ = np.histogram(scores, 5, (0, 1))
    assert (counts > 0.08 * len(scores)).all()
    assert scores.max() <= 1


def test_likeness_weighs_slots_and_relatives() -> None:
    assert synthetic.likeness((0, 0, 0, 0), (0, 0, 0, 0)) == 1.0
    assert synthetic.likeness((0, 0, 0, 0), (2, 2, 2, 2)) == 0.0
    assert synthetic.likeness((0, 0, 0, 0), (0, 2, 2, 2)) == 0.25
    assert synthetic.likeness((0, 0, 0, 0), (2, 2, 1, 2)) == pytest.approx(0.4 * 0.3)


@pytest.mark.parametrize("split", SPLITS)
def test_comparing_words_tells_little(split: synthetic.Split) -> None:
    rows = synthetic.pairs(split)
    words = [(set(first.split()), set(second.split())) for first, second, _ in rows]
    shared = np.array([len(a & b) / len(a | b) for a, b in words])
    assert abs(spearman(shared, np.array([score for *_, score in rows]))) < 0.3


def test_each_word_belongs_to_one_concept() -> None:
    words = [word for slot in synthetic.SLOTS for concept in slot for word in concept]
    assert len(set(words)) == len(words)
    assert {len(concept) for slot in synthetic.SLOTS for concept in slot} == {4}


def test_every_sentence_is_made_of_known_words() -> None:
    known = set(synthetic.vocabulary())
    assert {word for first, second, _ in synthetic.pairs("report") for word in f"{first} {second}".split()} <= known


def test_the_tokenizer_keeps_words_whole_and_spells_the_rest() -> None:
    tokenizer = synthetic.tokenizer()
    assert tokenizer.tokenize("The doctor bought a car!") == ["the", "doctor", "bought", "a", "car", "!"]
    assert tokenizer.tokenize("Zebra") == ["z", "##e", "##b", "##r", "##a"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("car")["input_ids"]) == ["[CLS]", "car", "[SEP]"]


def test_the_seed_decides_the_weights_and_no_other_generator_does() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = (synthetic.encoder(seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    name = "embeddings.word_embeddings.weight"
    assert not torch.equal(one[name], other[name])
