"""The results page of SparseBERT sweeps, from their journals and recorded predictions, beside the published numbers.

    python -m benchmarks.sparse_bert SWEEP_FOLDER [SWEEP_FOLDER ...] --out benchmarks/results/sparse_bert.md

Every figure of ours is read from a recorded run; the published ones stand in their own tables and were not run here.
A picture of quality against size and latency goes beside the page, under its name with the ending .svg.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import results_page, variants
from benchmarks.measured import table
from benchmarks.methods import DENSE, by_method, called, controls_of, dense_of, percent, removed, sparsity, value
from benchmarks.results_page import NOTHING, Page, SweepRun, figure, last, points, scores, select_mean, settings
from benchmarks.sparse_bert_published import published
from benchmarks.trade_off import picture
from benchmarks.variants import compared_table, own_settings, repeated
from raysweep.evidence import Arm, ArmResult, paired_difference
from raysweep.proof import Trials
from raysweep.report.view import SweepView
from raysweep.report.wording import unproven_values

MASK_ALONE = "a mask alone is no speed-up"
SEARCHED = {
    "weights zero": last("sparsity.weights", ".1%"),
    "heads gone": last("sparsity.heads", ".1%"),
    "neurons gone": last("sparsity.neurons", ".1%"),
}
SIZES = {  # the metric, and its format
    "parameters": ("size.parameters", ",.0f"),
    "not zero": ("size.nonzero", ",.0f"),
    "weights zero": ("sparsity.weights", ".1%"),
    "heads gone": ("sparsity.heads", ".1%"),
    "neurons gone": ("sparsity.neurons", ".1%"),
    "bytes of the weights as served": ("size.bytes", ",.0f"),
    "bytes of the weight file": ("size.file_bytes", ",.0f"),
    "bytes of the folder": ("size.disk_bytes", ",.0f"),
}
SPEEDS = {
    "ms for one text": ("latency.p50_ms", ".2f"),
    "p95": ("latency.p95_ms", ".2f"),
    "dense": ("dense.p50_ms", ".2f"),
    "ratio": ("latency.ratio", ".2f"),
    "ms for 16 texts": ("latency.batch16_ms", ".2f"),
    "dense, 16": ("dense.batch16_ms", ".2f"),
    "ratio, 16": ("latency.ratio16", ".2f"),
    "peak MB": ("memory.peak_mb", ",.0f"),
    "dense, MB": ("dense.peak_mb", ",.0f"),
}
STAGES = {"dense": "dense", "pruned": "pruned", "finetuned": "fine-tuned"}  # scores beside the model's own


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page, and its picture."""
    results_page.main(Page("SparseBERT", search, proof, published(), picture), __doc__, arguments)


def search(run: SweepRun) -> list[str]:
    """What the variants are, then every search trial with what differs inside of its variant."""
    return variants.search(run, run.view.metric, SEARCHED)


def proof(run: SweepRun) -> list[str]:
    """Scores by method and sparsity, what may be said of them, the stages, and what the models cost."""
    view = run.view
    return [
        *repeated(view),
        *unproven_values(view),
        *by_sparsity(view),
        scores_table(view),
        *["### Against the dense model, and against random choice", *against(run)],
        *["### Before and after each stage", *stages(run)],
        *["### Sizes", SIZE_WORDS, measured_table(view, SIZES)],
        *["### Speed and memory", SPEED_WORDS, speeds_table(view)],
        *["### The winner against the others", results_page.comparisons(view, lambda name: arm_called(view, name))],
    ]


def by_sparsity(view: SweepView) -> list[str]:
    """A row for each method, a column for each share: the score, and the points to the dense model."""
    dense, shares = dense_of(view), sorted({sparsity(arm.config) for arm in view.arms})
    rows = [[name, *(cell(arms.get(share), dense) for share in shares)] for name, arms in by_method(view).items()]
    head = ["method", *("nothing pruned" if share == DENSE else f"{percent(share)} pruned" for share in shares)]
    words = (
        f"Report {view.arms[0].metric} with its interval, and behind it the points (hundredths) to the dense model, "
        "of the best configuration of each method and share. Shares are as they were asked for."
    )
    return [words, table(head, rows)]


def cell(arm: ArmResult | None, dense: ArmResult | None) -> str:
    """What an arm scores, and how far that is from the dense model."""
    if arm is None:
        return NOTHING
    apart = "" if dense is None or arm == dense else f"; {100 * (arm.mean - dense.mean):+.2f}"
    return scores(arm)[0] + apart


def scores_table(view: SweepView) -> str:
    """Every arm with its own settings, the score of each seed, and further scores that are no stage."""
    names, further = own_settings(view), [name for name in view.others if name not in STAGES]
    head = ["arm", "settings", f"report {view.arms[0].metric}", "each seed", "select mean", *further]
    rows = [
        [
            arm_called(view, arm.arm) + (", winner" if arm == view.winner else ""),
            settings(arm.config, names),
            *scores(arm),
            select_mean(arm),
            *(scores(arm.others[name])[0] for name in further),
        ]
        for arm in view.arms
    ]
    return table(head, rows)


