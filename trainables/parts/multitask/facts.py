"""What several tasks train on, and which texts stand in the data of more than one of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from raysweep.problems import Problem, UserError
from raysweep.recipe import DataFacts
from trainables.parts.columns import every_split, rows_hash
from trainables.parts.data import SPLITS, Pairs, Split, content_hash, read_pairs
from trainables.parts.multitask.settings import MultitaskConfig, ProbeSettings
from trainables.parts.tables import stamp
from trainables.parts.task_data import Examples, also_of, examples_facts, read_examples
from trainables.parts.task_settings import TaskDataSettings, layout_of

SCORED: tuple[Split, ...] = ("select", "report")
Tasks = tuple[tuple[str, TaskDataSettings], ...]


def multitask_facts(config: MultitaskConfig, problems: Sequence[Problem] = ()) -> DataFacts:
    """Rows and content hash of each split of all tasks together, of each task and of the probe, and what repeats.

    Raises UserError with all problems of all tasks, each told with its task's name, behind `problems`, which were found
    elsewhere.
    """
    every = list(problems)
    tasks = tuple((name, settings.data) for name, settings in sorted(config.tasks.items()))
    probe = config.probe if config.probe.enabled else None
    looks = {f"tasks.{name}": partial(examples_facts, data) for name, data in tasks}
    looks |= {"probe": partial(_probe_facts, probe)} if probe else {}
    parts = {}
    for place, look in looks.items():
        try:
            parts[place.removeprefix("tasks.")] = look()
        except UserError as error:
            every += [replace(problem, message=f"{place}: {problem.message}") for problem in error.problems]
    if every:
        raise UserError(every)
    stamps = [None if source == "synthetic" else stamp(source) for source in _sources(tasks, probe)]
    return _together(parts, _shared(tasks, probe, tuple(stamps)))


def _sources(tasks: Tasks, probe: ProbeSettings | None) -> list[str]:
    return [*(layout_of(data).source for _, data in tasks), *([probe.source] if probe else [])]


def _probe_facts(probe: ProbeSettings) -> DataFacts:
    """Of the splits that are scored: what the pairs would be trained on is never read."""
    splits = every_split(lambda split: read_pairs(probe, split), SCORED)
    return DataFacts(
        name="",
        source=probe.source,
        synthetic=probe.source == "synthetic",
        rows={split: len(pairs) for split, pairs in splits.items()},
        hashes={split: content_hash(pairs) for split, pairs in splits.items()},
    )


def _together(parts: Mapping[str, DataFacts], shared: Mapping[str, int]) -> DataFacts:
    """The facts of all: of all tasks' splits together, and of each part behind its name."""
    tasks = {name: facts for name, facts in parts.items() if name != "probe"}  # which is no task's name
    rows = {split: sum(facts.rows[split] for facts in tasks.values()) for split in SPLITS}
    hashes = {split: rows_hash([[facts.hashes[split] for facts in tasks.values()]]) for split in SPLITS}
    return DataFacts(
        name=_listed(facts.name for facts in tasks.values()),
        source=_listed(facts.source for facts in parts.values()),
        synthetic=any(facts.synthetic for facts in parts.values()),
        rows=rows | _named(parts, "rows"),
        hashes=hashes | _named(parts, "hashes"),
        overlaps=_named(parts, "overlaps") | dict(shared),
    )


def _listed(words: Iterable[str]) -> str:
    """Each once."""
    return " + ".join(dict.fromkeys(words))


def _named(parts: Mapping[str, DataFacts], what: str) -> dict[str, Any]:
    """A field of every part's facts, each entry behind the part's name."""
    return {f"{name} {entry}": value for name, facts in parts.items() for entry, value in getattr(facts, what).items()}


@lru_cache(maxsize=8)
def _shared(tasks: Tasks, probe: ProbeSettings | None, stamps: object) -> dict[str, int]:
    """How many texts of a task's train stand where another task, or the probe, is scored: the encoder has seen them.

    Found once for all configurations on the same data; `stamps` change when its files do.
    """
    trained = {name: _texts(read_examples(data, "train")) for name, data in tasks}
    scored = {name: {split: _texts(examples) for split, examples in _scored(data)} for name, data in tasks}
    if probe:
        scored["probe"] = {split: _texts(read_pairs(probe, split)) for split in SCORED}
    return {
        f"{one} train in {other} {split}": len(trained[one] & texts)
        for one in trained
        for other, splits in scored.items()
        for split, texts in splits.items()
        if one != other
    }


def _scored(data: TaskDataSettings) -> Iterator[tuple[str, Examples]]:
    """Every split of a task but the one to train on."""
    for split in SCORED:
        yield split, read_examples(data, split)
    for also in also_of(data):
        yield also, read_examples(data, "report", also)


def _texts(rows: Examples | Pairs) -> set[str]:
    """Its different texts, without blanks around them; a pair may have an empty one, which tells nothing."""
    return {text.strip() for text in (*rows.first, *(rows.second or ()))} - {""}
