"""The settings of a task's data, and what they come to once the task's own columns, splits and labels fill the gaps."""

import itertools
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, Strict, model_validator
from typing_extensions import Self

from raysweep.problems import did_you_mean
from raysweep.recipe import Settings
from trainables.parts import synthetic_tasks
from trainables.parts.data import SPLITS
from trainables.parts.tasks import OWN, TASKS, Task, TaskName

Names = Annotated[tuple[str, ...], Strict(False)]  # a list in YAML; a tuple, as settings are keys of caches


class TaskDataSettings(Settings):
    """A task, and where its examples come from; what is not given is the task's own."""

    task: TaskName = Field("sst2", description="what is learned; classification or regression for data of your own")
    source: str = Field(
        "synthetic", description="'synthetic', 'hub' (the task's own set), a folder with a file by split, or a hub name"
    )
    subset: str | None = Field(None, description="configuration of the hub set; the task's own for its own set")
    train: str | None = Field(None, description="split or file to train on")
    select: str | None = Field(
        None, description="split or file that the search goes by; for a task without one, or where it is that of train,"
        " select_share of the training rows is held out"
    )  # fmt: skip
    report: str | None = Field(None, description="split or file that is opened only for the proof")
    also: Names | None = Field(None, description="further splits or files that the proof reports on; [] for none")
    first: str | None = Field(None, description="column of the first or only text; of the question, for spans")
    second: str | None = Field(None, description="column of the second text; of the context, for spans")
    target: str | None = Field(None, description="column of the labels, scores or answers")
    labels: Names | None = Field(
        None, description="names of the labels in the order in which the source numbers them, from 0; needed for"
        " task classification, also where the column holds names"
    )  # fmt: skip
    unlabelled: bool = Field(
        False, description="leave out rows without a label (empty or -1) instead of refusing them; snli always does"
    )
    select_share: float = Field(0.05, gt=0, le=0.5, description="share of training rows that is held out to select by")
    train_rows: int | None = Field(
        None, ge=1, description="train on so many of the rows left, a seeded stratified sample; all, if not given"
    )
    score_max: float | None = Field(
        None, gt=0, description="regression: what targets are divided by to lie in 0..1 (stsb: 5.0)"
    )

    @model_validator(mode="after")
    def _suit_the_task(self) -> Self:
        if mistakes := [*_wrong_source(self), *_wrong_splits(self), *_wrong_columns(self), *_wrong_labels(self)]:
            raise ValueError("; ".join(mistakes))
        return self


@dataclass(frozen=True, slots=True)
class Layout:
    """How a source is read: `names` are its labels by number, `labels` the same in canonical order.

    With `unlabelled` its rows without a label are left out.
    """

    task: Task
    source: str
    subset: str | None
    texts: tuple[str, ...]
    target: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    score_max: float
    unlabelled: bool


def layout_of(settings: TaskDataSettings) -> Layout:
    """What the settings come to."""
    task, own_set = TASKS[settings.task], settings.source
    if settings.source == "hub":
        assert task.hub is not None, "settings are validated"
        own_set = task.hub
    subset = settings.subset or (task.subset if own_set == task.hub else None)
    texts = itertools.zip_longest((settings.first, settings.second), task.texts)
    labels = labels_of(settings)
    return Layout(
        task,
        own_set,
        subset,
        tuple(given or own for given, own in texts if given or own),
        settings.target or task.target,
        settings.labels or labels,
        labels,
        settings.score_max or task.target_max,
        settings.unlabelled or task.unlabelled,
    )


def labels_of(settings: TaskDataSettings) -> tuple[str, ...]:
    """The labels in canonical order: class number i is the i-th of them. None where no classes are learned."""
    task = TASKS[settings.task]
    made_up = synthetic_tasks.LABELS if task.kind == "classification" else ()
    return task.labels or settings.labels or made_up


def splits_of(settings: TaskDataSettings) -> dict[str, str]:
    """The source's name of each split; select is that of train where it is carved out of it."""
    task = TASKS[settings.task]
    train = settings.train or task.train
    select = settings.select or task.select or train
    return {"train": train, "select": select, "report": settings.report or task.report}


def also_of(settings: TaskDataSettings) -> tuple[str, ...]:
    """The further report splits."""
    return TASKS[settings.task].also if settings.also is None else settings.also


def _wrong_source(settings: TaskDataSettings) -> list[str]:
    if settings.source != "hub" or TASKS[settings.task].hub is not None:
        return []
    return [f"task {settings.task} has no set of its own on the hub: name a folder or a hub set as source"]


def _wrong_splits(settings: TaskDataSettings) -> list[str]:
    named = splits_of(settings)
    used = [*named.items(), *(("also", name) for name in also_of(settings))]
    twice = [
        f"{one} and {other} are both '{split}': rows that were used before prove nothing"
        for (one, split), (other, same) in itertools.combinations(used, 2)
        if split == same and (one, other) != ("train", "select")
    ]
    taken = [
        f"also holds '{name}', which is what another split is called" for name in also_of(settings) if name in SPLITS
    ]
    return twice or taken


def _wrong_columns(settings: TaskDataSettings) -> list[str]:
    task, mistakes = TASKS[settings.task], []
    if settings.second is not None and len(task.texts) == 1 and settings.task not in OWN:
        mistakes.append(f"task {settings.task} has one text: leave out second")
    if settings.score_max is not None and task.kind != "regression":
        mistakes.append(f"score_max is for regression, and task {settings.task} is {task.kind}")
    if settings.unlabelled and task.kind == "span":
        mistakes.append(f"unlabelled is for labels and numbers, and task {settings.task} has answers: leave it out")
    return mistakes


def _wrong_labels(settings: TaskDataSettings) -> list[str]:
    task, given = TASKS[settings.task], settings.labels
    if given is None:
        needed = task.kind == "classification" and not task.labels and settings.source != "synthetic"
        example = "labels: [name of class 0, name of class 1]"
        return [f"task {settings.task} needs the names of its labels, {example}"] if needed else []
    if task.kind != "classification":
        return [f"labels are for classification, and task {settings.task} is {task.kind}"]
    names = [name.strip().casefold() for name in given]
    if len(set(names)) < max(2, len(names)) or "" in names:
        return [f"labels need two or more different names, found {', '.join(given) or 'none'}"]
    if task.labels and sorted(names) != sorted(task.labels):
        wrong = next((name for name in names if name not in task.labels), "")
        hint = did_you_mean(wrong, task.labels) if wrong else None
        return [f"labels of task {task.name} are {', '.join(task.labels)}, found {', '.join(given)}"
                + (f" ({hint})" if hint else "")]  # fmt: skip
    return []
