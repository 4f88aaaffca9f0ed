"""The results page of a real NEXUS sweep, from its journal alone, beside the published numbers.

    python -m benchmarks.nexus SWEEP_FOLDER [SWEEP_FOLDER ...] --out benchmarks/results/nexus.md

Every figure of ours is read from a recorded run; the published ones stand in their own table and were not run here.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measured import table, write_page
from raysweep.journal import FILE, Record, records

# Project NEXUS's own README and records, Spearman x 100 on the validation split; nobody ran these here.
PUBLISHED = [
    ("README table", "baseline, 384 dimensions", "86.5"),
    ("README table", "dendrites, 384 dimensions", "87.68"),
    ("README table", "baseline, 38 dimensions", "85.33"),
    ("README table", "dendrites, 38 dimensions", "85.59"),
    ("README, winner of the sweep", "lr 2e-5, batch 32, patience 4, dendrites", "89.167"),
    ("its own CSV files", "0 dendrites, 147,840 adapter parameters", "89.17"),
    ("its own CSV files", "1 dendrite, 296,064 adapter parameters", "89.03"),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--note", default="", help="what was done differently from the sweep file, and why")
    given = parser.parse_args(arguments)
    sections = [part for folder in given.folders for part in section(folder)]
    parts = ["# NEXUS on the STS benchmark", *([given.note] if given.note else []), *sections]
    write_page([*parts, *published()], given.out)


def section(folder: Path) -> list[str]:
    """One sweep: what was run, its search, its proof."""
    found = records(folder / FILE)
    unfinished = "" if any(record["kind"] == "ended" for record in found) else " (unfinished)"
    parts = [f"## {found[0]['name']}{unfinished}", facts(found), "### The search", search_table(found)]
    confirmed = next((record for record in found if record["kind"] == "confirmed"), None)
    if confirmed is None:
        return [*parts, "The proof had not ended when this page was written: nothing is claimed."]
    return [*parts, "### The proof", proof_words(found), proof_table(found, confirmed), comparisons(confirmed)]


def facts(found: list[Record]) -> str:
    """Where, when and with what the sweep ran."""
    head, ended = found[0], [record for record in found if record["kind"] == "ended"]
    rows = ", ".join(f"{count} {split}" for split, count in head["data"]["rows"].items())
    hashes = ", ".join(f"{split} {value[:12]}" for split, value in head["data"]["hashes"].items())
    machine = ", ".join(f"{name} {value}" for name, value in head["machine"].items() if value is not None)
    trained = sum(record["seconds"] for record in found if record["kind"] == "reported") / 3600
    lines = [
        f"- command: `{_portable(head['command'])}`",
        f"- commit: {head['commit']}",
        f"- data: {head['data']['name']}, {rows}; sha256 {hashes}",
        f"- machine: {machine}",
        f"- seed {head['spec']['seed']}, proof on seeds {head['spec']['confirm']['seeds']}",
        f"- {trained:.1f} hours of training in all trials together"
        + ("" if ended and ended[-1]["complete"] else "; the sweep has not ended"),
    ]
    return "\n".join(lines)


def search_table(found: list[Record]) -> str:
    """Every search trial: what differed, how far it came, its best score on select."""
    asked = [record for record in found if record["kind"] == "asked" and record["role"] == "search"]
    varied = _varied([record["config"] for record in asked])
    ended = {record["trial"]: record for record in found if record["kind"] == "finished"}
    done = [record for record in asked if record["trial"] in ended]
    done.sort(key=lambda record: -(ended[record["trial"]]["value"] or 0))
    rows = [_search_row(record, ended[record["trial"]], varied, found) for record in done]
    head = [
        *varied,
        "epochs",
        "outcome",
        "select Spearman",
        "dendrites kept",
        "most dendrites tried",
        "adapter parameters",
    ]
    return table(head, rows)


def _search_row(asked: Record, ended: Record, varied: Sequence[str], found: list[Record]) -> list[Any]:
    told = [r["metrics"] for r in found if r["kind"] == "reported" and r["trial"] == asked["trial"]]
    last = ended["values"]
    tried = max(metrics.get("epoch.dendrites", 0) for metrics in told)
    settings = [str(asked["config"].get(path, "")) for path in varied]
    measured = [f"{ended['value']:.4f}", f"{last['dendrites']:.0f}", f"{tried:.0f}"]
    return [*settings, ended["step"], ended["outcome"], *measured, f"{last['size.adapter_parameters']:,.0f}"]


def proof_words(found: list[Record]) -> str:
    """How the proof was made."""
    confirm = found[0]["spec"]["confirm"]
    return (
        "Each arm was trained again on the same fresh seeds, with the same largest number of epochs and the same rule "
        "for which epoch is kept, and then opened on the report split. Intervals are at "
        f"{100 * (1 - confirm['alpha']):g} %."
    )


def proof_table(found: list[Record], confirmed: Record) -> str:
    """Finalists and references on the report split."""
    ended = {record["trial"]: record["values"] for record in found if record["kind"] == "finished"}
    rows = []
    varied = _varied([arm["config"] for arm in confirmed["arms"]])
    for arm in confirmed["arms"]:
        sizes = [f"{ended[trial]['size.adapter_parameters']:,.0f}" for trial in arm["trials"]]
        kept = [f"{ended[trial]['dendrites']:.0f}" for trial in arm["trials"]]
        name = arm["arm"] + (" (winner)" if arm["arm"] == confirmed["winner"] else "")
        interval = f"{arm['mean']:.4f} [{arm['low']:.4f}, {arm['high']:.4f}]"
        seeds = ", ".join(f"{value:.4f}" for value in arm["per_seed"])
        select = sum(arm["select_per_seed"]) / len(arm["select_per_seed"])
        sizes_text = ", ".join(dict.fromkeys(sizes))
        settings = ", ".join(
            f"{path.rpartition('.')[2]}={arm['config'][path]}" for path in varied if path in arm["config"]
        )
        rows.append([name, settings, interval, seeds, f"{select:.4f}", ", ".join(kept), sizes_text])
    head = [
        "arm",
        "settings",
        "report Spearman",
        "each seed",
        "select Spearman",
        "dendrites kept",
        "adapter parameters",
    ]
    return table(head, rows)


def comparisons(confirmed: Record) -> str:
    """The winner against the others, and how far the search flattered it."""
    rows = [
        [
            c["arm"],
            c["against"],
            f"{c['difference']:+.4f} [{c['low']:+.4f}, {c['high']:+.4f}]",
            f"{c['p_holm']:.3f}",
            c["verdict"],
        ]
        for c in confirmed["comparisons"]
    ]
    found = table(["arm", "against", "difference on report", "p (Holm)", "verdict"], rows)
    gap = f"Optimism of the search (its select score less the fresh seeds' mean): {confirmed['optimism']:+.4f}."
    return f"{found}\n\n{gap}"


def published() -> list[str]:
    """What the project itself printed: selected and reported on the same split, one seed, unequal budgets."""
    words = (
        "Not run here. Selected and reported on the validation split, one seed, dendritic runs up to 100 epochs "
        "against a fixed 10 of the baseline; the project's own CSV files contradict its table."
    )
    rows = [[source, what, value] for source, what, value in PUBLISHED]
    return ["## Published numbers", words, table(["source", "what", "validation Spearman x 100"], rows)]


def _varied(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Settings that are not the same in all of these configurations."""
    paths = dict.fromkeys(path for config in configs for path in config)
    return [path for path in paths if len({repr(config.get(path)) for config in configs}) > 1]


def _portable(command: str) -> str:
    """The command without the folders of the machine that it ran on."""
    return re.sub(r"(data\.source=)/\S*", r"\1FOLDER", command)


if __name__ == "__main__":
    main()
