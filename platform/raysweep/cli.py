"""The commands. Each reads or makes a sweep folder and says what it did; mistakes of the user end with exit code 2."""

import json
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysweep.garbage import collect_rarely
from raysweep.interrupt import interruptible
from raysweep.problems import UserError
from raysweep.recipe import find, names, summary

if TYPE_CHECKING:
    from raysweep.report import Progress

PURPOSE = "Sweep training recipes, prove the winners on data that the search never saw, register models that load."
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=PURPOSE)
out, complaints = Console(highlight=False), Console(stderr=True, highlight=False)

SweepFilePath = Annotated[Path, typer.Argument(metavar="FILE", help="the sweep file (YAML)")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="the sweep's folder")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="replace one setting of the file")
]
Inline = Annotated[bool, typer.Option("--inline", help="train in this process, one trial at a time, without Ray")]


@app.command()
def check(file: SweepFilePath, overrides: Overrides = None) -> None:
    """Say every mistake of a sweep file, or what the sweep would do."""
    from raysweep.report.plan import plan
    from raysweep.sweep_file import load_sweep

    out.print(plan(load_sweep(file, overrides or [])))


@app.command()
def run(
    file: SweepFilePath,
    overrides: Overrides = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="the sweep's folder; sweeps/NAME-TIME, if not given")
    ] = None,
    inline: Inline = False,
) -> None:
    """Run a sweep from its file to its report."""
    from raysweep.run import begin

    made = begin(file, overrides or [], folder, shlex.join(["raysweep", *sys.argv[1:]]))
    out.print(f"Sweep folder: {escape(str(made.path))}", soft_wrap=True)
    _proceed(made.path, inline, again=False)


@app.command()
def resume(folder: Folder, inline: Inline = False) -> None:
    """Go on with a sweep that was interrupted."""
    _proceed(folder, inline, again=True)


@app.command()
def status(folder: Folder) -> None:
    """How a sweep stands."""
    from raysweep import report, sweep_folder, track

    found = sweep_folder.find(folder)
    view = report.SweepView.from_records(_records(found.journal), running=found.locked)
    unshipped = sum(sink.unshipped for sink in track.status(found.path).sinks)
    out.print(report.status(view, unshipped))


@app.command()
def why(folder: Folder, trial: Annotated[str, typer.Argument(metavar="TRIAL", help="a trial, such as t0007")]) -> None:
    """Why a trial was stopped, failed, or went on."""
    from raysweep import report, sweep_folder

    found = sweep_folder.find(folder)
    out.print(report.explain(report.SweepView.from_records(_records(found.journal), running=found.locked), trial))


@app.command()
def report(folder: Folder) -> None:
    """Write a sweep's report anew, as far as the sweep has come."""
    from raysweep import sweep_folder
    from raysweep.report import write_report

    found = sweep_folder.find(folder)
    print(write_report(found.path, running=found.locked))


@app.command()
def sync(folder: Folder) -> None:
    """Send everything to the trackers that they have not yet received, and register the model if that is missing."""
    from raysweep import sweep_folder
    from raysweep.run import catch_up

    found = sweep_folder.find(folder)
    with found.lock():
        backlog, reason = catch_up(found)
    out.print(escape(str(backlog)))
    if reason:
        complaints.print(f"[red]model:[/red] {escape(reason)}", soft_wrap=True)
    raise typer.Exit(0 if backlog.empty and reason is None else 1)


@app.command()
def recipes() -> None:
    """The recipes that can be swept, with what they report."""
    table = Table("recipe", "what it trains", "reports", box=None, pad_edge=False)
    found = {name: find(name) for name in sorted(names())}
    for name, recipe in found.items():
        table.add_row(name, summary(recipe), ", ".join(recipe.METRICS))
    out.print(table)
    if any("*" in metric for recipe in found.values() for metric in recipe.METRICS):
        out.print("A star is any name that the sweep file gives.")


@app.command()
def schema() -> None:
    """The JSON Schema of sweep files, for editors."""
    from raysweep.schema import sweep_schema

    print(json.dumps(sweep_schema(sorted(names())), indent=2))


def _records(journal: Path) -> list[dict[str, object]]:
    from raysweep.journal import records

    return records(journal)


def _proceed(folder: Path, inline: bool, *, again: bool) -> None:
    """Run, hold the lock, show progress; an interrupt ends the process within 3 seconds."""
    from raysweep import sweep_folder, track
    from raysweep.report import Progress, SweepView, print_summary
    from raysweep.run import proceed

    found = sweep_folder.find(folder)
    found.enter()
    with found.lock(), Progress(out) as progress, interruptible(partial(_leave, found.path, progress)):
        if again:
            progress.replay(_records(found.journal))
        else:
            progress.on_record(found.head())
        reason = proceed(found, _engine(inline), progress.on_record, again=again)
    if reason:
        complaints.print(f"[red]not complete:[/red] {escape(reason)}", soft_wrap=True)
    if lacking := [sink for sink in track.status(found.path).sinks if sink.unshipped]:
        said = "; ".join(map(str, lacking))
        complaints.print(
            f"[red]not shipped:[/red] {escape(said)}: raysweep sync {escape(str(found.path))}", soft_wrap=True
        )
    print_summary(out, SweepView.from_records(_records(found.journal)), found.report)
    raise typer.Exit(1 if reason else 0)


def _engine(inline: bool) -> ModuleType:
    if inline:
        from raysweep.engine import inline as engine
    else:
        from raysweep.engine import tune as engine  # type: ignore[no-redef]
    return engine


def _leave(folder: Path, progress: "Progress", number: int) -> NoReturn:
    """End within 3 seconds; what a sweep has started ends with it, and the shipper sends the rest and goes."""
    progress.__exit__(None, None, None)
    complaints.print(f"Interrupted. Go on with it: raysweep resume {escape(str(folder))}", soft_wrap=True)
    if "ray" in sys.modules:
        from raysweep.engine.cluster import leave

        leave()
    sys.stdout.flush()
    os._exit(128 + number)  # Ray's exit handlers would wait


def main() -> None:
    """The console script."""
    collect_rarely()
    try:
        app()
    except UserError as error:
        for problem in error.problems:
            complaints.print(f"[red]error:[/red] {escape(str(problem))}", soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        complaints.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
