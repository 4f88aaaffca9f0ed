"""Reading sentence pairs: every layout gives the same pairs, every mistake is named, splits are what they say."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from raysweep.problems import UserError
from trainables.parts import data
from trainables.parts.data import DataSettings, content_hash, data_facts, read_pairs

NAMES = ["sentence1", "sentence2", "score"]
ROWS = [["A man eats.", 'He said "no", twice', 0.25], ["Two dogs", "One dog", 1.0], ["é", "ü", 0.0]]


def write_parquet(file: Path, rows: list[list[object]], names: list[str] = NAMES) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
    parquet.write_table(pyarrow.table(dict(zip(names, columns, strict=True))), file.with_suffix(".parquet"))


def write_jsonl(file: Path, rows: list[list[object]]) -> None:
    lines = [json.dumps(dict(zip(NAMES, row, strict=True))) for row in rows]
    file.with_suffix(".jsonl").write_text("\n".join(lines) + "\n\n")


def write_csv(file: Path, rows: list[list[object]]) -> None:
    with file.with_suffix(".csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([NAMES, *rows])


def write_tsv(file: Path, rows: list[list[object]]) -> None:
    file.with_suffix(".tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in [NAMES, *rows]))


Writer = Callable[[Path, list[list[object]]], None]


def folder_of(path: Path, write: Writer = write_parquet) -> Path:
    for number, split in enumerate(("train", "validation", "test")):
        write(path / split, [[f"{row[0]} {number}", *row[1:]] for row in ROWS])
    return path


def problems_of(settings: DataSettings) -> list[str]:
    with pytest.raises(UserError) as caught:
        data_facts(settings)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("write", [write_parquet, write_jsonl, write_csv, write_tsv])
def test_every_format_gives_the_same_pairs(tmp_path: Path, write: Writer) -> None:
    pairs = read_pairs(DataSettings(source=str(folder_of(tmp_path, write))), "select")
    assert pairs.first == ["A man eats. 1", "Two dogs 1", "é 1"]
    assert pairs.second == [row[1] for row in ROWS]
    assert pairs.scores.tolist() == [0.25, 1.0, 0.0]


def test_a_folder_of_save_to_disk_gives_its_splits(tmp_path: Path) -> None:
    import datasets

    columns = dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True))
    splits = {split: datasets.Dataset.from_dict(columns) for split in ("train", "validation", "test")}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path))
    assert read_pairs(DataSettings(source=str(tmp_path)), "report").second == columns["sentence2"]
    assert "no split 'dev'" in problems_of(DataSettings(source=str(tmp_path), select="dev"))[0]


def test_columns_files_and_scale_are_mapped(tmp_path: Path) -> None:
    for file in ("a", "b", "c"):
        write_parquet(tmp_path / file, [["x", "y", 5], ["z", "w", 2]], ["question", "answer", "grade"])
    names = {"first": "question", "second": "answer", "score": "grade"}
    settings = DataSettings(source=str(tmp_path), train="a", select="b.parquet", report="c", score_max=5.0, **names)
    assert read_pairs(settings, "select").scores.tolist() == [1.0, 0.4]
    assert data_facts(settings).rows == {"train": 2, "select": 2, "report": 2}


def test_facts_hash_the_rows_and_not_the_format(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "j").mkdir()
    one = data_facts(DataSettings(source=str(folder_of(tmp_path / "p", write_parquet))))
    other = data_facts(DataSettings(source=str(folder_of(tmp_path / "j", write_jsonl))))
    assert one.hashes == other.hashes
    assert len(set(one.hashes.values())) == 3
    assert (one.name, one.synthetic) == ("p", False)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    settings = DataSettings(source=str(folder_of(tmp_path)))
    before = content_hash(read_pairs(settings, "train"))
    write_parquet(tmp_path / "train", [["new", "row", 0.5]])
    assert content_hash(read_pairs(settings, "train")) != before


def test_only_reading_the_report_split_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = data.read_table
    monkeypatch.setattr(
        data, "read_table", lambda source, split, texts: opened.append(split) or real(source, split, texts)
    )
    settings = DataSettings(source=str(folder_of(tmp_path)))
    read_pairs(settings, "train")
    read_pairs(settings, "select")
    assert opened == ["train", "validation"]


@settings(deadline=None)  # the first example makes the pairs
@given(sizes=st.tuples(st.integers(1, 2000), st.integers(1, 2000)))
def test_a_smaller_sample_is_part_of_a_larger_one(sizes: tuple[int, int]) -> None:
    small, large = (read_pairs(DataSettings(train_rows=size), "train") for size in sorted(sizes))
    assert len(small) == min(sizes)
    assert small.first == large.first[: len(small)]


def test_a_sample_is_shuffled_and_leaves_the_other_splits_whole() -> None:
    whole, sample = DataSettings(), DataSettings(train_rows=2000)
    assert sorted(read_pairs(whole, "train").first) == sorted(read_pairs(sample, "train").first)
    assert read_pairs(whole, "train").first != read_pairs(sample, "train").first
    assert len(read_pairs(DataSettings(train_rows=5), "select")) == 400


def test_more_rows_than_there_are_is_a_mistake() -> None:
    assert problems_of(DataSettings(train_rows=2001)) == [
        "data.train_rows is 2001, but synthetic has 2000 training rows"
    ]


def test_overlaps_count_pairs_in_either_order(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train", [["a", "b", 0.1], ["b", "a", 0.2], ["c", "d", 0.3]])
    write_parquet(tmp_path / "validation", [["d", "c", 0.3], ["e", "f", 0.3]])
    write_parquet(tmp_path / "test", [["f", "e", 0.3], ["g", "h", 0.3]])
    counts = data_facts(DataSettings(source=str(tmp_path))).overlaps
    expected = {"train repeated": 1, "train in select": 1, "train in report": 0, "select in report": 1}
    assert expected.items() <= counts.items()


def test_all_problems_of_all_splits_are_named_at_once(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train", [["a", "b", 3.8], ["", "b", 0.5], ["a", "  ", 4.0]])
    (tmp_path / "validation.csv").write_text("sentence_1,sentence2,score\na,b,0.5\n")
    found = problems_of(DataSettings(source=str(tmp_path)))
    assert len(found) == 5
    assert any("'sentence1' has no text at row 2: ''" in problem for problem in found)
    assert any("'sentence2' has no text at row 3" in problem for problem in found)
    assert any("outside 0..1 at row 1: 3.8, row 3: 4.0" in problem and "score_max" in problem for problem in found)
    assert any("no column 'sentence1'" in problem and "did you mean 'sentence_1'" in problem for problem in found)
    assert any("no file for split 'test'" in problem for problem in found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sentence1": "a", "sentence2": "b", "score": "high"}', "has no number at row 2: 'high'"),
        ('{"sentence1": "a", "sentence2": "b", "score": NaN}', "has no number at row 2: nan"),
        ('{"sentence1": "a", "sentence2": null, "score": 1}', "'sentence2' has no text at row 2: None"),
        ('{"sentence1": "a", "sentence2": "b"}', "has no number at row 2: None"),
        ('{"sentence1": "a", ', "train.jsonl:2: is no JSON object"),
        ("7", "train.jsonl:2: is no JSON object"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    folder_of(tmp_path)
    (tmp_path / "train.parquet").unlink()
    (tmp_path / "train.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n' + line)
    assert any(message in problem for problem in problems_of(DataSettings(source=str(tmp_path))))


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("sentence1,sentence2,score\na,b,0.5,surplus\n")
    (tmp_path / "validation.parquet").write_bytes(b"no parquet")
    write_parquet(tmp_path / "test", [])
    found = problems_of(DataSettings(source=str(tmp_path)))
    assert [problem.partition(": ")[0].rpartition("/")[2] for problem in found] == [
        "train.csv",
        "validation.parquet",
        "test.parquet",
    ]
    assert found[2].endswith("has no rows")


def test_two_files_for_a_split_are_a_mistake(tmp_path: Path) -> None:
    write_csv(folder_of(tmp_path) / "train", ROWS)
    assert "split 'train' has 2 files: train.parquet, train.csv" in problems_of(DataSettings(source=str(tmp_path)))[0]


def test_a_missing_source_is_one_problem(tmp_path: Path) -> None:
    assert problems_of(DataSettings(source=str(tmp_path / "none"))) == [
        f"data.source: there is no folder {tmp_path / 'none'}"
    ]
    (tmp_path / "file.csv").write_text("")
    assert len(problems_of(DataSettings(source=str(tmp_path / "file.csv")))) == 1


class Hub:
    """The hub, with one set of one configuration; it answers as `datasets` does."""

    def __init__(self, columns: dict[str, list[object]], subset: str | None = None) -> None:
        self.columns, self.subset = columns, subset

    def get_dataset_split_names(self, path: str, config_name: str | None = None) -> list[str]:
        if config_name != self.subset:
            raise ValueError(
                "Config name is missing.\nPlease pick one among the available configs: ['en', 'de']\nExample"
            )
        return ["train", "validation", "test"]

    def load_dataset(self, path: str, name: str | None, split: str) -> object:
        import datasets

        assert name == self.subset
        return datasets.Dataset.from_dict(self.columns)


def reach(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets, "get_dataset_split_names", hub.get_dataset_split_names)
    monkeypatch.setattr(datasets, "load_dataset", hub.load_dataset)


def test_a_hub_set_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reach(Hub(dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True))), monkeypatch)
    assert read_pairs(DataSettings(source="someone/read"), "train").scores.tolist() == [0.25, 1.0, 0.0]
    assert "someone/read: no split 'valid' (did you mean 'validation'?)" in problems_of(
        DataSettings(source="someone/read", select="valid")
    )


def test_a_hub_set_of_several_configurations_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    reach(Hub({}, subset="en"), monkeypatch)
    (found,) = problems_of(DataSettings(source="someone/languages"))
    assert "Config name is missing. Please pick one among the available configs: ['en', 'de']" in found


def test_a_hub_name_that_cannot_be_reached_is_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(source: str, subset: str | None) -> list[str]:
        raise ConnectionError(f"Couldn't reach '{source}' on the Hub\nand more")

    monkeypatch.setattr(datasets, "get_dataset_split_names", unreachable)
    (found,) = problems_of(DataSettings(source="someone/pairs"))
    assert "Couldn't reach 'someone/pairs'" in found
    assert "save_to_disk" in found


def test_scores_cannot_be_changed_by_a_trial() -> None:
    with pytest.raises(ValueError, match="read-only"):
        read_pairs(DataSettings(), "train").scores[0] = 0.0
    assert isinstance(read_pairs(DataSettings(), "train").scores, np.ndarray)
