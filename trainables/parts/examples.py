"""Examples of a task, and how a split of a source becomes them: columns are read, checked whole, and cached."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from raysweep.problems import Problem, UserError
from trainables.parts.carving import Rows, tenths
from trainables.parts.columns import bad_scores, bad_texts, check_columns, rows_hash, scaled
from trainables.parts.tables import Columns, read_table
from trainables.parts.targets import (
    UNLABELLED,
    WAY_OUT,
    Answers,
    bad_classes,
    class_numbers,
    gold_answers,
    has_no_label,
)
from trainables.parts.task_settings import Layout
from trainables.parts.tasks import Kind


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts, and what is to be said of them. Shared between trials: do not change them.

    `second` is None where a task has one text; for spans `first` is the question and `second` the context. `targets`
    (N,) are class numbers in canonical order, scores 0 to 1, or 0 for spans. `answers`, for spans, are every gold
    answer of each question: its text, and where in the context its first character stands.
    """

    first: list[str]
    second: list[str] | None
    targets: npt.NDArray[np.float64]
    answers: list[Answers] | None = None

    def __post_init__(self) -> None:
        self.targets.flags.writeable = False

    def __len__(self) -> int:
        return len(self.first)

    @property
    def texts(self) -> list[str] | list[tuple[str, str]]:
        """What a tokenizer takes: each text, or each pair."""
        return self.first if self.second is None else list(zip(self.first, self.second, strict=True))

    def take(self, rows: Rows) -> "Examples":
        """These rows, in this order."""
        second = None if self.second is None else [self.second[row] for row in rows]
        answers = None if self.answers is None else [self.answers[row] for row in rows]
        return Examples([self.first[row] for row in rows], second, self.targets[rows], answers)


@dataclass(frozen=True, slots=True)
class Table:
    """The examples of a split of the source, and how many rows were left out of it, as they have no label."""

    examples: Examples
    left_out: int = 0


@lru_cache(maxsize=6)
def read_split(layout: Layout, split: str, stamp: object) -> Table:
    """All examples of a split of the source; `stamp` changes when its file does. Raises UserError."""
    columns, place = read_table(layout.source, split, (*layout.texts, layout.target), layout.subset)
    wanted = dict(zip(("first", "second"), layout.texts, strict=False))
    check_columns(columns, {**wanted, "target": layout.target}, place)
    return _checked(layout, columns, place)


def _checked(layout: Layout, columns: Columns, place: str) -> Table:
    texts, raw = [columns[name] for name in layout.texts], columns[layout.target]
    if layout.task.kind != "span" and all(map(has_no_label, raw)):
        hint = "the test labels of GLUE are hidden: use its validation split" if layout.task.subset else None
        raise UserError([Problem(f"column '{layout.target}' has no labels at all", place, hint=hint)])
    targets, answers, problems = _targets(layout, raw, texts[-1], place)
    problems = _bad_texts(layout, texts, place) + problems
    if problems:
        raise UserError(problems)
    examples = Examples(texts[0], texts[1] if len(texts) > 1 else None, targets, answers)
    labelled = np.flatnonzero(targets != UNLABELLED)
    return (
        Table(examples.take(labelled), len(targets) - len(labelled))
        if len(labelled) < len(targets)
        else Table(examples)
    )


def _targets(
    layout: Layout, raw: list[object], contexts: list[object], place: str
) -> tuple[npt.NDArray[np.float64], list[Answers] | None, list[Problem]]:
    kind, column = layout.task.kind, layout.target
    if kind == "span":
        answers, problems = gold_answers(raw, contexts, column, place)
        return np.zeros(len(raw)), answers, problems
    if kind == "regression":
        scores = scaled(raw, layout.score_max)
        without = np.array([layout.unlabelled and has_no_label(value) for value in raw])
        way_out = WAY_OUT if not layout.unlabelled and any(map(has_no_label, raw)) else None
        problems = bad_scores(column, raw, np.where(without, 0.0, scores), layout.score_max, place, way_out)
        return np.where(without, UNLABELLED, scores), None, problems
    numbers = class_numbers(raw, layout.names, layout.labels)
    return numbers, None, bad_classes(column, raw, numbers, layout.names, place, layout.unlabelled)


def _bad_texts(layout: Layout, texts: list[list[object]], place: str) -> list[Problem]:
    besides = [None] if len(texts) == 1 else [None, None] if layout.task.kind == "span" else texts[::-1]
    found = zip(layout.texts, texts, besides, strict=True)
    return [problem for name, column, beside in found for problem in bad_texts(name, column, place, beside)]


def content_hash(examples: Examples) -> str:
    """sha256 of the rows as JSON lines of texts, target rounded to 6 digits, and answers if any, in order."""
    sides = [examples.first, *([] if examples.second is None else [examples.second])]
    rest = [examples.targets.round(6).tolist(), *([] if examples.answers is None else [examples.answers])]
    return rows_hash(zip(*sides, *rest, strict=True))


def keys(examples: Examples) -> list[frozenset[str]]:
    """What two rows share when they are the same: their texts, in either order; SST-2 ends some in a blank."""
    if examples.second is None:
        return [frozenset((text.strip(),)) for text in examples.first]
    pairs = zip(examples.first, examples.second, strict=True)
    return [frozenset((one.strip(), other.strip())) for one, other in pairs]


def strata(kind: Kind, examples: Examples) -> Rows:
    """What a sample keeps the shares of: classes, tenths of a regression's targets; spans have none, (N,)."""
    return tenths(examples.targets) if kind == "regression" else examples.targets.astype(np.int64)
