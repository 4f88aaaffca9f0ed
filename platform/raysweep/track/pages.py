"""The texts that people read on a tracker's pages, in Markdown: of the sweep, and of its evidence."""

from collections.abc import Sequence
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
    lines += _further_scores(record["arms"])
    return "\n".join([*lines, "", *(f"- {comparison(row)}" for row in record.get("comparisons", []))])


def _further_scores(arms: Sequence[dict[str, Any]]) -> list[str]:
    """A table of what the arms score besides; nothing where there is nothing."""
    rows = [
        f"| {arm['arm']} | {name}: {other['statistic']} | {_figure(other['mean'])} | {_interval(other)} |"
        for arm in arms
        for name, other in arm.get("others", {}).items()
    ]
    return ["", "| arm | further score | on report | interval |", "|---|---|---|---|", *rows] if rows else []


def comparison(row: dict[str, Any]) -> str:
    """One comparison in a sentence."""
    said = f"{row['arm']} against {row['against']}: {_figure(row['difference'])}, {_interval(row)}"
    if error := row.get("error_reduction"):
        change = (f"{-100 * error[key]:+.0f}" for key in ("value", "high", "low"))
        said += ", remaining error {} % ({} to {} %)".format(*change)
    return f"{said}, p (Holm) {_figure(row.get('p_holm'))}: **{row['verdict']}**"


def score(arm: dict[str, Any]) -> str:
    """An arm's report score with its interval."""
    return f"{arm.get('metric', 'score')} {_figure(arm['mean'])}, {_interval(arm)}"


def _interval(row: dict[str, Any]) -> str:
    return f"{_figure(row.get('low'))} to {_figure(row.get('high'))}"


def _figure(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"


def model_page(sweep: Record, confirmed: Record, evaluated: Record, uri: str, columns: Sequence[str]) -> str:
    """A registered version's page: what it is, what it trained on, how good, how large, and how to load it.

    `columns` are those of its input.
    """
    card, data = dict(evaluated.get("card") or {}), sweep.get("data") or {}
    arm = winner(confirmed)
    sentence_transformer = bool(card.pop("sentence_transformer", False))
    seeds = ", ".join(map(str, arm.get("seeds", [])))
    lines = [
        f"Champion of the sweep **{sweep['name']}** (recipe `{sweep['recipe']}`, arm {arm['arm']}).",
        SYNTHETIC if data.get("synthetic") else "",
        f"Trained on {data.get('name', 'unnamed data')} ({data.get('source', 'no source')}).",
        f"On the report split: {score(arm)}, over training seeds {seeds}. This model: {_metrics(evaluated)}.",
        "\n".join(f"- {comparison(row)}" for row in confirmed.get("comparisons", [])),
        "\n".join(f"- {key}: {value}" for key, value in card.items()),
        _loading(uri, columns, sentence_transformer),
        f"Made by `{sweep['command']}`" if sweep.get("command") else "",
    ]
    return "\n\n".join(line for line in lines if line)


def winner(confirmed: Record) -> dict[str, Any]:
    """The arm that won."""
    return next(arm for arm in confirmed["arms"] if arm["arm"] == confirmed["winner"])


def _loading(uri: str, columns: Sequence[str], sentence_transformer: bool) -> str:
    texts = ", ".join(f'"{column}": ["a sentence", "another"]' for column in columns)
    code = [
        f'model = mlflow.pyfunc.load_model("{uri}")',
        f"model.predict(pandas.DataFrame({{{texts}}}))",
    ]
    if sentence_transformer:
        code += [
            "",
            f'folder = mlflow.artifacts.download_artifacts("{uri}/artifacts/model")',
            "sentence_transformers.SentenceTransformer(folder)",
        ]
    return "\n".join(["```python", *code, "```"])


def _metrics(evaluated: Record) -> str:
    return ", ".join(f"{name} {_figure(value)}" for name, value in evaluated["metrics"].items())
