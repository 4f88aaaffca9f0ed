"""XNLI: one test of inference in 15 languages (Conneau et al. 2018, arXiv:1809.05053).

Row n of every language is a translation of the same pair. What is trained on, and what the search goes by, is that of
`data`; training rows of other languages may be added.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, Strict, ValidationError, model_validator
from typing_extensions import Self

from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.recipe import DataFacts, Settings
from raysweep.trial import Scored
from trainables.parts.carving import sample
from trainables.parts.examples import content_hash, keys, strata
from trainables.parts.tables import stamp
from trainables.parts.task_data import Examples, examples_facts, read_examples
from trainables.parts.task_settings import Names, TaskDataSettings, layout_of, splits_of
from trainables.parts.tasks import INFERENCE

LANGUAGES = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
ENGLISH = "en"
HUB = "facebook/xnli"
Codes = Annotated[tuple[str, ...], Strict(False)]  # a list in YAML; a tuple, as settings are keys of caches


class XnliSettings(Settings):
    """Languages to test in, and those whose training rows are added."""

    languages: Codes | Literal["all"] = Field(
        (), description="codes of the languages that the proof tests, or all (15); [] is no test of languages"
    )
    source: str = Field(
        "hub", description="'hub' (facebook/xnli), a folder with a folder for each language, or a hub name"
    )
    labels: Names | None = Field(
        None,
        description="names of the labels in the order in which the source numbers them, if it is not"
        " entailment, neutral, contradiction",
    )
    rows: int | None = Field(
        None, ge=1, description="test on so many rows, the same ones in every language; all, if not given"
    )
    train_languages: Codes = Field(
        (), description="train on the split `train` of these languages too, which is a translated training set"
    )
    train_rows: int | None = Field(
        None, ge=1, description="so many training rows of each of train_languages; all, if not given"
    )

    @property
    def codes(self) -> tuple[str, ...]:
        """The languages that are tested."""
        return LANGUAGES if self.languages == "all" else self.languages

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        mistakes = [*_wrong_codes("languages", self.codes), *_wrong_codes("train_languages", self.train_languages)]
        if mistakes := mistakes + _without_effect(self) + _wrong_labels(self):
            raise ValueError("; ".join(mistakes))
        return self


def _wrong_codes(key: str, codes: tuple[str, ...]) -> list[str]:
    unknown = {code: did_you_mean(code, LANGUAGES) or f"known: {', '.join(LANGUAGES)}" for code in codes}
    mistakes = [f"{key} holds '{code}', which XNLI does not have ({hint})" for code, hint in unknown.items()
                if code not in LANGUAGES]  # fmt: skip
    twice = [code for code in dict.fromkeys(codes) if codes.count(code) > 1]
    return mistakes + [f"{key} holds '{code}' twice" for code in twice]


def _without_effect(settings: XnliSettings) -> list[str]:
    """What was given and changes nothing, and English, which `data` trains on already."""
    mistakes = []
    if not settings.codes:
        given = [name for name in sorted(settings.model_fields_set) if getattr(settings, name) != _default(name)]
        mistakes += [f"{name} has no effect without languages" for name in given]
    if settings.train_rows is not None and not settings.train_languages:
        mistakes.append("train_rows is for train_languages, and there are none: data.train_rows is for English")
    if ENGLISH in settings.train_languages:
        mistakes.append("train_languages holds 'en', but the English training rows are those of data: leave it out")
    return mistakes


def _default(name: str) -> object:
    return XnliSettings.model_fields[name].default


def _wrong_labels(settings: XnliSettings) -> list[str]:
    try:
        language_data(settings, ENGLISH)
    except ValidationError as error:
        return [found["msg"].removeprefix("Value error, ") for found in error.errors()]
    return []


def disagreements(data: TaskDataSettings, settings: XnliSettings, folds: int = 0) -> list[str]:
    """What does not go with these languages, in words: of the training data, and of holding out folds of them."""
    if not settings.codes:
        return []
    found, splits = [], splits_of(data)
    if data.task != "mnli":
        found.append(f"xnli.languages need data.task mnli, whose labels they have, but it is {data.task}")
    if settings.train_languages and data.source != "synthetic" and splits["train"] == splits["select"]:
        found.append(
            f"data.select is held out of '{splits['train']}', and xnli.train_languages would train on translations of"
            " it: name a split of its own (validation_mismatched, with data.also [])"
        )
    if settings.train_languages and folds:
        found.append("cross_validation.folds would score rows whose translations xnli.train_languages trains on: set 0")
    return found


def language_data(settings: XnliSettings, language: str) -> TaskDataSettings:
    """Where a language's rows are: its test is the report split."""
    place, is_hub = settings.source, settings.source == "hub"
    in_folder = not is_hub and (Path(place).expanduser().is_dir() or place.startswith((".", "/", "~")))
    return TaskDataSettings(
        task="mnli",
        source=HUB if is_hub else str(Path(place) / language) if in_folder else place,
        subset=None if in_folder else language,
        train="train",
        select="validation",
        report="test",
        also=(),
        labels=settings.labels,
    )


def read_language(settings: XnliSettings, language: str) -> Examples:
    """The test rows of a language: row n is the same pair in each. Raises UserError where it cannot be."""
    with _told(language):
        found = read_examples(language_data(settings, language), "report")
    first = settings.codes[0]
    with _told(first):
        reference = read_examples(language_data(settings, first), "report")
    with _told(language):
        _check_parallel(found, reference, first)
        return found if settings.rows is None else _sampled(found, settings.rows, "rows", in_order=True)


