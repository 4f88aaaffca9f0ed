"""Labels, scores and answers: brought into one order and scale, and every row that is wrong is named."""

from pathlib import Path
from typing import Any

import pytest

from tests.task_folders import (
    GOOD,
    Writer,
    folder_of,
    problems_of,
    question,
    sentences,
    snli,
    squad,
    write_csv,
    write_jsonl,
    write_parquet,
)
from trainables.parts.task_data import TaskDataSettings, examples_facts, labels_of, read_examples


def test_other_numbers_for_the_labels_are_brought_into_canonical_order(tmp_path: Path) -> None:
    turned = ["contradiction", "neutral", "entailment"]
    assert read_examples(snli(tmp_path, [0, 1, 2], labels=turned), "train").targets.tolist() == [2.0, 1.0, 0.0]
    assert labels_of(snli(tmp_path, [0, 1, 2], labels=turned)) == ("entailment", "neutral", "contradiction")


def test_labels_may_be_names_in_capitals_or_not(tmp_path: Path) -> None:
    found = read_examples(snli(tmp_path, ["Neutral", "CONTRADICTION", " entailment"]), "train")
    assert found.targets.tolist() == [1.0, 2.0, 0.0]


def test_ones_own_labels_count_from_the_first(tmp_path: Path) -> None:
    rows = [{"text": f"t {n}", "label": label} for n, label in enumerate(["bad", "Good", 2, 0.0])]
    source = folder_of(tmp_path, write_jsonl, train=rows, validation=rows, test=rows)
    wanted = TaskDataSettings(task="classification", source=source, labels=("bad", "good", "fine"))
    assert read_examples(wanted, "train").targets.tolist() == [0.0, 1.0, 2.0, 0.0]
    assert labels_of(wanted) == ("bad", "good", "fine")


def test_labels_that_are_numbers_are_names(tmp_path: Path) -> None:
    rows = [{"text": f"t {stars}", "label": stars} for stars in (1, 2, 3)]
    source = folder_of(tmp_path, train=rows, validation=rows, test=rows)
    wanted = TaskDataSettings(task="classification", source=source, labels=("1", "2", "3"))
    assert read_examples(wanted, "train").targets.tolist() == [0.0, 1.0, 2.0]
    write_parquet(tmp_path / "test", [{"text": "none", "label": 0}])
    assert "outside" in problems_of(wanted)[0]


def test_rows_of_snli_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    wanted = snli(tmp_path, [0, -1, 2, 1, None])
    assert read_examples(wanted, "train").first == ["p 0", "p 2", "p 3"]
    facts = examples_facts(wanted)
    assert facts.rows == {"train": 3, "select": 3, "report": 3, "train left out without label": 2}


def labelled(path: Path, labels: list[Any], **more: Any) -> TaskDataSettings:
    """SST-2 with these labels in train, and good rows in the other splits."""
    rows = [{"sentence": f"t {number}", "label": label} for number, label in enumerate(labels)]
    source = folder_of(path, write_jsonl, train=rows, dev=sentences(4, 50), validation=sentences(2, 60))
    return TaskDataSettings(source=source, select="dev", **more)


@pytest.mark.parametrize("missing", [-1, "", None, "-1", -1.0])
def test_rows_without_a_label_are_left_out_and_counted_where_that_is_asked_for(tmp_path: Path, missing: Any) -> None:
    labels = [0, missing, 1, missing, 1]
    wanted = labelled(tmp_path, labels, unlabelled=True)
    assert read_examples(wanted, "train").first == ["t 0", "t 2", "t 4"]
    assert read_examples(wanted, "train").targets.tolist() == [0.0, 1.0, 1.0]
    assert examples_facts(wanted).rows == {"train": 3, "select": 4, "report": 2, "train left out without label": 2}
    (refused,) = problems_of(labelled(tmp_path, labels))
    assert f"column 'label' has no label at row 2: {missing!r}, row 4: {missing!r}" in refused
    assert "(data.unlabelled: true leaves such rows out)" in refused