def arm_called(view: SweepView, name: str) -> str:
    """An arm with what it is."""
    return next(called(arm) for arm in view.arms if arm.arm == name)


def against(run: SweepRun) -> list[str]:
    """Every arm against the dense model, and every choice of what goes against a random one of the same share."""
    pairs = compared_pairs(run.view)
    if not pairs:
        return ["No arm is dense, and none a random choice of the same share: there is nothing to compare."]
    words = (
        "From the recorded predictions, on the same seeds and examples, in points: hundredths of the score. p values "
        "are Holm-corrected over the rows of this table."
    )
    return [words, compared_table(run, pairs, lambda name: arm_called(run.view, name))]


def compared_pairs(view: SweepView) -> list[tuple[str, str]]:
    """Names of the arms that are compared: the first of each pair against the second."""
    dense = dense_of(view)
    to_dense = [(arm.arm, dense.arm) for arm in view.arms if dense and arm != dense]
    return [*to_dense, *((arm.arm, control.arm) for arm in view.arms for control in controls_of(view, arm))]


def stages(run: SweepRun) -> list[str]:
    """What each arm scored before and after pruning, fine-tuning and quantising, and what each brought."""
    named = [name for name in STAGES if any(name in arm.others for arm in run.view.arms)]
    if not named:
        return ["The stages were not scored one by one."]
    words = (
        "The same trials on the same examples: the dense model that a trial begins with, after pruning, after "
        "fine-tuning where it was quantised then, and as it is served. Recovered is fine-tuned less pruned, quantising "
        "is served less fine-tuned, both in points with paired intervals, not corrected for their number."
    )
    trials = Trials(run.records, run.view.metric, run.folder)
    rows = [stage_row(run.view, arm, trials.arm(arm.arm), named) for arm in run.view.arms]
    head = ["arm", *(STAGES[name] for name in named), "served", "recovered", "quantising", "served less dense"]
    return [words, table(head, rows)]


def stage_row(view: SweepView, result: ArmResult, arm: Arm, named: Sequence[str]) -> list[Any]:
    """One arm's scores by stage, and the differences between stages."""
    tuned = "finetuned" if "finetuned" in arm.others else ""  # where nothing was quantised, it is what is served
    between = [(tuned, "pruned"), ("", "finetuned"), ("", "dense")]
    return [
        called(result),
        *(scores(result.others[name])[0] if name in result.others else NOTHING for name in named),
        scores(result)[0],
        *(gain(view, arm, after, before) for after, before in between),
    ]


def gain(view: SweepView, arm: Arm, after: str, before: str) -> str:
    """What one stage of an arm scores more than an earlier one; the model as served has no name."""
    if any(stage and stage not in arm.others for stage in (after, before)):
        return NOTHING
    later, earlier = (arm.others[stage].predictions if stage else arm.predictions for stage in (after, before))
    rng = np.random.default_rng(view.spec.seed)
    return points(paired_difference(later, earlier, arm.targets, arm.statistic, view.spec.confirm.alpha, rng))


SIZE_WORDS = (
    "Means over the seeds. `parameters` are those that the model still has; of them `not zero` is what a mask leaves. "
    "The weight file leaves zeros out; as served all weights are in memory."
)
SPEED_WORDS = (
    "Means over the seeds of medians from text to answer by the exported model. `dense` is the trial's own dense "
    "model, measured in turns with it, beside whatever else ran: the ratios are what can be compared."
)


def measured_table(view: SweepView, columns: dict[str, tuple[str, str]]) -> str:
    """Each arm's measurements."""
    rows = [[called(arm), *measurements(view, arm, columns)] for arm in view.arms]
    return table(["arm", *columns], rows)


def measurements(view: SweepView, arm: ArmResult, columns: dict[str, tuple[str, str]]) -> list[str]:
    """An arm's means over its seeds; what was not measured is left open."""
    return [figure(view.measured(arm, metric), form) for metric, form in columns.values()]


def speeds_table(view: SweepView) -> str:
    """How fast each arm's models are, and what could make them so."""
    rows = [[called(arm), made_faster(view, arm), *measurements(view, arm, SPEEDS)] for arm in view.arms]
    return table(["arm", "what could make it faster", *SPEEDS], rows)


def made_faster(view: SweepView, arm: ArmResult) -> str:
    """What became of a model's matrices: smaller ones, other numbers, or none of it."""
    kind = value(arm.config, "quantise.kind")
    found = [] if kind == "none" else [f"ONNX Runtime, {'float32' if kind == 'onnx' else kind}"]
    if sparsity(arm.config) != DENSE:
        found.insert(0, "smaller matrices" if removed(view, arm) else MASK_ALONE)
    return "; ".join(found) or NOTHING


if __name__ == "__main__":
    main()
