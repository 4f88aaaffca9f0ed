"""The report's last sections: the registered model and how to load it, and what it takes to run the sweep again."""

import json
import shlex
from datetime import datetime, timezone
from typing import Any

from raysweep.report.blocks import facts, section
from raysweep.report.markup import Child, Markup, tag
from raysweep.report.view import SweepView
from raysweep.report.wording import by_part, duration, measurement, number, plural, setting, sittings

UNITS = {"memory": "memory, GB"}


def model(view: SweepView) -> Markup:
    """The registered model, how to load it, and the card that its recipe wrote."""
    if not view.registered:
        return section("model", tag("p", f"No model is registered{'' if view.ended else ' yet'}."), *_folder(view))
    record = view.registered
    names = ("model", "version", "alias", "uri", "model_id", "run_id")
    pairs: list[tuple[str, Child]] = [(name.replace("_", " "), tag("code", setting(record[name]))) for name in names]
    pairs.append(("verified", f"loaded back; its output differs by at most {number(record['verified'])}"))
    loading = [tag("h3", "To load it"), tag("pre", _loading(view, record))]
    return section("model", facts(pairs), *loading, *_folder(view), *_card(view))


def provenance(view: SweepView, sweep_file: str | None) -> Markup:
    """When, where, with which code, seeds and data, and the command and file to do it again."""
    command = view.header.get("command") or "not recorded"
    seeds = f"{view.spec.seed} for the search; {', '.join(map(str, view.spec.confirm.seeds))} for the proof"
    commit = tag("code", view.header.get("commit") or "not recorded")
    pairs: list[tuple[str, Child]] = [
        ("begun", moment(view.header["time"])),
        ("worked", _worked(view)),
        ("commit", commit),
    ]
    pairs += [("seeds", seeds), ("data", _data(view)), *_parts(view), *_hashes(view)]
    pairs += [(UNITS.get(name, name), setting(value)) for name, value in view.machine.items() if value is not None]
    again = tag("pre", command if isinstance(command, str) else shlex.join(command))
    return section("provenance", facts(pairs), tag("h3", "To run it again"), again, *_file(view, sweep_file))


def moment(time: float) -> str:
    """A time in UTC."""
    return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _loading(view: SweepView, record: dict[str, Any]) -> str:
    uri = view.spec.tracking.mlflow.uri
    store = f"mlflow.set_tracking_uri({uri!r})\n" if uri else ""
    name = f"models:/{record['model']}@{record['alias']}"
    return f"import mlflow\n\n{store}model = mlflow.pyfunc.load_model({name!r})"


def _champion(view: SweepView) -> dict[str, Any]:
    return (view.champion.evaluated if view.champion else None) or {}


def _folder(view: SweepView) -> list[Child]:
    folder = _champion(view).get("model")
    return [tag("p", "The model's files are in ", tag("code", folder), " in the sweep's folder.")] if folder else []


def _card(view: SweepView) -> list[Child]:
    card = _champion(view).get("card") or {}
    words = [(name, _said(name, value)) for name, value in card.items()]
    return [tag("h3", "What its recipe says of it"), facts(words)] if words else []


def _said(name: str, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return measurement(name, value)
    return value if isinstance(value, str) else json.dumps(value)


def _worked(view: SweepView) -> str:
    return f"{duration(view.elapsed)}, {sittings(view)}" + (f"; ended: {view.ended['reason']}" if view.ended else "")


def _data(view: SweepView) -> str:
    if not view.data:
        return "not recorded"
    rows = _rows(by_part(view.data["rows"])[""])
    made = ["SYNTHETIC"] if view.synthetic else []
    repeats = [f"{where} {count}" for where, count in view.data.get("overlaps", {}).items() if count]
    twice = [f"examples that stand twice: {', '.join(repeats)}"] if repeats else []
    return "; ".join([f"{view.data['name']} from {view.data['source']}", *made, *rows, *twice])


def _parts(view: SweepView) -> list[tuple[str, Child]]:
    """Where the data are several in one."""
    parts = by_part(view.data.get("rows", {}))
    return [(f"{name} data", "; ".join(_rows(rows))) for name, rows in parts.items() if name]


def _rows(counts: dict[str, int]) -> list[str]:
    return [f"{name} {plural(count, 'row')}" for name, count in counts.items()]


def _hashes(view: SweepView) -> list[tuple[str, Child]]:
    return [(f"{name} rows", tag("code", f"sha256 {value}")) for name, value in view.data.get("hashes", {}).items()]


def _file(view: SweepView, text: str | None) -> list[Child]:
    resolved = json.dumps(view.header.get("spec"), indent=2)
    shown = [("Sweep file", text)] if text is not None else []
    shown.append(("Sweep file with all defaults", resolved))
    return [tag("details", tag("summary", title), tag("pre", content)) for title, content in shown]
