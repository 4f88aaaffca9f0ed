"""Runs one side of a comparison in a fresh process, and writes down what was measured, where and when."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysweep.measure import commit, machine

ROOT = Path(__file__).resolve().parent.parent
RESULT = "result.json"
_ABSOLUTE = re.compile(r"(?<![\w./-])~?/[^\s'\",\]}]+")
Row = Sequence[Any]


def start_side(module: str, folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """A fresh process running `python -m module folder arguments`; what it prints goes to folder/output.txt."""
    paths = [str(ROOT), str(ROOT / "benchmarks" / "recipes"), str(ROOT / "platform")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, str(folder), *arguments]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def run_side(module: str, *arguments: str) -> dict[str, Any]:
    """What the side left in folder/result.json, and the `process` seconds from its start to its exit."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        folder, begun = Path(name), time.perf_counter()
        code = start_side(module, folder, *arguments).wait()
        seconds = time.perf_counter() - begun
        return {**result_of(folder, code), "process": seconds}


def result_of(folder: Path, code: int) -> dict[str, Any]:
    """The result of a side that has ended; it must have ended well."""
    if code != 0:
        raise SystemExit(f"a side ended with exit code {code}:\n{last_output(folder)}")
    result: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return result


def last_output(folder: Path) -> str:
    """The end of what a side printed."""
    return (folder / "output.txt").read_text(errors="replace")[-3000:]


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """What a side has to say."""
    (folder / RESULT).write_text(json.dumps(result))


def heading(title: str, note: str) -> str:
    """The beginning of a results page: what was run, on which commit and machine, and when."""
    command = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    facts = ", ".join(f"{name} {value}" for name, value in machine().items() if value is not None)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines = [
        f"# {title}",
        "",
        f"- command: `{portable(command)}`",
        f"- commit: {commit(ROOT) or 'unknown'}",
        f"- date: {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        f"- machine: {facts}",
        f"- load before (1, 5, 15 minutes): {load}",
    ]
    return "\n".join([*lines, *([f"- note: {note}"] if note else [])])


def portable(command: str) -> str:
    """The command without the folders of the machine that it ran on."""
    return _ABSOLUTE.sub(lambda found: Path(found[0]).name if found[0].endswith(".yaml") else "FOLDER", command)


def table(head: Row, rows: Sequence[Row]) -> str:
    """A markdown table; numbers with two decimals."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def write_page(parts: Sequence[str], out: Path | None) -> None:
    """Print the page, and write it whole to `out` if given."""
    page = "\n\n".join(parts) + "\n"
    print(page)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = out.with_suffix(".writing")
        fresh.write_text(page)
        os.replace(fresh, out)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return str(value)
