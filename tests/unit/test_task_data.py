"""Reading the examples of a task: every layout, its own splits and those carved out of train, and every mistake."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.task_folders import (
    WRITERS,
    Writer,
    folder_of,
    premises,
    problems_of,
    question,
    sentences,
    snli,
    squad,
    write_parquet,
)
from trainables.parts import examples as reading
from trainables.parts.task_data import TaskDataSettings, examples_facts, read_examples


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same_examples(tmp_path: Path, write: Writer) -> None:
    source = folder_of(tmp_path, write, train=sentences(40), validation=sentences(3, 40))
    found = read_examples(TaskDataSettings(source=source), "report")
    assert found.texts == found.first == ["text 40", "text 41", "text 42"]
    assert found.second is None
    assert found.targets.tolist() == [0.0, 1.0, 0.0]


def test_a_pair_is_read_in_the_columns_of_its_task(tmp_path: Path) -> None:
    found = read_examples(snli(tmp_path, [2, 0, 1]), "train")
    assert found.texts == [("p 0", "h 0"), ("p 1", "h 1"), ("p 2", "h 2")]
    assert found.targets.tolist() == [2.0, 0.0, 1.0]
    taken = found.take(np.array([2, 0]))
    assert (taken.first, taken.second, taken.targets.tolist()) == (["p 2", "p 0"], ["h 2", "h 0"], [1.0, 2.0])


def test_a_folder_of_save_to_disk_gives_its_splits(tmp_path: Path) -> None:
    import datasets

    splits = {"train": sentences(40), "validation": sentences(4, 40)}
    datasets.DatasetDict({k: datasets.Dataset.from_list(rows) for k, rows in splits.items()}).save_to_disk(
        str(tmp_path)
    )
    assert examples_facts(TaskDataSettings(source=str(tmp_path))).rows == {"train": 38, "select": 2, "report": 4}
    assert "no split 'test'" in problems_of(TaskDataSettings(source=str(tmp_path), report="test"))[0]


def test_columns_and_files_of_ones_own_are_mapped(tmp_path: Path) -> None:
    rows = [{"question": f"q {n}", "answer": f"a {n}", "grade": n} for n in range(5)]
    source = folder_of(tmp_path, a=rows, b=rows[:2], c=rows[2:])
    names = {"first": "question", "second": "answer", "target": "grade", "score_max": 4.0}
    wanted = TaskDataSettings(task="regression", source=source, train="a", select="b.parquet", report="c", **names)
    assert read_examples(wanted, "report").texts == [("q 2", "a 2"), ("q 3", "a 3"), ("q 4", "a 4")]
    assert read_examples(wanted, "report").targets.tolist() == [0.5, 0.75, 1.0]
    assert read_examples(wanted.model_copy(update={"second": None}), "select").texts == ["q 0", "q 1"]


class Hub:
    """GLUE's MNLI, as `datasets` would give it; it notes what is asked for."""

    SPLITS = ("train", "validation_matched", "validation_mismatched", "test_matched")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        self.asked: list[tuple[str, str | None]] = []
        reading.read_split.cache_clear()  # what another test's hub gave
        monkeypatch.setattr(datasets, "get_dataset_split_names", self.names)
        monkeypatch.setattr(datasets, "load_dataset", self.load)

    def names(self, path: str, subset: str | None) -> list[str]:
        self.asked.append((path, subset))
        return list(self.SPLITS)

    def load(self, path: str, subset: str | None, split: str) -> Any:
        import datasets

        self.asked.append((path, subset))
        rows = premises([0, 1, 2] * 20, 1000 * self.SPLITS.index(split))
        return datasets.Dataset.from_list(rows)