def test_a_wrong_label_is_named_where_rows_without_one_are_left_out(tmp_path: Path) -> None:
    (found,) = problems_of(labelled(tmp_path, [0, -1, 7, 1], unlabelled=True))
    assert "column 'label' is outside 0..1 at row 3: 7" in found
    (found,) = problems_of(labelled(tmp_path, [-1, None], unlabelled=True))
    assert "column 'label' has no labels at all" in found


def numbered(path: Path, scores: list[Any], **more: Any) -> TaskDataSettings:
    """STS-B with these scores in train, and good rows in the other splits."""
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "label": score} for n, score in enumerate(scores)]
    good = [{"sentence1": "c", "sentence2": "d", "label": 2.5}]
    source = folder_of(path, write_jsonl, train=rows, dev=good, validation=good)
    return TaskDataSettings(task="stsb", source=source, select="dev", **more)


@pytest.mark.parametrize("missing", [-1, "", None, float("nan")])
def test_rows_without_a_number_are_left_out_and_counted_too(tmp_path: Path, missing: Any) -> None:
    wanted = numbered(tmp_path, [5.0, missing, 0.0], unlabelled=True)
    assert read_examples(wanted, "train").targets.tolist() == [1.0, 0.0]
    assert read_examples(wanted, "train").texts == [("a 0", "b 0"), ("a 2", "b 2")]
    assert examples_facts(wanted).rows == {"train": 2, "select": 1, "report": 1, "train left out without label": 1}
    assert problems_of(numbered(tmp_path, [5.0, missing, 0.0]))


@pytest.mark.parametrize(("wrong", "message"), [(-5.0, "outside 0..5 at row 2"), ("high", "has no number at row 2")])
def test_a_wrong_number_is_named_where_rows_without_one_are_left_out(tmp_path: Path, wrong: Any, message: str) -> None:
    # -5 by 5 is what a row without a number is marked with
    (found,) = problems_of(numbered(tmp_path, [5.0, wrong, -1], unlabelled=True))
    assert message in found
    assert "row 3" not in found
    assert "unlabelled" not in found


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 3], "train.parquet: column 'label' is outside 0..1 at row 3: 3 (data.labels names the classes"),
        ([0, 1, -1], "train.parquet: column 'label' has no label at row 3: -1"),
        (
            [-1, -1, -1],
            "column 'label' has no labels at all (the test labels of GLUE are hidden: use its validation split)",
        ),
        (
            ["negative", "positiv", "negative"],
            "column 'label' is no label at row 2: 'positiv' (did you mean 'positive'?)",
        ),
        (["negative", "", "positive"], "column 'label' has no label at row 2: ''"),
        ([0.5, 0.0, 1.0], "outside 0..1 at row 1: 0.5"),
        ([1, 1, 1], "(train): no row to train on has the label negative"),
    ],
)
def test_a_wrong_label_is_named(tmp_path: Path, labels: list[Any], message: str) -> None:
    rows = [{"sentence": f"t {number}", "label": label} for number, label in enumerate(labels)]
    (found,) = problems_of(TaskDataSettings(source=folder_of(tmp_path, train=rows, validation=sentences(2, 10))))
    assert message in found


def test_a_label_without_a_row_to_train_on_is_named_where_nothing_is_carved_too(tmp_path: Path) -> None:
    train = [row for row in sentences(8) if row["label"] == 1]
    source = folder_of(tmp_path, train=train, dev=sentences(4, 10), validation=sentences(4, 20))
    (found,) = problems_of(TaskDataSettings(source=source, select="dev"))
    assert "no row to train on has the label negative" in found


def test_all_problems_of_all_splits_are_named_at_once(tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "train",
        [{"sentence": "a", "label": 7}, {"sentence": " ", "label": 0}, {"sentence": None, "label": 1}],
    )
    write_csv(tmp_path / "validation", [{"sentense": "b", "label": 1}])
    found = problems_of(TaskDataSettings(source=str(tmp_path), also=("more",)))
    assert len(found) == 4
    assert any("train.jsonl: column 'sentence' has no text at row 2: ' ', row 3: None" in problem for problem in found)
    assert any("train.jsonl: column 'label' is outside 0..1 at row 1: 7" in problem for problem in found)
    assert any("no column 'sentence' (data.first)" in p and "did you mean 'sentense'" in p for p in found)
    assert any("no file for split 'more'" in problem for problem in found)


