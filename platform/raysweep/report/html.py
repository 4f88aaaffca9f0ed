"""One self-contained HTML file about a sweep: no network, no fonts, no second file; plotly.js is inside, once."""

import base64
import hashlib
import os
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from raysweep.journal import FILE, records
from raysweep.problems import Problem, UserError
from raysweep.report.blocks import note
from raysweep.report.heading import header
from raysweep.report.markup import Markup, join, tag
from raysweep.report.origin import model, provenance
from raysweep.report.sections import failures, proof, search, trials
from raysweep.report.view import SweepView

REPORT = "report.html"


def write_report(folder: Path, running: bool = False) -> Path:
    """Write `folder`/report.html from its journal; `running` says whether a process holds the sweep now.

    Raises UserError when the folder holds no journal.
    """
    if not (folder / FILE).is_file():
        raise UserError([Problem(f"no sweep in this folder: it has no {FILE}", file=str(folder))])
    text = (folder / "sweep.yaml").read_text(encoding="utf-8") if (folder / "sweep.yaml").is_file() else None
    content = page(SweepView.from_records(records(folder / FILE), running), text)
    path, beside = folder / REPORT, folder / f".{REPORT}.{os.getpid()}"
    beside.write_text(content, encoding="utf-8", newline="\n")
    os.replace(beside, path)
    return path


def page(view: SweepView, sweep_file: str | None = None) -> Markup:
    """The whole page. `sweep_file` is the text of the file that the sweep was made from, if it is at hand."""
    scripts = [get_plotlyjs(), _asset("page.js")] if view.begun else []
    main = tag("main", header(view), *_sections(view, sweep_file), _written())
    body = tag("body", main, *(tag("script", Markup(script)) for script in scripts))
    return join((Markup("<!doctype html>\n"), tag("html", _head(view, scripts), body, lang="en")))


def _sections(view: SweepView, sweep_file: str | None) -> list[Markup | None]:
    if not view.begun:
        return []
    parts = [section(view) for section in (proof, search, trials, failures, model)]
    return [*parts, provenance(view, sweep_file)]


def _head(view: SweepView, scripts: list[str]) -> Markup:
    """The policy makes the browser refuse all that is not in this file, and every script but these."""
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts) or "'none'"
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    void = (
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
    )
    title = tag("title", f"{view.spec.name}: sweep report" if view.begun else "sweep report")
    return tag("head", *(Markup(element) for element in void), title, tag("style", Markup(_asset("page.css"))))


def _written() -> Markup:
    return note(f"Written by raysweep from the sweep's journal, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC.")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return files("raysweep.report").joinpath(name).read_text(encoding="utf-8")
