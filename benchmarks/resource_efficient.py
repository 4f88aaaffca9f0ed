"""The results page of resource-efficient sweeps, from their journals and recorded predictions.

    python -m benchmarks.resource_efficient SWEEP_FOLDER [...] --out benchmarks/results/resource_efficient.md

Every figure of ours is read from a recorded run; the published ones stand in their own tables and were not run here.
Pictures of learning curves, languages and costs go beside the page, under its name with the ending .svg.
"""

from collections.abc import Mapping, Sequence

from benchmarks import efficient_languages, results_page, variants
from benchmarks.efficient_arms import (
    NOT_RUN,
    SPLITS,
    by_way,
    comparable,
    every_row,
    given_rows,
    in_order,
    larger,
    said,
    sized,
    told,
    within,
)
from benchmarks.efficient_picture import picture
from benchmarks.measured import table
from benchmarks.resource_efficient_published import published
from benchmarks.results_page import NOTHING, Column, Page, SweepRun, scores, select_mean, settings
from benchmarks.variants import called, compared_table, own_settings, repeated
from raysweep.evidence import ArmResult
from raysweep.report.view import SweepView
from raysweep.report.wording import unproven_values

Columns = Mapping[str, tuple[str, str]]  # the metric, and its format
PARAMETERS: Columns = {
    "parameters that learn": ("size.trainable", ",.0f"),
    "parameters": ("size.parameters", ",.0f"),
}
FOLDS: Columns = {
    "mean of the folds": ("folds.score", ".4f"),
    "standard deviation": ("folds.deviation", ".4f"),
}
TRAINING: Columns = {
    "seconds": ("resources.train_seconds", ",.1f"),
    "examples a second": ("time.examples_per_second", ",.1f"),
    "joules": ("resources.train_joules", ",.0f"),
    "peak MB": ("resources.peak_memory_mb", ",.0f"),
    "peak MB of the GPU": ("resources.peak_gpu_memory_mb", ",.0f"),
    "processors, %": ("resources.processor_percent", ".0f"),
    "GPU, %": ("resources.gpu_percent", ".0f"),
}
SERVING: Columns = {
    "ms for one text": ("latency.p50_ms", ",.2f"),
    "p95": ("latency.p95_ms", ",.2f"),
    "ms for 16 texts": ("latency.batch16_ms", ",.2f"),
    "texts a second": ("throughput.texts_per_second", ",.1f"),
    "joules a text": ("energy.joules_per_text", ".4f"),
    "MB of memory": ("memory.serving_mb", ",.0f"),
    "bytes of the weights": ("size.weight_bytes", ",.0f"),
    "bytes of the folder": ("size.disk_bytes", ",.0f"),
}
FOLDS_WORDS = (
    "Each fold of the training rows is held out once, and scored by a model that trained on the others: the score of "
    "its best epoch, which flatters. Means over the seeds."
)
COMPARED_WORDS = (
    "Every two arms that trained on as many rows, but no two references: the first less the second, from the recorded "
    "predictions on the same seeds and examples, in points, hundredths of the score. p values are Holm-corrected over "
    "the rows of this table."
)
CURVE_WORDS = "Report {metric} with its interval by the rows that were trained on, of the best arm of each."
LARGER_WORDS = "What more rows bring, on the same seeds and examples, in points; Holm-corrected over this table."
WITHIN_WORDS = (
    "Scores of arms whose trials train on one size after another, each time from the start: means over the seeds, "
    "without intervals."
)
TRAINING_WORDS = (
    "Means over the seeds, measured beside whatever else ran. Joules and percent are of whole processors and GPUs; "
    "peak memory is the process's while the trial trained."
)
SERVING_WORDS = "Means over the seeds, of the exported model after warm-up, from text to answer."


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page, and its picture."""
    results_page.main(Page("Resource-efficient models", search, proof, published(), picture), __doc__, arguments)


def search(run: SweepRun) -> list[str]:
    """What the variants are, then every search trial with what differs inside of its variant."""
    return variants.search(run, run.view.metric, {"seconds": last_of("seconds"), "joules": last_of("joules")})


def last_of(name: str) -> Column:
    """A column of what training took in all, as trials reported it last."""
    metric, form = TRAINING[name]
    return lambda trial: told(trial.last.get(metric), form)


def proof(run: SweepRun) -> list[str]:
    """Scores and comparisons, then what rows and languages do to them, then what the models cost."""
    view = run.view
    return [
        *repeated(view),
        *unproven_values(view),
        *["### Scores", scores_table(view)],
        *["### Models and ways of tuning compared", *compared_section(run, comparable(view), COMPARED_WORDS)],
        *["### Scores by training rows", *curve_section(run)],
        *["### Cross-validation", *folds_section(view)],
        *["### Languages", *efficient_languages.section(run)],
        *["### Parameters", costs_table(view, PARAMETERS)],
        *["### What training took", TRAINING_WORDS, costs_table(view, TRAINING)],
        *["### What answering takes", SERVING_WORDS, costs_table(view, SERVING)],
        *["### The winner against the others", results_page.comparisons(view, lambda name: called(view, name))],
    ]


def scores_table(view: SweepView) -> str:
    """Every arm with its own settings, the score of each seed, and every further score that is of no language."""
    names, further = own_settings(view), efficient_languages.others_of(view)
    head = ["arm", "settings", "rows", f"report {view.arms[0].metric}", "each seed", "select mean", *further]
    rows = [
        [
            called(view, arm.arm) + (", winner" if arm == view.winner else ""),
            settings(arm.config, names) or NOTHING,
            said(given_rows(arm.config)),
            *scores(arm),
            select_mean(arm),
            *(scores(arm.others[name])[0] for name in further),
        ]
        for arm in view.arms
    ]
    return table(head, rows)


def compared_section(run: SweepRun, pairs: Sequence[tuple[str, str]], words: str) -> list[str]:
    """Pairs of arms as one family; nothing to compare is said."""
    if not pairs:
        return ["There are no two arms to compare."]
    return [words, compared_table(run, pairs, lambda name: called(run.view, name))]


def curve_section(run: SweepRun) -> list[str]:
    """Scores by rows: of arms that each trained on another number, and of trials that went from size to size."""
    view = run.view
    lines = within_lines(view)
    if sized(view):
        words = CURVE_WORDS.format(metric=view.arms[0].metric)
        lines = [words, curve_table(view), *compared_section(run, larger(view), LARGER_WORDS), *lines]
    return lines or [f"No way of tuning was trained on several numbers of rows: {NOT_RUN}."]


def curve_table(view: SweepView) -> str:
    """A row for each way of tuning, a column for each number of rows."""
    ways, every = by_way(view), every_row(view)
    sizes = sorted({rows for arms in ways.values() for rows in arms}, key=in_order)
    head = [said(rows) if rows or not every else f"{said(rows)} {every:,}" for rows in sizes]
    rows = [
        [name, *(scores(arms[size])[0] if size in arms else NOT_RUN for size in sizes)] for name, arms in ways.items()
    ]
    return table(["trained on", *head], rows)


def within_lines(view: SweepView) -> list[str]:
    """A row for each arm and split that has scores by size."""
    found = {(arm.arm, split): within(view, arm, split) for arm in view.arms for split in SPLITS}
    sizes = sorted({rows for by_rows in found.values() for rows in by_rows})
    if not sizes:
        return []
    rows = [
        [called(view, arm), split, *(told(by_rows.get(size), ".4f") for size in sizes)]
        for (arm, split), by_rows in found.items()
        if by_rows
    ]
    return [WITHIN_WORDS, table(["arm", "scored on", *map(said, sizes)], rows)]


def folds_section(view: SweepView) -> list[str]:
    """What cross-validation found, if there was any."""
    if all(view.measured(arm, metric) is None for arm in view.arms for metric, _ in FOLDS.values()):
        return [f"No arm was cross-validated: {NOT_RUN}."]
    return [FOLDS_WORDS, costs_table(view, FOLDS)]


def costs_table(view: SweepView, columns: Columns) -> str:
    """Each arm's measurements."""
    rows = [[called(view, arm.arm), *measurements(view, arm, columns)] for arm in view.arms]
    return table(["arm", *columns], rows)


def measurements(view: SweepView, arm: ArmResult, columns: Columns) -> list[str]:
    """An arm's means over its seeds."""
    return [told(view.measured(arm, metric), form) for metric, form in columns.values()]


if __name__ == "__main__":
    main()
