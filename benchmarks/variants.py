"""What the pages of sweeps over variants share: a table of the variants, and any two arms of the proof compared."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import results_page
from benchmarks.measured import table
from benchmarks.results_page import Column, SweepRun, figure, points, settings, varied
from raysweep.evidence import Arm, Comparison, confirm, holm
from raysweep.evidence.bootstrap import RESAMPLES
from raysweep.proof import Trials
from raysweep.report.view import SweepView
from raysweep.report.wording import short_names

VARIANT = "variant"


def search(run: SweepRun, score: str, columns: Mapping[str, Column]) -> list[str]:
    """What the variants are, then every search trial with what differs inside of its variant."""
    configs = [trial.config for trial in run.view.search]
    paths = [*([VARIANT] if VARIANT in varied(configs) else []), *searched(configs)]
    return [*described(configs), results_page.search_table(run.view, paths, score, columns)]


def described(configs: Sequence[Mapping[str, Any]]) -> list[str]:
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


def repeated(view: SweepView) -> list[str]:
    """A sentence on examples that stand twice, if there are any."""
    counts = [f"{count} {where}" for where, count in view.data.get("overlaps", {}).items() if count]
    return [f"Examples that stand twice in the data: {', '.join(counts)}."] if counts else []


def called(view: SweepView, name: str) -> str:
    """An arm with its variant; a reference has that of the configuration that it changes."""
    variant = next(arm.config.get(VARIANT) for arm in view.arms if arm.arm == name)
    return f"{name} ({variant})" if variant and variant != name else name


def own_settings(view: SweepView) -> dict[str, str]:
    """Short names of the settings in which arms differ beyond what follows from their variants, by dotted path."""
    follow = {VARIANT, *implied([trial.config for trial in view.search])}
    return short_names(path for path in varied(arm.config for arm in view.arms) if path not in follow)


def compared(run: SweepRun, pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    """The named pairs' differences on the report split, first less second, Holm-corrected as one family."""
    return compared_by(run, [(one, two, "") for one, two in pairs])


def compared_by(run: SweepRun, rows: Sequence[tuple[str, str, str]]) -> list[Comparison]:
    """The same for rows of two arms and the further score that they are compared in, or "" for the proof's own."""
    trials, confirming = Trials(run.records, run.view.metric, run.folder), run.view.spec.confirm
    arms = {name: trials.arm(name) for name in dict.fromkeys(name for row in rows for name in row[:2])}
    # so many resamples that the smallest p value there can be is still half of alpha after the correction
    resamples = max(RESAMPLES, math.ceil(4 * len(rows) / confirming.alpha))
    found = [
        _compare(_scored_by(arms[one], score), _scored_by(arms[two], score), run, resamples) for one, two, score in rows
    ]
    adjusted = holm([row.p for row in found])
    return [
        replace(row, p_holm=p, verdict=row.verdict if p <= confirming.alpha else "not distinguishable")
        for row, p in zip(found, adjusted, strict=True)
    ]


def _scored_by(arm: Arm, score: str) -> Arm:
    """The arm as if this further score of it were all there is."""
    main = arm.others[score] if score else arm
    return replace(arm, predictions=main.predictions, targets=main.targets, statistic=main.statistic, others={})


def _compare(first: Arm, second: Arm, run: SweepRun, resamples: int) -> Comparison:
    """The first arm against the second alone, as if it had won a proof of the two."""
    two, spec = [replace(first, role="finalist"), replace(second, role="reference")], run.view.spec
    return confirm(two, spec.confirm.alpha, spec.seed, resamples=resamples).comparisons[0]


def compared_table(run: SweepRun, pairs: Sequence[tuple[str, str]], name: Callable[[str], str]) -> str:
    """A row for each pair of arms, the first against the second, as one family."""
    rows = [
        [
            name(row.arm),
            name(row.against),
            points(row),
            figure(row.p, ".3f"),
            figure(row.p_holm, ".3f"),
            row.verdict,
        ]
        for row in compared(run, pairs)
    ]
    return table(["arm", "against", "points", "p", "p (Holm)", "verdict"], rows)
