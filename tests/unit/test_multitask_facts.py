"""Facts about several tasks' data: rows, hashes, what stands in two of them, and every mistake with its place."""

from pathlib import Path
from typing import Any

import pytest

from raysweep.problems import Problem, UserError
from raysweep.recipe import DataFacts
from tests.task_folders import Row, folder_of, write_jsonl
from trainables.parts.data import SPLITS
from trainables.parts.multitask import facts as under_test
from trainables.parts.multitask.facts import multitask_facts
from trainables.parts.multitask.settings import HeadSettings, MultitaskConfig, ProbeSettings
from trainables.parts.task_data import examples_facts
from trainables.parts.task_settings import TaskDataSettings

PLACES = {"select": "select", "report": "report"}


def texts(*found: str) -> list[Row]:
    return [{"sentence": text, "label": n % 2} for n, text in enumerate(found)]


def pairs(*found: tuple[str, str]) -> list[Row]:
    return [
        {"sentence1": one, "sentence2": other, "label": n % 6, "score": n / 10} for n, (one, other) in enumerate(found)
    ]


def opinion(path: Path, **more: Any) -> TaskDataSettings:
    """Two texts of its train stand elsewhere: "a dog", "the cat"."""
    splits = {"train": texts("a dog", "the cat", "snow", "snow"), "select": texts("a", "b"), "report": texts("c", "a")}
    return TaskDataSettings(task="sst2", source=folder_of(path / "opinion", write_jsonl, **splits), **PLACES, **more)


def likeness(path: Path, **more: Any) -> TaskDataSettings:
    """One text of its train, "z", stands in its own select, but no pair does."""
    splits = {
        "train": pairs(("a", "b"), ("x", "y"), ("z", "b")),
        "select": pairs((" a dog ", "the cat"), ("z", "k")),
        "report": pairs(("r", "s"), ("the cat", "t")),
    }
    return TaskDataSettings(task="stsb", source=folder_of(path / "likeness", write_jsonl, **splits), **PLACES, **more)


def probe_of(path: Path, **more: Any) -> ProbeSettings:
    splits = {"validation": pairs(("x", "v"), ("a dog", "w")), "test": pairs(("u", "o"), ("i", "e"), ("y", "x"))}
    return ProbeSettings(enabled=True, source=folder_of(path / "probe", write_jsonl, **splits), **more)


def config_of(probe: ProbeSettings | None = None, **tasks: TaskDataSettings) -> MultitaskConfig:
    heads = {name: HeadSettings(data=data) for name, data in tasks.items()}
    return MultitaskConfig(tasks=heads, **({} if probe is None else {"probe": probe}))


def both(path: Path, probe: ProbeSettings | None = None) -> DataFacts:
    return multitask_facts(config_of(probe, topic=opinion(path), close=likeness(path)))


def test_rows_and_hashes_are_told_of_all_and_of_each(tmp_path: Path) -> None:
    facts, own = both(tmp_path), {"topic": opinion(tmp_path), "close": likeness(tmp_path)}
    parts = {name: examples_facts(data) for name, data in own.items()}
    assert {split: facts.rows[split] for split in SPLITS} == {"train": 7, "select": 4, "report": 4}
    assert facts.rows["topic train"] == 4
    assert facts.rows["close report"] == 2
    for name, part in parts.items():
        assert part.rows == {split: facts.rows[f"{name} {split}"] for split in part.rows}
        assert part.hashes == {split: facts.hashes[f"{name} {split}"] for split in part.hashes}
    assert len({facts.hashes[split] for split in SPLITS}) == 3
    assert (facts.name, facts.source) == ("likeness + opinion", f"{tmp_path}/likeness + {tmp_path}/opinion")
    assert not facts.synthetic


def test_the_hash_of_all_is_that_of_the_tasks_in_the_order_of_their_names(tmp_path: Path) -> None:
    one = both(tmp_path)
    turned = multitask_facts(config_of(close=likeness(tmp_path), topic=opinion(tmp_path)))
    swapped = multitask_facts(config_of(close=opinion(tmp_path), topic=likeness(tmp_path)))
    assert one == turned
    assert swapped.hashes["train"] != one.hashes["train"]
    fewer = multitask_facts(config_of(topic=opinion(tmp_path), close=likeness(tmp_path, train_rows=2)))
    assert fewer.rows["train"] == 6
    assert fewer.hashes["train"] != one.hashes["train"]
    assert fewer.hashes["select"] == one.hashes["select"]


def test_texts_of_one_tasks_train_are_counted_where_another_is_scored(tmp_path: Path) -> None:
    found = {where: count for where, count in both(tmp_path).overlaps.items() if count}
    assert found == {
        "topic train repeated": 1,  # snow
        "topic select in report": 1,  # a
        "topic train in close select": 2,  # a dog, the cat
        "topic train in close report": 1,  # the cat
        "close train in topic select": 2,  # a, b
        "close train in topic report": 1,  # a
    }


