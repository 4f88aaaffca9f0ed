"""Folders with the examples of a task, as the tests of its data read them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from raysweep.problems import UserError
from trainables.parts.task_data import TaskDataSettings, examples_facts

Row = dict[str, Any]
Writer = Callable[[Path, list[Row]], None]


def write_parquet(file: Path, rows: list[Row]) -> None:
    names = rows[0] if rows else {"sentence": "", "label": 0}
    columns = {name: [row[name] for row in rows] for name in names}
    parquet.write_table(pyarrow.table(columns), file.with_suffix(".parquet"))


def write_jsonl(file: Path, rows: list[Row]) -> None:
    file.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(file: Path, rows: list[Row]) -> None:
    with file.with_suffix(".csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([list(rows[0]), *(list(row.values()) for row in rows)])


def write_tsv(file: Path, rows: list[Row]) -> None:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    file.with_suffix(".tsv").write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))


WRITERS = [write_parquet, write_jsonl, write_csv, write_tsv]


def sentences(count: int, start: int = 0) -> list[Row]:
    """Rows as SST-2 has them, of both labels in turn."""
    return [{"sentence": f"text {number}", "label": number % 2} for number in range(start, start + count)]


def premises(labels: list[Any], start: int = 0) -> list[Row]:
    """Rows as SNLI has them."""
    return [
        {"premise": f"p {start + n}", "hypothesis": f"h {start + n}", "label": label} for n, label in enumerate(labels)
    ]


def folder_of(path: Path, write: Writer = write_parquet, **splits: list[Row]) -> str:
    path.mkdir(exist_ok=True)
    for split, rows in splits.items():
        write(path / split, rows)
    return str(path)


def snli(path: Path, train: list[Any], **more: Any) -> TaskDataSettings:
    """SNLI with these labels in train, and one row of each label in the other splits."""
    splits = {"validation": premises([0, 1, 2], 100), "test": premises([0, 1, 2], 200)}
    return TaskDataSettings(task="snli", source=folder_of(path, write_jsonl, train=premises(train), **splits), **more)


def problems_of(wanted: TaskDataSettings) -> list[str]:
    with pytest.raises(UserError) as caught:
        examples_facts(wanted)
    return [str(problem) for problem in caught.value.problems]


def question(number: int, context: str, answers: tuple[list[str], list[int]]) -> Row:
    return {"question": f"q {number}", "context": context, "answers": {"text": answers[0], "answer_start": answers[1]}}


GOOD = question(0, "on the hill stood a red house", (["a red house", "red"], [18, 20]))


def squad(path: Path, train: list[Row], write: Writer = write_parquet, **more: Any) -> TaskDataSettings:
    return TaskDataSettings(task="squad", source=folder_of(path, write, train=train, validation=[GOOD]), **more)