def test_the_hub_set_of_a_task_is_read_in_its_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    wanted = TaskDataSettings(task="mnli", source="hub")
    facts = examples_facts(wanted)
    assert set(hub.asked) == {("nyu-mll/glue", "mnli")}
    assert facts.rows == {"train": 57, "select": 3, "report": 60, "validation_mismatched": 60}
    assert (facts.name, facts.source, facts.synthetic) == ("glue-mnli", "nyu-mll/glue mnli", False)
    assert read_examples(wanted, "report").first[0] == "p 1000"
    assert read_examples(wanted, "report", "validation_mismatched").first[0] == "p 2000"


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"source": "nyu-mll/glue"}, "mnli"),
        ({"source": "other/nli"}, None),
        ({"source": "other/nli", "subset": "en"}, "en"),
    ],
)
def test_the_subset_of_the_task_is_for_its_own_set(
    given: dict[str, str], asked: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(monkeypatch)
    assert len(read_examples(TaskDataSettings(task="mnli", **given), "report")) == 60  # type: ignore[arg-type]
    assert hub.asked == [(given["source"], asked)] * 2


def test_trec_is_read_in_its_coarse_labels_or_in_another_column(tmp_path: Path) -> None:
    rows = [{"text": f"q {n}", "coarse_label": n % 6, "fine_label": n} for n in range(60)]
    source = folder_of(tmp_path, train=rows, test=[{**row, "text": f"r {row['text']}"} for row in rows[:6]])
    wanted = TaskDataSettings(task="trec", source=source)
    assert examples_facts(wanted).rows == {"train": 57, "select": 3, "report": 6}
    assert read_examples(wanted, "report").targets.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    other = folder_of(tmp_path / "other", **{
        split: [{"text": row["text"], "label": row["coarse_label"]} for row in found]
        for split, found in {"train": rows, "test": rows[:6]}.items()
    })  # fmt: skip
    named = TaskDataSettings(task="trec", source=other, target="label")
    assert read_examples(named, "train").targets.tolist() == read_examples(wanted, "train").targets.tolist()


def test_a_folder_has_no_subset(tmp_path: Path) -> None:
    source = folder_of(tmp_path, train=sentences(4))
    (found,) = problems_of(TaskDataSettings(source=source, subset="sst2"))
    assert "data.subset is 'sst2', but a folder has no subsets" in found


def test_only_reading_the_report_split_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = reading.read_table
    monkeypatch.setattr(
        reading, "read_table", lambda source, split, *more: opened.append(split) or real(source, split, *more)
    )
    wanted = TaskDataSettings(source=folder_of(tmp_path, train=sentences(40), validation=sentences(4, 40)))
    read_examples(wanted, "train")
    read_examples(wanted, "select")
    assert opened == ["train"]


ROWS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=40, max_size=80)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, share=st.floats(0.1, 0.5), data=st.data())
def test_what_is_carved_out_of_train_is_no_part_of_it_whatever_is_trained_on(
    tmp_path: Path, rows: list[tuple[int, int]], share: float, data: st.DataObject
) -> None:
    rows += [(100 + number, number % 2) for number in range(20)]
    train = [{"sentence": f"text {text}", "label": label} for text, label in rows]
    wanted = TaskDataSettings(
        source=folder_of(tmp_path, train=train, validation=sentences(4, 1000)), select_share=share
    )
    select, whole = read_examples(wanted, "select"), read_examples(wanted, "train")
    assert len(select) + len(whole) == len(rows)
    assert set(select.first) & set(whole.first) == set()
    size = data.draw(st.integers(1, len(whole)))
    fewer = wanted.model_copy(update={"train_rows": size})
    assert read_examples(fewer, "select").first == select.first
    sampled = read_examples(fewer, "train")
    assert len(sampled) == size
    larger = read_examples(wanted.model_copy(update={"train_rows": len(whole)}), "train")
    assert larger.first[:size] == sampled.first
    assert sorted(larger.first) == sorted(whole.first)


def test_a_regression_is_carved_by_the_tenths_of_its_target(tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "label": 5 * (n / 999) ** 3} for n in range(1000)]
    source = folder_of(tmp_path, train=rows, validation=rows[:1])
    held_out = read_examples(TaskDataSettings(task="stsb", source=source, select_share=0.1), "select").targets
    edges = [(tenth / 10) ** 3 for tenth in range(10)]
    assert np.bincount(np.searchsorted(edges, held_out + 1e-9) - 1, minlength=10).tolist() == [10] * 10


def test_questions_about_one_context_stay_together(tmp_path: Path) -> None:
    wanted = squad(
        tmp_path, [question(n, f"context {n // 4}", (["context"], [0])) for n in range(100)], select_share=0.2
    )
    contexts = [set(read_examples(wanted, split).second or []) for split in ("train", "select")]  # type: ignore[arg-type]
    assert contexts[0] & contexts[1] == set()
    assert [len(found) for found in contexts] == [20, 5]


