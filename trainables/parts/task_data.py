"""The examples of a task by split: of a source, or made up. What the search goes by may be carved out of train.

The report split, and further ones, are only ever opened through `read_examples(settings, "report")`.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from raysweep.problems import Problem, UserError
from raysweep.recipe import DataFacts
from trainables.parts import synthetic_tasks
from trainables.parts.carving import carve, sample
from trainables.parts.columns import every_split, overlaps
from trainables.parts.data import SPLITS, Split
from trainables.parts.examples import Examples, Table, content_hash, keys, read_split, strata
from trainables.parts.tables import NoSplitError, stamp
from trainables.parts.task_settings import Layout, TaskDataSettings, also_of, labels_of, layout_of, splits_of

__all__ = ["Examples", "Split", "TaskDataSettings", "also_of", "examples_facts", "labels_of", "read_examples"]


def read_examples(settings: TaskDataSettings, split: Split, also: str | None = None) -> Examples:
    """The examples of a split; `also` names a further report split. Raises UserError with all that is wrong with it."""
    assert also is None or (split == "report" and also in also_of(settings))
    return _read(settings, also or split).examples


def examples_facts(settings: TaskDataSettings, problems: Sequence[Problem] = ()) -> DataFacts:
    """Rows and content hash of each split, and what repeats.

    Raises UserError with the problems of all splits behind `problems`, which were found elsewhere.
    """
    try:
        layout = layout_of(settings)
        facts = _facts(settings, None if layout.source == "synthetic" else stamp(layout.source))
    except UserError as error:
        raise UserError([*problems, *error.problems]) from error
    if problems:
        raise UserError(list(problems))
    return facts


@lru_cache(maxsize=8)
def _facts(settings: TaskDataSettings, stamp: object) -> DataFacts:
    """Found once for all configurations on the same data; `stamp` changes when its files do."""
    tables = every_split(partial(_read, settings), [*SPLITS, *also_of(settings)])
    splits = {name: table.examples for name, table in tables.items()}
    rows = {name: len(examples) for name, examples in splits.items()}
    left_out = {f"{name} left out without label": table.left_out for name, table in tables.items() if table.left_out}
    name, source = _called(settings)
    return DataFacts(
        name,
        source,
        synthetic=settings.source == "synthetic",
        rows=rows | left_out,
        hashes={name: content_hash(examples) for name, examples in splits.items()},
        overlaps=overlaps({name: keys(examples) for name, examples in splits.items()}),
    )


def _called(settings: TaskDataSettings) -> tuple[str, str]:
    """What the data are called, and where they are from."""
    if settings.source == "synthetic":
        return f"synthetic {settings.task}-like texts", "synthetic"
    layout = layout_of(settings)
    subset = [layout.subset] if layout.subset else []
    return "-".join([layout.source.rstrip("/").rpartition("/")[2], *subset]), " ".join([layout.source, *subset])


def _read(settings: TaskDataSettings, name: str) -> Table:
    """A split by its name here, or a further one by its own; of train as many rows as are wanted."""
    layout = layout_of(settings)
    table = _whole(settings, layout, name)
    if name != "train" or settings.train_rows is None:
        return table
    if settings.train_rows > len(table.examples):
        found = f"{_called(settings)[0]} has {len(table.examples)} training rows"
        raise UserError(f"data.train_rows is {settings.train_rows}, but {found}")
    rows = sample(strata(layout.task.kind, table.examples), settings.train_rows)
    return replace(table, examples=table.examples.take(rows))


def _whole(settings: TaskDataSettings, layout: Layout, name: str) -> Table:
    if layout.source == "synthetic":
        return _made_up(layout, [*SPLITS, *also_of(settings)].index(name))
    splits = splits_of(settings)
    if splits["train"] == splits["select"] and name in ("train", "select"):
        halves = _carved(layout, splits["train"], settings.select_share, stamp(layout.source))
        return halves[name == "select"]
    try:
        table = read_split(layout, splits.get(name, name), stamp(layout.source))
    except NoSplitError as error:
        raise NoSplitError([_with_way_out(settings, name, problem) for problem in error.problems]) from error
    if name == "train":
        _check_classes(layout, table.examples, splits["train"])
    return table


def _with_way_out(settings: TaskDataSettings, name: str, problem: Problem) -> Problem:
    """What else can be done about a missing split that the task has and the source has not."""
    way_out = None
    if name == "select" and settings.select is None:
        train = splits_of(settings)["train"]
        way_out = f"data.select: {train} holds out data.select_share of the training rows"
    if name not in SPLITS and settings.also is None:
        way_out = "data.also: [] does without it"
    return replace(problem, hint="; ".join(filter(None, (problem.hint, way_out))) or None)


@lru_cache(maxsize=6)
def _made_up(layout: Layout, place: int) -> Table:
    sides = len(layout.texts)
    texts, targets, answers = zip(*synthetic_tasks.rows(layout.task.kind, sides, layout.labels, place), strict=True)
    first, *second = (list(side) for side in zip(*texts, strict=True))
    gold = list(answers) if layout.task.kind == "span" else None
    return Table(Examples(first, second[0] if second else None, np.array(targets), gold))


@lru_cache(maxsize=6)
def _carved(layout: Layout, split: str, share: float, stamp: object) -> tuple[Table, Table]:
    """Train and select of one split. Questions about one context stay together."""
    table = read_split(layout, split, stamp)
    examples, kind = table.examples, layout.task.kind
    _check_classes(layout, examples, split)
    together = examples.second if kind == "span" and examples.second is not None else keys(examples)
    kept, held_out = carve(together, strata(kind, examples), share)
    if not len(kept) or not len(held_out):
        left = f"leaves {len(kept)} to train on and {len(held_out)} to select by"
        message = f"data.select_share {share:g} of {len(examples)} rows {left}"
        hint = "name a split of its own for data.select, or change data.select_share"
        raise UserError([Problem(message, f"{layout.source} ({split})", hint=hint)])
    return replace(table, examples=examples.take(kept)), Table(examples.take(held_out))


def _check_classes(layout: Layout, train: Examples, split: str) -> None:
    """Raises UserError where a class has no row to learn it from."""
    missing = set(range(len(layout.labels))) - set(train.targets.astype(int).tolist())
    if missing:
        names = ", ".join(layout.labels[number] for number in sorted(missing))
        hint = "leave out of data.labels what the data do not have" if not layout.task.labels else None
        raise UserError([Problem(f"no row to train on has the label {names}", f"{layout.source} ({split})", hint=hint)])