def _check_parallel(found: Examples, first: Examples, language: str) -> None:
    hint = "row n of every language is a translation of the same pair"
    if len(found) != len(first):
        raise UserError([Problem(f"has {len(found)} test rows, and {language} has {len(first)}", hint=hint)])
    if differing := np.flatnonzero(found.targets != first.targets).tolist():
        one, other = (INFERENCE[int(examples.targets[differing[0]])] for examples in (found, first))
        where = f"at row {differing[0] + 1}, {one} and {other}"
        raise UserError([Problem(f"{len(differing)} labels are not those of {language}, the first {where}", hint=hint)])


def _sampled(examples: Examples, size: int, key: str, in_order: bool) -> Examples:
    """So many rows with each label's share: the same ones of every language, whose labels are the same."""
    if size > len(examples):
        raise UserError(f"xnli.{key} is {size}, but there are {len(examples)} rows")
    rows = sample(strata("classification", examples), size)
    return examples.take(np.sort(rows) if in_order else rows)


def read_training(data: TaskDataSettings, settings: XnliSettings) -> Examples:
    """The training rows of `data`, and behind them those of the added languages, one after another."""
    every = [read_examples(data, "train"), *(_added(settings, language) for language in settings.train_languages)]
    return every[0] if len(every) == 1 else _joined(every)


def _added(settings: XnliSettings, language: str) -> Examples:
    with _told(language):
        found = read_examples(language_data(settings, language), "train")
        return found if settings.train_rows is None else _sampled(found, settings.train_rows, "train_rows", False)


def _joined(every: Sequence[Examples]) -> Examples:
    first = [text for examples in every for text in examples.first]
    second = [text for examples in every for text in examples.second or ()]
    return Examples(first, second, np.concatenate([examples.targets for examples in every]))


@contextmanager
def _told(language: str) -> Iterator[None]:
    """Problems are told with the language, and by the names that the settings have here."""
    try:
        yield
    except UserError as error:
        raise UserError([_renamed(problem, language) for problem in error.problems]) from error


def _renamed(problem: Problem, language: str) -> Problem:
    message, hint = (
        text and re.sub(r"\bdata\.(source|labels)\b", r"xnli.\1", text) for text in (problem.message, problem.hint)
    )
    return replace(problem, message=f"xnli {language}: {message}", hint=hint)


def xnli_facts(data: TaskDataSettings, settings: XnliSettings, problems: Sequence[Problem] = ()) -> DataFacts:
    """Facts about `data`, and rows, hash and overlaps of each language.

    Raises UserError with the problems of `data` and of all languages behind `problems`, which were found elsewhere.
    """
    if not settings.codes:
        return examples_facts(data, problems)
    looks: list[Callable[[], object]] = [partial(examples_facts, data)]
    looks += [partial(read_language, settings, language) for language in settings.codes]
    looks += [partial(_added, settings, language) for language in settings.train_languages]
    every = list(problems)
    for look in looks:
        try:
            look()
        except UserError as error:
            every += error.problems
    if every:
        raise UserError(list(dict.fromkeys(every)))
    own = layout_of(data).source
    return _facts(data, settings, (None if own == "synthetic" else stamp(own), stamp(settings.source)))


@lru_cache(maxsize=4)
def _facts(data: TaskDataSettings, settings: XnliSettings, stamps: object) -> DataFacts:
    """Found once for all configurations on the same data; `stamps` change when their files do."""
    own = examples_facts(data)
    parts = {f"xnli {language}": read_language(settings, language) for language in settings.codes}
    added = {f"xnli {language} train": _added(settings, language) for language in settings.train_languages}
    source = HUB if settings.source == "hub" else settings.source
    return replace(
        own,
        name=f"{own.name} + xnli",
        source=f"{own.source} + {source}",
        rows=own.rows | {name: len(examples) for name, examples in (parts | added).items()},
        hashes=own.hashes | {name: content_hash(examples) for name, examples in (parts | added).items()},
        overlaps=own.overlaps | _overlaps(data, settings, parts),
    )


def _overlaps(data: TaskDataSettings, settings: XnliSettings, parts: Mapping[str, Examples]) -> dict[str, int]:
    """Pairs that stand twice in a language's test, and pairs of train and select that stand in it."""
    used = {"train": set(keys(read_training(data, settings))), "select": set(keys(read_examples(data, "select")))}
    counts = {}
    for name, examples in parts.items():
        tested = keys(examples)
        counts[f"{name} repeated"] = len(tested) - len(set(tested))
        counts |= {f"{split} in {name}": len(pairs & set(tested)) for split, pairs in used.items()}
    return counts


def mean_over(found: Mapping[str, Scored]) -> Scored:
    """For each row the share of languages in which it is answered rightly; NaN where an answer is.

    Whatever compares or resamples them does so by rows, as a row's translations are no further examples.
    """
    predictions = np.stack([scored.predictions for scored in found.values()])
    targets = np.stack([scored.targets for scored in found.values()])
    assert (targets == targets[0]).all(), "the rows of all languages are the same pairs"
    right = np.where(np.isfinite(predictions), predictions == targets, np.nan)
    return Scored(right.mean(axis=0), np.ones(right.shape[1]), "mean")
