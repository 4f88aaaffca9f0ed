"""The results page of DendriticBERT sweeps, from their journals and recorded predictions, beside the published numbers.

    python -m benchmarks.dendritic_bert SWEEP_FOLDER [SWEEP_FOLDER ...] --out benchmarks/results/dendritic_bert.md

Every figure of ours is read from a recorded run; the published ones stand in their own table and were not run here.
"""

from collections.abc import Sequence

from benchmarks import results_page, variants
from benchmarks.measured import table
from benchmarks.results_page import (
    NOTHING,
    Page,
    SweepRun,
    difference,
    each,
    figure,
    kept,
    last,
    scores,
    select_mean,
    settings,
    tried,
)
from benchmarks.variants import VARIANT, called, compared, own_settings, repeated
from raysweep.evidence import ArmResult, Comparison
from raysweep.report.view import SweepView
from raysweep.report.wording import unproven_values

STANDARD = "standard"
# Variants with dendrites, and their controls: as many parameters in a plain wider layer.
CONTROLLED = {"dsn-dendrites": "dsn-matched", "dendrites": "matched"}
# Project DendriticBERT's own README, what its models hold when counted, and cards of public models; SST-2.
PUBLISHED = [
    ("README", "bert-tiny", "88.7 %", "4.43M"),
    ("README", "DSN", "89.5 %: remaining error 7.08 % less", "0.49M (-88.9 %)"),
    ("counted", "bert-tiny with its head", NOTHING, "4,386,178"),
    ("counted", "DSN with its head", NOTHING, "3,973,122 (-9.4 %; -99.9 % behind the embeddings)"),
    ("five public model cards", "bert-tiny on the official validation split", "79.5 to 83.8 %", NOTHING),
]
SIZES = {
    "parameters": last("size.parameters", ",.0f"),
    "behind the embeddings": last("size.without_embeddings", ",.0f"),
    "bytes": last("size.bytes", ",.0f"),
    "parameters saved": last("size.reduction", ".1%"),
    "saved behind the embeddings": last("size.reduction_without_embeddings", ".1%"),
}
SHARED = {"parameters of standard": "size.parameters", "behind the embeddings of standard": "size.without_embeddings"}
MEASURED = {  # the metric, and its format
    "bytes on disk": ("size.disk_bytes", ",.0f"),
    "training examples a second": ("time.examples_per_second", ",.0f"),
    "ms for one text": ("latency.p50_ms", ".2f"),
    "ms for 16 texts": ("latency.batch16_ms", ".2f"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    results_page.main(Page("DendriticBERT", search, proof, published()), __doc__, arguments)


def search(run: SweepRun) -> list[str]:
    """What the variants are, then every search trial with what differs inside of its variant."""
    sizes = {name: SIZES[name] for name in ("parameters", "behind the embeddings")}
    columns = {"dendrites kept": kept, "most dendrites tried": tried, **sizes}
    return variants.search(run, "select.score", columns)


def proof(run: SweepRun) -> list[str]:
    """Every arm's scores and costs, then what may be said of them, first against the standard model."""
    view = run.view
    found = [*repeated(view), *unproven_values(view), scores_table(view), COST_WORDS, costs_table(view)]
    against = ["### Against the standard model, and the control", *against_standard(run)]
    winner = results_page.comparisons(view, lambda name: called(view, name))
    return [*found, *against, "### The winner against the others", winner]


def scores_table(view: SweepView) -> str:
    """What each arm scores, on the report split and on further ones."""
    names = own_settings(view)
    others = [f"{name}: {statistic}" for name, statistic in view.others.items()]
    metric = f"report {view.arms[0].metric}"
    head = ["arm", "settings", metric, "each seed", "select mean", *others, "dendrites kept", "most dendrites tried"]
    rows = [
        [
            called(view, arm.arm) + (", winner" if arm == view.winner else ""),
            settings(arm.config, names),
            *scores(arm),
            select_mean(arm),
            *(scores(arm.others[name])[0] for name in view.others),
            each(view, arm, kept),
            each(view, arm, tried),
        ]
        for arm in view.arms
    ]
    return table(head, rows)


COST_WORDS = (
    "What the models cost. Savings are against the whole encoder with its pooler and a plain classifier; `of standard` "
    "is the share of the standard model's. Speeds are means over the seeds: of the last epoch's training steps, and "
    "medians from text to answer by the exported model, measured beside whatever else ran."
)


def costs_table(view: SweepView) -> str:
    """What each arm's models weigh, each different size once, and how fast they are."""
    rows = [
        [
            called(view, arm.arm),
            *(each(view, arm, size, alike=True) for size in SIZES.values()),
            *(of_standard(view, arm, metric) for metric in SHARED.values()),
            *(figure(view.measured(arm, metric), form) for metric, form in MEASURED.values()),
        ]
        for arm in view.arms
    ]
    return table(["arm", *SIZES, *SHARED, *MEASURED], rows)


def of_standard(view: SweepView, arm: ArmResult, metric: str) -> str:
    """The arm's mean of a size as a share of the standard model's."""
    standard = arm_of(view, STANDARD)
    if standard is None:
        return NOTHING
    own, whole = view.measured(arm, metric), view.measured(standard, metric)
    return NOTHING if own is None or not whole else figure(own / whole, ".2%")


def against_standard(run: SweepRun) -> list[str]:
    """Every arm against the standard model, and dendrites against the plain layer of as many parameters."""
    rows = [
        [
            called(run.view, row.arm),
            called(run.view, row.against),
            difference(row),
            figure(row.p, ".3f"),
            figure(row.p_holm, ".3f"),
            error_gone(row),
            row.verdict,
        ]
        for row in compared(run, compared_pairs(run.view))
    ]
    if not rows:
        return ["No arm is a standard model, and none a control of dendrites: there is nothing to compare."]
    words = (
        "From the recorded predictions, on the same seeds and examples; p values are Holm-corrected over the rows of "
        "this table. The remaining error is what a score lacks to the best there is: at 10 % a tenth of the other "
        "arm's is gone, below zero there is more."
    )
    head = ["arm", "against", "difference on report", "p", "p (Holm)", "remaining error gone", "verdict"]
    return [words, table(head, rows)]


def compared_pairs(view: SweepView) -> list[tuple[str, str]]:
    """Names of the arms that are compared: the first of each pair against the second."""
    standard = arm_of(view, STANDARD)
    pairs = [(arm.arm, standard.arm) for arm in view.arms if standard and arm != standard]
    controlled = ((arm_of(view, one), arm_of(view, other)) for one, other in CONTROLLED.items())
    return [*pairs, *((one.arm, other.arm) for one, other in controlled if one and other)]


def arm_of(view: SweepView, name: str) -> ArmResult | None:
    """The best finalist of a variant, or the reference of that name: a reference's variant is not its own."""
    finalists = [arm for arm in view.arms if arm.role == "finalist" and arm.config.get(VARIANT) == name]
    return next(iter([*finalists, *(arm for arm in view.arms if arm.arm == name)]), None)


def error_gone(row: Comparison) -> str:
    """The share of the other arm's remaining error that the first has not, with its interval."""
    found = row.error_reduction
    if found is None:
        return "not defined"
    low, high = figure(found.low, "+.1%"), figure(found.high, "+.1%")
    return f"{figure(found.value, '+.1%')} [{low}, {high}]"


def published() -> list[str]:
    """What the project itself printed, and what its models weigh."""
    words = (
        "Not run here. The project's script scores on 100 validation rows, which gives whole percents only, so the "
        "README's scores cannot come from it; its dendritic one is the best of a sweep against an untuned baseline, "
        "and its counts of parameters are not those of its models, which are mostly embeddings."
    )
    rows = [list(row) for row in PUBLISHED]
    return ["## Published numbers", words, table(["source", "what", "SST-2 accuracy", "parameters"], rows)]


if __name__ == "__main__":
    main()
