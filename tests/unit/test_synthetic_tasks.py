"""The made-up examples: the same everywhere, apart between splits, balanced, and to be learned by what they say."""

import itertools
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from trainables.parts import synthetic, synthetic_tasks
from trainables.parts.scores import spearman
from trainables.parts.synthetic_tasks import QUESTIONS, Row, rows
from trainables.parts.task_data import Examples, Split, TaskDataSettings, examples_facts, labels_of, read_examples
from trainables.parts.tasks import TASKS, TaskName

SPLITS: tuple[Split, ...] = ("train", "select", "report")
BINARY, THREE = ("no", "yes"), ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_examples_that_say_what_they_are(task: TaskName) -> None:
    settings = TaskDataSettings(task=task)
    facts = examples_facts(settings)
    assert {split: facts.rows[split] for split in SPLITS} == {"train": 2000, "select": 400, "report": 400}
    assert (facts.name, facts.source, facts.synthetic) == (f"synthetic {task}-like texts", "synthetic", True)
    assert set(facts.overlaps.values()) == {0}
    examples = read_examples(settings, "select")
    assert (examples.second is None) == (len(TASKS[task].texts) == 1)
    assert (examples.answers is None) == (TASKS[task].kind != "span")
    assert set(examples.targets) == set(range(len(labels_of(settings)))) or not labels_of(settings)
    assert 0 <= examples.targets.min() <= examples.targets.max() <= max(1, len(labels_of(settings)) - 1)


def test_no_text_stands_in_two_splits() -> None:
    for kind, texts, labels in (("classification", 1, BINARY), ("regression", 2, ()), ("span", 2, ())):
        found = [text for split in range(4) for told, _, _ in rows(kind, texts, labels, split) for text in told]  # type: ignore[arg-type]
        assert len(set(found)) == len(found)


def test_a_further_split_leaves_the_others_as_they_are() -> None:
    first = rows("classification", 2, THREE, 0)
    assert len(rows("classification", 2, THREE, 4)) == 400
    assert rows("classification", 2, THREE, 0) == first
    settings = TaskDataSettings(task="mnli", also=("one", "two"))
    one, two = (read_examples(settings, "report", name).first for name in ("one", "two"))
    assert set(one) & set(two) == set()