def test_what_is_trained_on_by_two_tasks_is_no_mistake(tmp_path: Path) -> None:
    overlaps = multitask_facts(config_of(one=opinion(tmp_path), two=opinion(tmp_path))).overlaps
    assert {where for where in overlaps if where.startswith("one train in two")} == {
        "one train in two select", "one train in two report"
    }  # fmt: skip


def test_the_probes_pairs_are_told_and_looked_for_in_every_train(tmp_path: Path) -> None:
    facts = both(tmp_path, probe_of(tmp_path))
    assert (facts.rows["probe select"], facts.rows["probe report"]) == (2, 3)
    assert "probe train" not in facts.rows
    assert facts.hashes["probe select"] != facts.hashes["probe report"]
    assert facts.rows["select"] == 4, "no task is selected by them"
    found = {where: count for where, count in facts.overlaps.items() if "probe" in where}
    assert found == {
        "topic train in probe select": 1,  # a dog
        "topic train in probe report": 0,
        "close train in probe select": 1,  # x
        "close train in probe report": 2,  # x, y
    }
    assert facts.source.endswith("/probe")
    assert "probe" not in facts.name
    assert both(tmp_path) == both(tmp_path, probe_of(tmp_path).model_copy(update={"enabled": False}))


def test_further_report_splits_count_too(tmp_path: Path) -> None:
    folder_of(tmp_path / "likeness", write_jsonl, more=pairs(("snow", "a dog"), ("e", "f")))
    facts = multitask_facts(config_of(topic=opinion(tmp_path), close=likeness(tmp_path, also=("more",))))
    assert facts.rows["close more"] == 2
    assert facts.overlaps["topic train in close more"] == 2


def test_an_empty_side_of_a_pair_is_no_text(tmp_path: Path) -> None:
    data = likeness(tmp_path)
    folder_of(tmp_path / "likeness", write_jsonl, train=pairs(("", "k"), ("l", "m")))
    half = {name: pairs(("", f"{name} n"), ("o", "p")) for name in ("train", "select", "report")}
    other = TaskDataSettings(task="stsb", source=folder_of(tmp_path / "other", write_jsonl, **half), **PLACES)
    overlaps = multitask_facts(config_of(one=data, two=other)).overlaps
    assert overlaps["one train in two select"] == overlaps["one train in two report"] == 0


def test_one_made_up_part_makes_all_of_it_synthetic(tmp_path: Path) -> None:
    made_up = TaskDataSettings(task="mnli")
    facts = multitask_facts(config_of(topic=opinion(tmp_path), logic=made_up))
    assert facts.synthetic
    assert facts.source == f"synthetic + {tmp_path}/opinion"
    assert "logic validation_mismatched" in facts.rows
    assert both(tmp_path, ProbeSettings(enabled=True)).synthetic


def test_every_problem_is_told_with_its_task(tmp_path: Path) -> None:
    broken = probe_of(tmp_path, score="grade")
    tasks = {
        "topic": opinion(tmp_path, train_rows=99),
        "close": likeness(tmp_path, target="grade"),
        "lost": TaskDataSettings(task="sst2", source=str(tmp_path / "opinion"), report="nowhere"),
        "good": opinion(tmp_path),
    }
    with pytest.raises(UserError) as caught:
        multitask_facts(config_of(broken, **tasks), [Problem("the encoder is not there")])
    first, *found = [str(problem) for problem in caught.value.problems]
    assert first == "the encoder is not there"
    for place, words in {
        "tasks.topic": "data.train_rows is 99",
        "tasks.close": "no column 'grade'",
        "tasks.lost": "no file for split 'nowhere'",
        "probe": "no column 'grade'",
    }.items():
        assert any(f"{place}: {words}" in problem for problem in found), (place, found)
    assert not any("tasks.good" in problem for problem in found)


def test_problems_found_elsewhere_are_told_of_good_data_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the encoder is not there"):
        multitask_facts(config_of(topic=opinion(tmp_path)), [Problem("the encoder is not there")])


def test_texts_are_compared_once_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = under_test.read_examples
    monkeypatch.setattr(under_test, "read_examples", lambda *given: read.append("") or real(*given))
    config = config_of(topic=opinion(tmp_path), close=likeness(tmp_path))
    found = multitask_facts(config)
    first = len(read)
    assert multitask_facts(config) == found
    assert len(read) == first > 0
    folder_of(tmp_path / "opinion", write_jsonl, train=texts("z", "r", "s", "t", "u"))
    assert multitask_facts(config).overlaps["topic train in close select"] == 1  # z
