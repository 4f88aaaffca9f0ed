"""The settings of a task's data: what does not fit is refused before anything is read."""

from typing import Any

import pytest
from pydantic import ValidationError

from raysweep.space.fields import Fields
from trainables.parts.task_settings import TaskDataSettings


def refusal(**given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        TaskDataSettings(**given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "classification", "source": "x"}, "needs the names of its labels"),
        ({"task": "classification", "labels": ["one"]}, "two or more different names, found one"),
        ({"task": "classification", "labels": ["One", "one "]}, "two or more different names"),
        ({"task": "rte", "labels": ["entailmnt", "not_entailment"]}, "(did you mean 'entailment'?)"),
        (
            {"task": "rte", "labels": ["entailment", "not_entailment", "neutral"]},
            "labels of task rte are entailment, not_",
        ),
        ({"task": "stsb", "labels": ["a", "b"]}, "labels are for classification, and task stsb is regression"),
        ({"task": "regression", "source": "hub"}, "task regression has no set of its own on the hub"),
        ({"task": "cola", "second": "context"}, "task cola has one text: leave out second"),
        ({"task": "cola", "score_max": 5.0}, "score_max is for regression"),
        ({"task": "squad", "unlabelled": True}, "unlabelled is for labels and numbers, and task squad has answers"),
        ({"report": "train"}, "train and report are both 'train'"),
        ({"select": "validation"}, "select and report are both 'validation'"),
        ({"also": ["validation"]}, "report and also are both 'validation'"),
        ({"also": ["more", "more"]}, "also and also are both 'more'"),
        ({"also": ["select"]}, "also holds 'select', which is what another split is called"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any], message: str) -> None:
    assert message in refusal(**given)


def test_all_mistakes_in_the_settings_are_named_at_once() -> None:
    found = refusal(task="sst2", second="x", score_max=2.0, labels=["a", "b"], report="train")
    assert all(word in found for word in ("leave out second", "score_max", "labels of task sst2", "both 'train'"))


def test_a_sweep_file_may_hold_the_lists() -> None:
    fields = Fields(TaskDataSettings)
    assert fields.complaint("labels", ["a", "b"]) is None
    assert fields.complaint("also", []) is None
    assert "expected a list" in str(fields.complaint("labels", "a"))
    assert "expected text" in str(fields.complaint("labels", [1, 2]))
