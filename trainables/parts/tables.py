"""Columns of a table by split: from a file of a folder, a folder written by `datasets.save_to_disk`, or the hub.

CSV is read with quotes; TSV without, as GLUE writes it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysweep.problems import Problem, UserError, did_you_mean

SUFFIXES = (".parquet", ".jsonl", ".csv", ".tsv")
Columns = dict[str, list[Any]]


class NoSourceError(UserError):
    """The source as a whole is not to be had, so it is no use to try its other splits."""


class NoSplitError(UserError):
    """The source has no split or file of this name."""


def read_table(source: str, split: str, texts: Sequence[str], subset: str | None = None) -> tuple[Columns, str]:
    """The columns of a split, and where they came from; in CSV and TSV the columns `texts` are left as text.

    `subset` is which of its configurations a hub set is read in. Raises UserError when there is no such source or
    split, or when it cannot be read.
    """
    folder = Path(source).expanduser()
    if folder.is_file():
        raise NoSourceError(
            [Problem(f"data.source is a file, {folder}", hint="name its folder, and the file in data.train")]
        )
    if not folder.is_dir():
        return _hub_columns(source, subset, split), " ".join(filter(None, (source, subset, f"({split})")))
    if subset is not None:
        hint = "leave it out, and name in data.source the folder that holds the files"
        raise NoSourceError(
            [Problem(f"data.subset is '{subset}', but a folder has no subsets", str(folder), hint=hint)]
        )
    if (folder / "dataset_dict.json").exists():
        return _saved_columns(folder, split), f"{folder} ({split})"
    file = _split_file(folder, split)
    return _file_columns(file, texts), str(file)


def stamp(source: str) -> object:
    """What changes when a file of the source does."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return None
    stats = ((file, file.stat()) for file in sorted(folder.rglob("*")) if file.is_file())
    return tuple((str(file), stat.st_mtime_ns, stat.st_size) for file, stat in stats)


def _split_file(folder: Path, split: str) -> Path:
    names = [split] if split.endswith(SUFFIXES) else [split + suffix for suffix in SUFFIXES]
    files = [folder / name for name in names if (folder / name).is_file()]
    if len(files) > 1:
        found = ", ".join(file.name for file in files)
        raise UserError(
            [Problem(f"split '{split}' has {len(files)} files: {found}", str(folder), hint="name one of them")]
        )
    if not files:
        raise NoSplitError([_no_file(folder, split, names)])
    return files[0]


def _no_file(folder: Path, split: str, names: list[str]) -> Problem:
    found = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES)
    near = did_you_mean(split, found if split.endswith(SUFFIXES) else [Path(file).stem for file in found])
    hint = near or f"found: {', '.join(found) or 'no data files'}"
    return Problem(f"no file for split '{split}': expected {' or '.join(names)}", str(folder), hint=hint)


def _file_columns(file: Path, texts: Sequence[str]) -> Columns:
    import pyarrow
    from pyarrow import parquet

    try:
        if file.suffix == ".jsonl":
            return _json_columns(file)
        table = parquet.read_table(file) if file.suffix == ".parquet" else _read_separated(file, texts)
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
        raise UserError([Problem(f"cannot be read: {error}", str(file))]) from error
    return dict(table.to_pydict())


def _read_separated(file: Path, texts: Sequence[str]) -> Any:
    import pyarrow
    from pyarrow import csv

    tabs = file.suffix == ".tsv"
    parse = csv.ParseOptions(
        delimiter="\t" if tabs else ",", quote_char=False if tabs else '"', newlines_in_values=not tabs
    )
    as_text = csv.ConvertOptions(column_types=dict.fromkeys(texts, pyarrow.string()))
    return csv.read_csv(file, parse_options=parse, convert_options=as_text)


def _json_columns(file: Path) -> Columns:
    rows: list[dict[str, Any]] = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                rows.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise UserError([Problem(f"is no JSON object: {error}", str(file), number)]) from error
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _saved_columns(folder: Path, split: str) -> Columns:
    from datasets import load_from_disk

    splits = load_from_disk(str(folder))
    if split not in splits:
        raise NoSplitError([Problem(f"no split '{split}'", str(folder), hint=did_you_mean(split, list(splits)))])
    return dict(splits[split].with_format("arrow")[:].to_pydict())


def _hub_columns(source: str, subset: str | None, split: str) -> Columns:
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise NoSourceError(f"data.source: there is no folder {source}")
    from datasets import get_dataset_split_names, load_dataset

    try:
        splits = list(get_dataset_split_names(source, subset))
        if split in splits:
            return dict(load_dataset(source, subset, split=split).with_format("arrow")[:].to_pydict())
    except (OSError, ValueError, RuntimeError) as error:  # no network, no such name, several configurations
        reason = " ".join(str(error).splitlines()[:2])  # datasets names the known configurations in the second line
        hint = "without network, save it elsewhere with datasets' save_to_disk and give that folder"
        message = f"data.source: no folder '{source}', and not to be had from the hub: {reason}"
        raise NoSourceError([Problem(message, hint=hint)]) from error
    raise NoSplitError([Problem(f"no split '{split}'", source, hint=did_you_mean(split, splits))])
