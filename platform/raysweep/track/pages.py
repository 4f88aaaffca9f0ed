"""The texts that people read on a tracker's pages, in Markdown: of the sweep, and of its evidence."""

from typing import Any

from raysweep.journal import Record

SYNTHETIC = "**SYNTHETIC data: made by the project to try things out. These scores say nothing about real text.**"


def sweep_page(record: Record) -> str:
    """What a sweep is, what it trains on, and how it was started."""
    data = record.get("data") or {}
    lines = [str(record["spec"].get("description") or ""), SYNTHETIC if data.get("synthetic") else ""]
    lines.append(
        f"Recipe `{record['recipe']}` on {data.get('name', 'unnamed data')} ({data.get('source', 'no source')})"
    )
    if record.get("command"):
        lines.append(f"Started by `{record['command']}`")
    return "\n\n".join(line for line in lines if line)


def confirmed_page(record: Record) -> str:
    """The arms with their intervals, and what the paired comparisons say."""
    lines = ["", "", "| arm | report score | interval | seeds |", "|---|---|---|---|"]
    for arm in record["arms"]:
        seeds = ", ".join(map(str, arm.get("seeds", [])))
        lines.append(f"| {arm['arm']} | {_figure(arm['mean'])} | {_interval(arm)} | {seeds} |")
    return "\n".join([*lines, "", *(f"- {comparison(row)}" for row in record.get("comparisons", []))])


def comparison(row: dict[str, Any]) -> str:
    """One comparison in a sentence."""
    said = f"{row['arm']} against {row['against']}: {_figure(row['difference'])}, {_interval(row)}"
    return f"{said}, p (Holm) {_figure(row.get('p_holm'))}: **{row['verdict']}**"


def score(arm: dict[str, Any]) -> str:
    """An arm's report score with its interval."""
    return f"{arm.get('metric', 'score')} {_figure(arm['mean'])}, {_interval(arm)}"


def _interval(row: dict[str, Any]) -> str:
    return f"{_figure(row.get('low'))} to {_figure(row.get('high'))}"


def _figure(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"
