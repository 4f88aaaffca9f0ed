"""The table of tasks: what a mistake in it would break silently."""

from typing import get_args

import pytest

from raysweep.trial import Statistic
from trainables.parts.tasks import TASKS, Task, TaskName

GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
COLUMNS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "stsb": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
    "squad": ("question", "context"),
    "imdb": ("text",),
    "snli": ("premise", "hypothesis"),
    "ag_news": ("text",),
    "trec": ("text",),
    "classification": ("text",),
    "regression": ("text",),
}


def test_the_columns_are_those_of_the_hub() -> None:
    assert {name: task.texts for name, task in TASKS.items()} == COLUMNS
    others = {"squad": "answers", "trec": "coarse_label", "regression": "score"}
    assert {name: task.target for name, task in TASKS.items()} == {name: others.get(name, "label") for name in TASKS}


def test_the_hidden_labels_of_glue_are_never_asked_for() -> None:
    for name in GLUE:
        task = TASKS[name]  # type: ignore[index]
        assert (task.hub, task.subset) == ("nyu-mll/glue", name)
        assert "test" not in (task.train, task.select, task.report, *task.also)
        assert task.select is None, "carved out of train"
    assert (TASKS["mnli"].report, TASKS["mnli"].also) == ("validation_matched", ("validation_mismatched",))


@pytest.mark.parametrize(
    ("name", "select", "report"),
    [
        ("squad", None, "validation"),
        ("imdb", None, "test"),
        ("snli", "validation", "test"),
        ("ag_news", None, "test"),
        ("trec", None, "test"),
    ],
)
def test_the_other_sets_report_on_their_last_split(name: TaskName, select: str | None, report: str) -> None:
    assert (TASKS[name].select, TASKS[name].report, TASKS[name].subset) == (select, report, None)


def test_labels_stand_in_the_order_of_the_hub() -> None:
    inference = ("entailment", "neutral", "contradiction")
    assert TASKS["mnli"].labels == TASKS["snli"].labels == inference
    assert TASKS["rte"].labels == TASKS["qnli"].labels == ("entailment", "not_entailment")
    assert TASKS["wnli"].labels == ("not_entailment", "entailment")
    assert [TASKS[name].labels[1] for name in ("mrpc", "qqp")] == ["equivalent", "duplicate"]  # type: ignore[index]
    assert TASKS["cola"].labels == ("unacceptable", "acceptable")
    assert TASKS["sst2"].labels == TASKS["imdb"].labels == ("negative", "positive")
    assert TASKS["ag_news"].labels == ("world", "sports", "business", "sci_tech")
    # ABBR, ENTY, DESC, HUM, LOC and NUM of the hub
    assert TASKS["trec"].labels == ("abbreviation", "entity", "description", "human", "location", "number")


def test_each_task_is_scored_by_its_own_metric() -> None:
    own = {"cola": "matthews", "mrpc": "f1", "qqp": "f1", "stsb": "spearman", "regression": "spearman", "squad": "mean"}
    assert {name: task.score for name, task in TASKS.items()} == {name: own.get(name, "accuracy") for name in TASKS}
    assert {task.score for task in TASKS.values()} <= set(get_args(Statistic))
    assert TASKS["stsb"].target_max == 5.0


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_row_of_the_table_holds_together(task: Task) -> None:
    assert bool(task.labels) == (task.kind == "classification" and task.hub is not None)
    assert len(set(task.labels)) == len(task.labels)
    assert task.target_max == 1.0 or task.kind == "regression"
    splits = [task.train, task.report, *task.also, *([task.select] if task.select else [])]
    assert len(set(splits)) == len(splits)
