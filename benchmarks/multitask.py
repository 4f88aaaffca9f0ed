"""The results page of multi-task sweeps, from their journals and recorded predictions.

    python -m benchmarks.multitask SWEEP_FOLDER [SWEEP_FOLDER ...] --out benchmarks/results/multitask.md

Every figure is read from a recorded run; every answer follows from the verdicts of the tables below it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import results_page, variants
from benchmarks.measured import table
from benchmarks.multitask_answers import SECONDS, of_freezing, of_pooling, of_probe, of_sharing
from benchmarks.multitask_arms import PROBE, Against, against, called, everything_of, own_scores, separate_of
from benchmarks.results_page import (
    NOTHING,
    Page,
    SweepRun,
    figure,
    last,
    points,
    scores,
    select_mean,
    settings,
)
from benchmarks.variants import own_settings, repeated
from raysweep.evidence import ArmResult, Comparison
from raysweep.report.view import SweepView
from raysweep.report.wording import unproven_values

COSTS = {  # the metric, and its format
    "learned in the last epoch": ("open.parameters", ",.0f"),
    "parameters": ("size.parameters", ",.0f"),
    "bytes on disk": ("size.disk_bytes", ",.0f"),
    "ms for one text": ("latency.p50_ms", ".2f"),
    "ms for 16 texts": ("latency.batch16_ms", ".2f"),
}
ANSWER_WORDS = (
    "Each answer follows from verdicts on the same seeds and examples, Holm-corrected over the table below that they "
    "stand in, or over their sentence where no table has them. Figures are points, hundredths of a score, with their "
    "intervals. What is not distinguishable may still differ by as much as its interval says."
)
COST_WORDS = (
    "Means over the seeds, measured beside whatever else ran. Seconds are of training and of scoring on select; the "
    "states of an encoder that never learns are made once for all trials of a sweep. Milliseconds are from text to the "
    "answers of all tasks by the exported model."
)
AGAINST_WORDS = (
    "From the recorded predictions, on the same seeds and examples, in points: hundredths of each task's own score. "
    "p values are Holm-corrected over all comparisons of this table."
)
PUBLISHED = (
    "There are none: the system that this follows was trained on random tokens and labels. It says that CLS+mean gave "
    "the best vectors, without a figure."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    page = Page("Multi-task sentence transformer", search, proof, ["## Published numbers", PUBLISHED])
    results_page.main(page, __doc__, arguments)


def search(run: SweepRun) -> list[str]:
    """What the variants are, then every search trial with what differs inside of its variant."""
    tasks = own_scores(run.view.search[0].config)
    columns = {f"{name} on select": last(f"select.{name}.score", ".4f") for name in tasks}
    return variants.search(run, run.view.metric, {**columns, "seconds": last(SECONDS, ",.1f")})


def proof(run: SweepRun) -> list[str]:
    """The answers, what each arm scores and costs, and the comparisons that the answers are made of."""
    view, tasks = run.view, own_scores(run.view.arms[0].config)
    everything, separate = everything_of(view), separate_of(view)
    by_task = against(run, everything, tasks) if everything else None
    alone = against(run, separate, tasks) if separate else None
    probed = against(run, everything, {"probe": PROBE}) if everything and PROBE in view.others else None
    answers = [
        *(of_sharing(view, alone) if alone else []),
        *([*of_freezing(view, by_task), *of_pooling(run, by_task)] if by_task else []),
        *(of_probe(view, probed) if probed else []),
    ]
    return [
        *repeated(view),
        *unproven_values(view),
        *(["### What the sweep answers", ANSWER_WORDS, "\n".join(answers)] if answers else []),
        *["### Scores", scores_table(view), "### Costs", COST_WORDS, costs_table(view, everything)],
        *against_section("an encoder for each task", alone, view),
        *against_section("everything learns in one encoder", by_task, view),
        *against_section("the vectors by themselves", probed, view),
        *["### The winner against the others", results_page.comparisons(view, lambda name: called(view, name))],
    ]


def scores_table(view: SweepView) -> str:
    """Every arm with the score of all tasks, and every further one: each task's own ones, and the probe."""
    names = own_settings(view)
    head = ["arm", "settings", f"report {view.arms[0].metric}", "each seed", "select mean", *view.others]
    rows = [
        [
            called(view, arm.arm) + (", winner" if arm == view.winner else ""),
            settings(arm.config, names) or NOTHING,
            *scores(arm),
            select_mean(arm),
            *(scores(arm.others[name])[0] for name in view.others),
        ]
        for arm in view.arms
    ]
    return table(head, rows)


def costs_table(view: SweepView, everything: ArmResult | None) -> str:
    """How long each arm trained, and what its models weigh."""
    ratio = f"x {called(view, everything.arm)}" if everything else "x"
    rows = [
        [
            called(view, arm.arm),
            figure(view.measured(arm, SECONDS), ",.1f"),
            share(view, arm, everything),
            *(figure(view.measured(arm, metric), form) for metric, form in COSTS.values()),
        ]
        for arm in view.arms
    ]
    return table(["arm", "seconds of training", ratio, *COSTS], rows)


def share(view: SweepView, arm: ArmResult, everything: ArmResult | None) -> str:
    """The arm's seconds of training as a multiple of those of the arm in which everything learns."""
    own, whole = view.measured(arm, SECONDS), view.measured(everything, SECONDS) if everything else None
    return NOTHING if own is None or not whole else figure(own / whole, ".2f")


def against_section(title: str, found: Against | None, view: SweepView) -> list[str]:
    """Every arm against one, score by score; nothing where there is no such one."""
    if found is None:
        return []
    shown = list(next(iter(found.rows.values()), {}))
    head = ["arm", *(word for name in shown for word in (f"{name}, points", "p", "p (Holm)", "verdict"))]
    rows = [[called(view, arm), *cells(by_score)] for arm, by_score in found.rows.items()]
    return [f"### Against {called(view, found.opponent.arm)}: {title}", AGAINST_WORDS, table(head, rows)]


def cells(by_score: Mapping[str, Comparison]) -> list[Any]:
    """Of each score the difference, what chance there is of it, and the verdict."""
    return [
        cell
        for row in by_score.values()
        for cell in (points(row), figure(row.p, ".3f"), figure(row.p_holm, ".3f"), row.verdict)
    ]


if __name__ == "__main__":
    main()
