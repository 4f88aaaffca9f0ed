"""Sentence pairs with scores, by split: from a hub name, a folder, or the synthetic set. Checked whole, hashed, cached.

A split is a file `<name>.parquet|jsonl|csv|tsv` of a folder, a split of a folder written by `datasets.save_to_disk`, or a
split of a data set on the hub. CSV is read with quotes; TSV without, as GLUE writes it. The report split is only ever
opened through `read_pairs(settings, "report")`.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field

from raysweep.problems import Problem, UserError, did_you_mean
from raysweep.recipe import DataFacts, Settings
from trainables.parts import synthetic

Split = Literal["train", "select", "report"]
SPLITS: tuple[Split, ...] = get_args(Split)
SUFFIXES = (".parquet", ".jsonl", ".csv", ".tsv")
Columns = dict[str, list[Any]]


class DataSettings(Settings):
    """Where sentence pairs come from, and what their columns are called."""

    source: str = Field(
        "synthetic", description="'synthetic', a folder with a file for each split, or a data set's hub name"
    )
    train: str = Field("train", description="split or file to train on")
    select: str = Field("validation", description="split or file that the search goes by")
    report: str = Field("test", description="split or file that is opened only for the proof")
    first: str = Field("sentence1", description="column of the first sentence")
    second: str = Field("sentence2", description="column of the second sentence")
    score: str = Field("score", description="column of the similarity")
    score_max: float = Field(1.0, gt=0, description="the largest score; scores are divided by it (5.0 for raw STS-B)")
    train_rows: int | None = Field(None, ge=1, description="train on so many rows, a seeded sample; all, if not given")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sentence pairs and their scores, 0 to 1, shape (pairs,). Shared between trials: do not change them."""

    first: list[str]
    second: list[str]
    scores: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: npt.NDArray[np.int64]) -> "Pairs":
        """These rows, in this order."""
        return Pairs([self.first[row] for row in rows], [self.second[row] for row in rows], self.scores[rows])


def read_pairs(settings: DataSettings, split: Split) -> Pairs:
    """The pairs of a split. Raises UserError with everything that is wrong with it."""
    pairs = _whole_split(settings.model_copy(update={"train_rows": None}), split, _stamp(settings, split))
    if split != "train" or settings.train_rows is None:
        return pairs
    if settings.train_rows > len(pairs):
        raise UserError(
            f"data.train_rows is {settings.train_rows}, but {settings.source} has {len(pairs)} rows to train on"
        )
    # One order for every size, so that a larger sample holds the smaller one.
    return pairs.take(np.random.default_rng(0).permutation(len(pairs))[: settings.train_rows])


def data_facts(settings: DataSettings) -> DataFacts:
    """Rows and content hash of each split. Raises UserError with the problems of all splits."""
    splits = _every_split(settings)
    invented = settings.source == "synthetic"
    return DataFacts(
        name="synthetic sentence pairs" if invented else settings.source.rstrip("/").rpartition("/")[2],
        source=settings.source,
        synthetic=invented,
        rows={split: len(pairs) for split, pairs in splits.items()},
        hashes={split: content_hash(pairs) for split, pairs in splits.items()},
    )


def content_hash(pairs: Pairs) -> str:
    """sha256 of the rows as JSON lines `[first, second, score]`, scores rounded to 6 digits, in order."""
    rows = zip(pairs.first, pairs.second, pairs.scores.round(6).tolist(), strict=True)
    return hashlib.sha256("\n".join(json.dumps(row) for row in rows).encode()).hexdigest()


def overlaps(settings: DataSettings) -> dict[str, int]:
    """Repeated pairs within each split, and pairs shared by two splits; a pair is two exact texts in either order."""
    keys = {
        split: [frozenset(pair) for pair in zip(p.first, p.second, strict=True)]
        for split, p in _every_split(settings).items()
    }
    counts = {f"{split} repeated": len(pairs) - len(set(pairs)) for split, pairs in keys.items()}
    for one, other in (("train", "select"), ("train", "report"), ("select", "report")):
        counts[f"{one} in {other}"] = len(set(keys[one]) & set(keys[other]))  # type: ignore[index]
    return counts


def _every_split(settings: DataSettings) -> dict[Split, Pairs]:
    splits: dict[Split, Pairs] = {}
    problems: list[Problem] = []
    for split in SPLITS:
        try:
            splits[split] = read_pairs(settings, split)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(list(dict.fromkeys(problems)))  # a missing folder is one problem, not three
    return splits


@lru_cache(maxsize=6)
def _whole_split(settings: DataSettings, split: Split, stamp: object) -> Pairs:
    """All pairs of a split; `stamp` changes when its file does."""
    if settings.source == "synthetic":
        first, second, scores = zip(*synthetic.pairs(split), strict=True)
        return _frozen(list(first), list(second), np.array(scores))
    columns, place = _columns(settings, split)
    return _checked(settings, columns, place)


def _stamp(settings: DataSettings, split: Split) -> object:
    folder = Path(settings.source).expanduser()
    if settings.source == "synthetic" or not folder.is_dir():
        return None
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(folder.iterdir()))


def _frozen(first: list[str], second: list[str], scores: npt.NDArray[np.float64]) -> Pairs:
    scores.flags.writeable = False
    return Pairs(first, second, scores)