def test_one_side_of_a_pair_may_be_empty_as_in_qqp(tmp_path: Path) -> None:
    rows = [{"question1": f"q {n}", "question2": "" if n == 1 else f"r {n}", "label": n % 2} for n in range(40)]
    source = folder_of(tmp_path, train=rows, validation=rows[:2])
    assert read_examples(TaskDataSettings(task="qqp", source=source), "report").texts[1] == ("q 1", "")
    write_parquet(
        tmp_path / "validation",
        [{"question1": "q", "question2": "r", "label": 0}, {"question1": "", "question2": "", "label": 0}],
    )
    assert "'question1' has no text at row 2" in problems_of(TaskDataSettings(task="qqp", source=source))[0]
    write_parquet(tmp_path / "validation", [{**row, "question2": ""} for row in rows])
    assert "'question2' has no text at row 1: '', row 2: '', row 3: '' and 37 more" in problems_of(
        TaskDataSettings(task="qqp", source=source)
    )[0]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5.5, "outside 0..5 at row 1: 5.5"),
        (-1.0, "outside 0..5 at row 1: -1.0"),
        (None, "has no number at row 1: None (data.unlabelled: true leaves such rows out)"),
    ],
)
def test_a_wrong_score_is_named(tmp_path: Path, value: float | None, message: str) -> None:
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "label": float(n % 6)} for n in range(60)]
    source = folder_of(tmp_path, train=rows, validation=[{**rows[0], "label": value}, rows[1]])
    (found,) = problems_of(TaskDataSettings(task="stsb", source=source))
    assert "validation.parquet: column 'label' " in found
    assert message in found


def test_the_hidden_scores_of_glue_are_told_apart_from_wrong_ones(tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "label": float(n % 6)} for n in range(60)]
    source = folder_of(tmp_path, train=rows, test=[{**row, "label": -1.0} for row in rows])
    (found,) = problems_of(TaskDataSettings(task="stsb", source=source, report="test"))
    assert "no labels at all (the test labels of GLUE are hidden" in found


@pytest.mark.parametrize("write", [write_parquet, write_jsonl])
def test_every_gold_answer_is_read_with_its_place(tmp_path: Path, write: Writer) -> None:
    wanted = squad(tmp_path, [question(n, f"{n} is it", (["is"], [len(f"{n} ")])) for n in range(40)], write)
    found = read_examples(wanted, "report")
    assert found.texts == [("q 0", "on the hill stood a red house")]
    assert found.answers == [[("a red house", 18), ("red", 20)]]
    assert found.targets.tolist() == [0.0]
    train = read_examples(wanted, "train")
    for text, answers in zip(train.second or [], train.answers or [], strict=True):
        assert text[answers[0][1] :].startswith("is")


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ((["house"], [0]), "an answer that does not stand at its place in the context at row 2"),
        ((["house"], [-5]), "does not stand at its place"),
        (([], []), "has no answer at row 2"),
        ((["red"], [20, 21]), "is not of the form {text: [..], answer_start: [..]}"),
        (([""], [0]), "is not of the form"),
    ],
)
def test_a_wrong_answer_is_named(tmp_path: Path, answers: tuple[list[str], list[int]], message: str) -> None:
    (found,) = problems_of(squad(tmp_path, [GOOD, question(1, GOOD["context"], answers)]))
    assert "train.parquet: column 'answers' " in found
    assert message in found


def test_answers_of_another_form_are_named(tmp_path: Path) -> None:
    (found,) = problems_of(squad(tmp_path, [{**GOOD, "answers": "red"}], write_jsonl))
    assert "is not of the form" in found
    assert "row 1: 'red'" in found
