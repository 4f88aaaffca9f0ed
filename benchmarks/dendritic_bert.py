"""The results page of DendriticBERT sweeps, from their journals and recorded predictions, beside the published numbers.

    python -m benchmarks.dendritic_bert SWEEP_FOLDER [SWEEP_FOLDER ...] --out benchmarks/results/dendritic_bert.md

Every figure of ours is read from a recorded run; the published ones stand in their own table and were not run here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import results_page
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
    varied,
)
from raysweep.evidence import Arm, ArmResult, Comparison, confirm, holm
from raysweep.evidence.bootstrap import RESAMPLES
from raysweep.proof import Trials
from raysweep.report.view import SweepView
from raysweep.report.wording import short_names, unproven_values

VARIANT, STANDARD = "variant", "standard"
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
    configs = [trial.config for trial in run.view.search]
    paths = [*([VARIANT] if VARIANT in varied(configs) else []), *searched(configs)]
    sizes = {name: SIZES[name] for name in ("parameters", "behind the embeddings")}
    columns = {"dendrites kept": kept, "most dendrites tried": tried, **sizes}
    return [*variants(configs), results_page.search_table(run.view, paths, "select.score", columns)]


def variants(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of the variants with what each of them sets; nothing where there is only one."""
    one = {config[VARIANT]: config for config in configs if VARIANT in config}
    names = {path: path for path in implied(configs)}
    rows = [[name, settings(config, names)] for name, config in one.items()]
    return [table([VARIANT, "its settings"], rows)] if len(rows) > 1 else []


def implied(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings that follow from the variant."""
    free = {VARIANT, *searched(configs)}
    return [path for path in varied(configs) if path not in free]


def searched(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings that differ between configurations of one variant."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for config in configs:
        groups.setdefault(config.get(VARIANT), []).append(config)
    return list(dict.fromkeys(path for group in groups.values() for path in varied(group)))


def proof(run: SweepRun) -> list[str]:
    """Every arm's scores and costs, then what may be said of them, first against the standard model."""
    view = run.view
    found = [*repeated(view), *unproven_values(view), scores_table(view), COST_WORDS, costs_table(view)]
    against = ["### Against the standard model, and the control", *against_standard(run)]
    winner = results_page.comparisons(view, lambda name: called(view, name))
    return [*found, *against, "### The winner against the others", winner]


def repeated(view: SweepView) -> list[str]:
    """A sentence on examples that stand twice, if there are any."""
    counts = [f"{count} {where}" for where, count in view.data.get("overlaps", {}).items() if count]
    return [f"Examples that stand twice in the data: {', '.join(counts)}."] if counts else []


def called(view: SweepView, name: str) -> str:
    """An arm with its variant; a reference has that of the configuration that it changes."""
    variant = next(arm.config.get(VARIANT) for arm in view.arms if arm.arm == name)
    return f"{name} ({variant})" if variant else name


def scores_table(view: SweepView) -> str:
    """What each arm scores, on the report split and on further ones."""
    follow = implied([trial.config for trial in view.search])
    paths = [path for path in varied(arm.config for arm in view.arms) if path not in {VARIANT, *follow}]
    others = [f"{name}: {statistic}" for name, statistic in view.others.items()]
    metric = f"report {view.arms[0].metric}"
    head = ["arm", "settings", metric, "each seed", "select mean", *others, "dendrites kept", "most dendrites tried"]
    rows = [
        [
            called(view, arm.arm) + (", winner" if arm == view.winner else ""),
            settings(arm.config, short_names(paths)),
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
        for row in compared(run)
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


def compared(run: SweepRun) -> list[Comparison]:
    """The pairs' differences on the report split, Holm-corrected as one family."""
    pairs, confirming = compared_pairs(run.view), run.view.spec.confirm
    trials = Trials(run.records, run.view.metric, run.folder)
    arms = {name: trials.arm(name) for name in {name for pair in pairs for name in pair}}
    # so many resamples that the smallest p value there can be is still half of alpha after the correction
    resamples = max(RESAMPLES, math.ceil(4 * len(pairs) / confirming.alpha))
    found = [compare(arms[one], arms[two], confirming.alpha, run.view.spec.seed, resamples) for one, two in pairs]
    adjusted = holm([row.p for row in found])
    return [
        replace(row, p_holm=p, verdict=row.verdict if p <= confirming.alpha else "not distinguishable")
        for row, p in zip(found, adjusted, strict=True)
    ]


def compare(first: Arm, second: Arm, alpha: float, seed: int, resamples: int) -> Comparison:
    """The first arm against the second alone, as if it had won a proof of the two."""
    two = [replace(first, role="finalist", others={}), replace(second, role="reference", others={})]
    return confirm(two, alpha, seed, resamples=resamples).comparisons[0]


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
