"""The results page of a real NEXUS sweep, from its journal alone, beside the published numbers.

    python -m benchmarks.nexus SWEEP_FOLDER [SWEEP_FOLDER ...] --out benchmarks/results/nexus.md

Every figure of ours is read from a recorded run; the published ones stand in their own table and were not run here.
"""

from collections.abc import Sequence

from benchmarks import results_page
from benchmarks.measured import table
from benchmarks.results_page import (
    Page,
    SweepRun,
    comparisons,
    each,
    kept,
    last,
    scores,
    select_mean,
    settings,
    tried,
    varied,
)
from raysweep.report.view import SweepView

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
size = last("size.adapter_parameters", ",.0f")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    results_page.main(Page("NEXUS on the STS benchmark", search, proof, published()), __doc__, arguments)


def search(run: SweepRun) -> list[str]:
    """Every search trial: what differed, how far it came, its best score on select."""
    columns = {"dendrites kept": kept, "most dendrites tried": tried, "adapter parameters": size}
    paths = varied(trial.config for trial in run.view.search)
    return [results_page.search_table(run.view, paths, "select Spearman", columns)]


def proof(run: SweepRun) -> list[str]:
    """Finalists and references on the report split, and the winner against the others."""
    return [proof_table(run.view), comparisons(run.view)]


def proof_table(view: SweepView) -> str:
    """Finalists and references on the report split."""
    names = {path: path.rpartition(".")[2] for path in varied(arm.config for arm in view.arms)}
    rows = [
        [
            arm.arm + (" (winner)" if arm == view.winner else ""),
            settings(arm.config, names),
            *scores(arm),
            select_mean(arm),
            each(view, arm, kept),
            each(view, arm, size, alike=True),
        ]
        for arm in view.arms
    ]
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


def published() -> list[str]:
    """What the project itself printed: selected and reported on the same split, one seed, unequal budgets."""
    words = (
        "Not run here. Selected and reported on the validation split, one seed, dendritic runs up to 100 epochs "
        "against a fixed 10 of the baseline; the project's own CSV files contradict its table."
    )
    rows = [[source, what, value] for source, what, value in PUBLISHED]
    return ["## Published numbers", words, table(["source", "what", "validation Spearman x 100"], rows)]


if __name__ == "__main__":
    main()