def _columns(settings: DataSettings, split: Split) -> tuple[Columns, str]:
    """The columns of a split, and where they came from."""
    name: str = getattr(settings, split)
    folder = Path(settings.source).expanduser()
    if folder.is_file():
        raise UserError(
            [Problem(f"data.source is a file, {folder}", hint="name its folder here and the file in data.train")]
        )
    if not folder.is_dir():
        return _hub_columns(settings.source, name), f"{settings.source} ({name})"
    if (folder / "dataset_dict.json").exists():
        return _saved_columns(folder, name), f"{folder} ({name})"
    file = _split_file(folder, name)
    return _file_columns(file, settings), str(file)


def _split_file(folder: Path, name: str) -> Path:
    names = [name] if name.endswith(SUFFIXES) else [name + suffix for suffix in SUFFIXES]
    files = [folder / option for option in names if (folder / option).is_file()]
    if len(files) > 1:
        raise UserError(
            f"split '{name}' has {len(files)} files: {', '.join(map(str, files))}; name one with its ending"
        )
    if not files:
        found = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES)
        stems = found if name.endswith(SUFFIXES) else [Path(file).stem for file in found]
        hint = did_you_mean(name, stems) or f"found: {', '.join(found) or 'no data files'}"
        raise UserError([Problem(f"no file for split '{name}': expected {' or '.join(names)}", str(folder), hint=hint)])
    return files[0]


def _file_columns(file: Path, settings: DataSettings) -> Columns:
    import pyarrow
    from pyarrow import csv, parquet

    try:
        if file.suffix == ".parquet":
            return dict(parquet.read_table(file).to_pydict())
        if file.suffix == ".jsonl":
            return _json_columns(file)
        tabs = file.suffix == ".tsv"
        parse = csv.ParseOptions(
            delimiter="\t" if tabs else ",", quote_char=False if tabs else '"', newlines_in_values=not tabs
        )
        wanted = (settings.first, settings.second, settings.score)
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(wanted, pyarrow.string()))
        return dict(csv.read_csv(file, parse_options=parse, convert_options=as_text).to_pydict())
    except pyarrow.ArrowInvalid as error:
        raise UserError([Problem(f"cannot be read: {error}", str(file))]) from error


def _json_columns(file: Path) -> Columns:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise UserError([Problem(f"is no JSON object: {error}", str(file), number)]) from error
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _saved_columns(folder: Path, name: str) -> Columns:
    from datasets import load_from_disk

    splits = load_from_disk(str(folder))
    if name not in splits:
        raise UserError([Problem(f"no split '{name}'", str(folder), hint=did_you_mean(name, list(splits)))])
    return dict(splits[name].with_format("arrow")[:].to_pydict())


def _hub_columns(source: str, name: str) -> Columns:
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise UserError(f"data.source: there is no folder {source}")
    from datasets import load_dataset

    try:
        return dict(load_dataset(source, split=name).with_format("arrow")[:].to_pydict())
    except (OSError, ValueError, RuntimeError) as error:  # offline, unknown name, unknown split
        reason = str(error).partition("\n")[0]
        hint = "without network, save it elsewhere with datasets' save_to_disk and give that folder"
        raise UserError(
            [Problem(f"data.source: no folder '{source}', and not to be had from the hub: {reason}", hint=hint)]
        ) from error


def _checked(settings: DataSettings, columns: Columns, place: str) -> Pairs:
    names = {"first": settings.first, "second": settings.second, "score": settings.score}
    problems = [
        Problem(
            f"no column '{name}' (data.{key})",
            place,
            hint=f"{did_you_mean(name, list(columns)) or ''} found: {', '.join(columns)}".strip(),
        )
        for key, name in names.items()
        if name not in columns
    ]
    if problems:
        raise UserError(problems)
    first, second, raw = columns[settings.first], columns[settings.second], columns[settings.score]
    if not raw:
        raise UserError([Problem("has no rows", place)])
    scores = np.array([_number(value) for value in raw]) / settings.score_max
    problems = [*_bad_texts(settings.first, first, place), *_bad_texts(settings.second, second, place)]
    problems += _bad_scores(settings, raw, scores, place)
    if problems:
        raise UserError(problems)
    return _frozen(first, second, scores)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _bad_texts(name: str, texts: list[Any], place: str) -> list[Problem]:
    bad = [row for row, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
    return _rows(f"column '{name}' has no text", bad, texts, place)


def _bad_scores(settings: DataSettings, raw: list[Any], scores: npt.NDArray[np.float64], place: str) -> list[Problem]:
    outside = np.flatnonzero((scores < 0) | (scores > 1)).tolist()
    hint = f"data.score_max, now {settings.score_max:g}, is what the scores are divided by"
    return [
        *_rows(f"column '{settings.score}' has no number", np.flatnonzero(np.isnan(scores)).tolist(), raw, place),
        *_rows(f"column '{settings.score}' is outside 0..{settings.score_max:g}", outside, raw, place, hint),
    ]


def _rows(message: str, bad: Sequence[int], values: list[Any], place: str, hint: str | None = None) -> list[Problem]:
    """One problem for all bad rows: it names the first three, counted from 1."""
    if not bad:
        return []
    shown = ", ".join(f"row {row + 1}: {values[row]!r}" for row in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return [Problem(f"{message} at {shown}{more}", place, hint=hint)]