def test_another_process_makes_the_same_examples() -> None:
    code = (
        "from trainables.parts.task_data import *;"
        "print(*(examples_facts(TaskDataSettings(task=task)).hashes['report'] for task in ('sst2', 'mnli', 'squad')))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    names: tuple[TaskName, ...] = ("sst2", "mnli", "squad")
    assert printed == [examples_facts(TaskDataSettings(task=task)).hashes["report"] for task in names]


@pytest.mark.parametrize("task", ["sst2", "mrpc", "mnli", "classification"])
@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_balanced(task: TaskName, split: Split) -> None:
    counts = Counter(read_examples(TaskDataSettings(task=task), split).targets.tolist())
    assert max(counts.values()) - min(counts.values()) <= 1


def test_ones_own_labels_give_as_many_classes() -> None:
    settings = TaskDataSettings(task="classification", labels=("a", "b", "c", "d", "e"))
    assert set(read_examples(settings, "report").targets) == set(range(5))
    pairs = TaskDataSettings(task="classification", labels=("a", "b", "c", "d"), second="other")
    assert read_examples(pairs, "report").second is not None


def word_scores(train: Examples, classes: int) -> dict[str, np.ndarray]:
    """Naive Bayes: the logarithm of each word's share in each class."""
    counts = {word: np.ones(classes) for text in train.first for word in text.split()}
    for text, target in zip(train.first, train.targets, strict=True):
        for word in text.split():
            counts[word][int(target)] += 1
    totals = np.sum(list(counts.values()), axis=0)
    return {word: np.log(count / totals) for word, count in counts.items()}


def bag_of_words(settings: TaskDataSettings, classes: int) -> float:
    """Accuracy on report of counting words."""
    scores, report = word_scores(read_examples(settings, "train"), classes), read_examples(settings, "report")
    said = [sum(scores.get(word, np.zeros(classes)) for word in text.split()) for text in report.first]
    return float(np.mean(np.argmax(said, axis=1) == report.targets))


def test_counting_words_tells_the_class_of_one_text_mostly_but_not_always() -> None:
    assert 0.85 < bag_of_words(TaskDataSettings(task="sst2"), 2) < 0.95
    assert 0.75 < bag_of_words(TaskDataSettings(task="classification"), 3) < 0.95


def test_classes_beyond_the_parts_of_a_slot_still_differ() -> None:
    kinds = {str(synthetic_tasks.favoured(number, 40)) for number in range(40)}
    assert len(kinds) == 40
    first, second = (synthetic_tasks.favoured(number, 2) for number in (0, 1))
    assert all(set(one) & set(other) == set() for one, other in zip(first, second, strict=True))


def concepts(text: str) -> tuple[int, ...]:
    """What a sentence means: the concept in each slot."""
    words = set(text.split())
    found = [[c for c, names in enumerate(slot) if words & set(names)] for slot in synthetic.SLOTS]
    assert [len(each) for each in found] == [1, 1, 1, 1]
    return tuple(each[0] for each in found)


def alike(row: Row) -> float:
    return synthetic.likeness(concepts(row[0][0]), concepts(row[0][1]))


def test_the_class_of_a_pair_is_how_alike_its_meanings_are() -> None:
    rising, falling = rows("classification", 2, BINARY, 2), rows("classification", 2, THREE, 2)
    for found, classes in ((rising, (0, 1)), (falling, (2, 1, 0))):
        groups = [[alike(row) for row in found if row[1] == number] for number in classes]
        for lower, higher in itertools.pairwise(groups):
            assert max(lower) <= min(higher)
        assert np.mean(groups[-1]) - np.mean(groups[0]) > 0.4


def test_the_score_of_a_pair_is_how_alike_its_meanings_are() -> None:
    assert all(row[1] == alike(row) for row in rows("regression", 2, (), 2))


def test_the_score_of_one_text_is_the_sum_of_what_its_concepts_add() -> None:
    train, report = rows("regression", 1, (), 0), rows("regression", 1, (), 2)
    added: list[dict[int, list[float]]] = [defaultdict(list) for _ in synthetic.SLOTS]
    for (text,), target, _ in train:
        for slot, concept in enumerate(concepts(text)):
            added[slot][concept].append(target)
    known = [{concept: np.mean(found) for concept, found in slot.items()} for slot in added]
    said = [sum(known[slot][concept] for slot, concept in enumerate(concepts(text))) for (text,), _, _ in report]
    targets = np.array([target for _, target, _ in report])
    assert spearman(np.array(said), targets) > 0.85
    assert len(set(targets.tolist())) > 350


def test_an_answer_stands_at_its_place_as_a_word_of_its_own() -> None:
    for (_, context), _, ((answer, start),) in rows("span", 2, (), 2):
        assert f" {context}"[start : start + len(answer) + 2] == f" {answer} "


def test_the_answer_is_of_the_kind_that_is_asked_for_and_of_the_only_sentence_that_fits() -> None:
    slots = {question.split()[0]: slot for slot, question in QUESTIONS.items()}
    for (question, context), _, ((answer, _),) in rows("span", 2, (), 2):
        slot = slots[question.split()[0]]
        names = [[name for c in known for name in c] for known in synthetic.SLOTS]
        assert answer in names[slot]
        asked = [c for c, slot_words in enumerate(names) if c != slot and set(question.split()) & set(slot_words)]
        told = {c: concept_of(question, c) for c in asked}
        parts = context.removesuffix(" .").split(" . ")
        shared = {part: sum(concept_of(part, c) == told[c] for c in asked) for part in parts}
        assert sorted(shared.values()) == [1, 1, 3], "one clue alone does not tell"
        assert answer in max(parts, key=lambda part: shared[part]).split()


def concept_of(text: str, slot: int) -> int:
    words = set(text.split())
    (found,) = [number for number, names in enumerate(synthetic.SLOTS[slot]) if words & set(names)]
    return found
