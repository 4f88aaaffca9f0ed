"""What the results pages of all recipes share: sweeps that have been run, each read from its folder alone."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.measured import portable, table, write_page
from raysweep.evidence import ArmResult, Comparison, Difference, OtherScore
from raysweep.journal import FILE, Record, records
from raysweep.report.trial_view import TrialView
from raysweep.report.view import SweepView

NOTHING = "-"  # what was not measured
Column = Callable[[TrialView], str]


@dataclass(frozen=True, slots=True)
class SweepRun:
    """A sweep's folder, the records of its journal, and what these say."""

    folder: Path
    records: list[Record]
    view: SweepView

    @classmethod
    def read(cls, folder: Path) -> "SweepRun":
        found = records(folder / FILE)
        return cls(folder, found, SweepView.from_records(found))


@dataclass(frozen=True, slots=True)
class Page:
    """What is particular to a recipe. `proof` is asked only where the proof has ended; `picture` is drawn beside a page
    that becomes a file, from all its sweeps, and gives the lines that show it.
    """

    title: str
    search: Callable[[SweepRun], list[str]]
    proof: Callable[[SweepRun], list[str]]
    published: list[str]
    picture: Callable[[Sequence[SweepRun], Path], list[str]] = lambda runs, page: []


def main(page: Page, description: str | None, arguments: Sequence[str] | None) -> None:
    """Write the page of the sweeps that the command names."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--note", default="", help="what was done differently from the sweep file, and why")
    given = parser.parse_args(arguments)
    if missing := [str(folder / FILE) for folder in given.folders if not (folder / FILE).is_file()]:
        parser.error(f"a sweep's folder has a journal, but there is no {', no '.join(missing)}")
    runs = [SweepRun.read(folder) for folder in given.folders]
    sections = [part for run in runs for part in section(page, run)]
    begin = [f"# {page.title}", *([given.note] if given.note else [])]
    drawn = page.picture(runs, given.out) if given.out else []
    write_page([*begin, *drawn, *sections, *page.published], given.out)


def section(page: Page, run: SweepRun) -> list[str]:
    """One sweep: what was run, its search, its proof."""
    unfinished = "" if complete(run.view) else " (unfinished)"
    parts = [f"## {run.view.header['name']}{unfinished}", facts(run.view), "### The search", *page.search(run)]
    if run.view.confirmed is None:
        return [*parts, "The proof had not ended when this page was written: nothing is claimed."]
    return [*parts, "### The proof", proof_words(run.view), *page.proof(run)]


def facts(view: SweepView) -> str:
    """Where, when and with what the sweep ran."""
    rows = ", ".join(f"{count} {split}" for split, count in view.data["rows"].items())
    hashes = ", ".join(f"{split} {value[:12]}" for split, value in view.data["hashes"].items())
    machine = ", ".join(f"{name} {value}" for name, value in view.machine.items() if value is not None)
    trained = sum(sum(trial.pace.values()) for trial in view.trials.values()) / 3600
    lines = [
        f"- command: `{portable(view.header['command'])}`",
        f"- commit: {view.header['commit']}",
        f"- data: {view.data['name']}, {rows}; sha256 {hashes}",
        f"- machine: {machine}",
        f"- seed {view.spec.seed}, proof on seeds {view.spec.confirm.seeds}",
        f"- {trained:.1f} hours of training in all trials together"
        + ("" if complete(view) else "; the sweep has not ended"),
    ]
    return "\n".join(lines)


def complete(view: SweepView) -> bool:
    """Whether the sweep came to its end: one that was interrupted has ended too, but not so."""
    return view.ended is not None and bool(view.ended["complete"])


def search_table(view: SweepView, paths: Sequence[str], score: str, columns: Mapping[str, Column]) -> str:
    """Every search trial, best first: its settings at `paths`, how far it came, its score on select, and more."""
    done = sorted(
        (trial for trial in view.search if trial.over), key=lambda trial: (trial.score is None, -(trial.score or 0))
    )
    rows = [
        [
            *(str(trial.config.get(path, "")) for path in paths),
            trial.step,
            trial.state,
            figure(trial.value, ".4f"),
            *(column(trial) for column in columns.values()),
        ]
        for trial in done
    ]
    return table([*paths, "epochs", "outcome", score, *columns], rows)


def proof_words(view: SweepView) -> str:
    """How the proof was made."""
    return (
        "Each arm was trained again on the same fresh seeds, with the same largest number of epochs and the same rule "
        "for which epoch is kept, and then opened on the report split. Intervals are at "
        f"{100 * (1 - view.spec.confirm.alpha):g} %."
    )


def comparisons(view: SweepView, name: Callable[[str], str] = str) -> str:
    """The winner against the others, and how far the search flattered it; `name` says how an arm is called."""
    rows = [[name(c.arm), name(c.against), difference(c), figure(c.p_holm, ".3f"), c.verdict] for c in view.comparisons]
    found = table(["arm", "against", "difference on report", "p (Holm)", "verdict"], rows)
    assert view.confirmed is not None
    gap = f"Optimism of the search (its select score less the fresh seeds' mean): {view.confirmed.optimism:+.4f}."
    return f"{found}\n\n{gap}"


def difference(found: Comparison) -> str:
    """How much better the first of two arms is, with its interval."""
    return f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def points(found: Comparison | Difference) -> str:
    """A difference with its interval, in hundredths."""
    low, high = (f"{100 * end:+.2f}" for end in (found.low, found.high))
    return f"{100 * found.difference:+.2f} [{low}, {high}]"


def scores(scored: ArmResult | OtherScore) -> tuple[str, str]:
    """A mean with its interval, and the score of each seed."""
    interval = f"{scored.mean:.4f} [{scored.low:.4f}, {scored.high:.4f}]"
    return interval, ", ".join(f"{value:.4f}" for value in scored.per_seed)


def select_mean(arm: ArmResult) -> str:
    """The mean over seeds of the score on select."""
    return f"{fmean(arm.select_per_seed):.4f}"


def each(view: SweepView, arm: ArmResult, column: Column, alike: bool = False) -> str:
    """What a column says of each seed's trial; with `alike` the same only once."""
    said = [column(view.trials[trial]) for trial in arm.trials]
    return ", ".join(dict.fromkeys(said) if alike else said)


def last(metric: str, form: str) -> Column:
    """A column of what trials reported last."""
    return lambda trial: figure(trial.last.get(metric), form)


def tried(trial: TrialView) -> str:
    """The most dendrites of a layer that a trial trained with, kept or not."""
    found = [metrics.get("epoch.dendrites", 0) for metrics in trial.curve.values()]
    return figure(max(found, default=None), ".0f")


kept = last("dendrites", ".0f")


def figure(value: float | None, form: str) -> str:
    """A number in a format of Python's; percent stand apart from it."""
    return NOTHING if value is None else f"{value:{form}}".replace("%", " %")


def settings(config: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A configuration's settings, called as `names` has it by their dotted paths; a machine's folders are not shown."""
    return portable(", ".join(f"{name}={config[path]}" for path, name in names.items() if path in config))


def varied(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Settings that are not the same in all of these configurations."""
    listed = list(configs)
    paths = dict.fromkeys(path for config in listed for path in config)
    return [path for path in paths if len({repr(config.get(path)) for config in listed}) > 1]