def test_the_name_of_the_training_split_asks_for_carving_where_the_task_has_a_split(tmp_path: Path) -> None:
    source = folder_of(
        tmp_path, train=[{"text": f"t {n}", "label": n % 2} for n in range(40)], test=[{"text": "u", "label": 1}]
    )
    wanted = TaskDataSettings(task="classification", source=source, labels=["no", "yes"])
    (found,) = problems_of(wanted)
    assert "no file for split 'validation'" in found
    assert "data.select: train holds out data.select_share of the training rows" in found
    assert examples_facts(TaskDataSettings(**{**wanted.model_dump(), "select": "train"})).rows["select"] == 2


def test_a_given_split_is_taken_in_place_of_carving(tmp_path: Path) -> None:
    source = folder_of(tmp_path, train=sentences(40), dev=sentences(6, 40), validation=sentences(4, 50))
    assert examples_facts(TaskDataSettings(source=source, select="dev")).rows == {"train": 40, "select": 6, "report": 4}


def test_a_missing_further_split_can_be_done_without(tmp_path: Path) -> None:
    source = folder_of(tmp_path, train=premises([0, 1, 2] * 20), validation_matched=premises([0], 100))
    (found,) = problems_of(TaskDataSettings(task="mnli", source=source))
    assert "no file for split 'validation_mismatched'" in found
    assert "data.also: [] does without it" in found
    assert set(examples_facts(TaskDataSettings(task="mnli", source=source, also=())).rows) == {
        "train",
        "select",
        "report",
    }


def test_facts_count_what_repeats_within_and_between_splits(tmp_path: Path) -> None:
    train = [*sentences(4), {"sentence": "text 1", "label": 1}]
    source = folder_of(tmp_path, train=train, dev=sentences(2, 3), validation=sentences(3, 3), further=sentences(1, 0))
    counts = examples_facts(TaskDataSettings(source=source, select="dev", also=("further",))).overlaps
    expected = {"train repeated": 1, "train in select": 1, "train in report": 1, "select in report": 2}
    assert (expected | {"train in further": 1, "report in further": 0}).items() <= counts.items()


def test_facts_hash_the_rows_and_not_the_format(tmp_path: Path) -> None:
    sources = [
        folder_of(tmp_path / write.__name__, write, train=sentences(40), validation=sentences(3, 40))
        for write in WRITERS
    ]
    hashes = [examples_facts(TaskDataSettings(source=source)).hashes for source in sources]
    assert hashes == [hashes[0]] * 4
    assert len(set(hashes[0].values())) == 3


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    wanted = TaskDataSettings(source=folder_of(tmp_path, train=sentences(40), validation=sentences(3, 40)))
    before = examples_facts(wanted).hashes
    write_parquet(tmp_path / "train", sentences(60, 100))
    after = examples_facts(wanted).hashes
    assert (before["train"] != after["train"], before["select"] != after["select"]) == (True, True)
    assert before["report"] == after["report"]


def test_targets_cannot_be_changed_by_a_trial(tmp_path: Path) -> None:
    for split in ("train", "select", "report"):
        with pytest.raises(ValueError, match="read-only"):
            read_examples(snli(tmp_path, [0, 1, 2], train_rows=2), split).targets[0] = 5.0  # type: ignore[arg-type]


def test_too_few_rows_to_carve_are_a_mistake(tmp_path: Path) -> None:
    source = folder_of(tmp_path, train=sentences(8), validation=sentences(2, 8))
    (found,) = problems_of(TaskDataSettings(source=source))
    assert "data.select_share 0.05 of 8 rows leaves 8 to train on and 0 to select by" in found


def test_more_rows_than_are_left_are_a_mistake(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "own", train=sentences(40), validation=sentences(2, 40))
    assert len(read_examples(TaskDataSettings(source=source, train_rows=38), "train")) == 38
    assert problems_of(TaskDataSettings(source=source, train_rows=39)) == [
        "data.train_rows is 39, but own has 38 training rows"
    ]


def test_an_empty_split_is_a_mistake(tmp_path: Path) -> None:
    source = folder_of(tmp_path, train=sentences(40), validation=[])
    assert problems_of(TaskDataSettings(source=source)) == [f"{tmp_path / 'validation.parquet'}: has no rows"]


def test_a_missing_source_is_one_problem(tmp_path: Path) -> None:
    assert problems_of(TaskDataSettings(source=str(tmp_path / "none"))) == [
        f"data.source: there is no folder {tmp_path / 'none'}"
    ]
