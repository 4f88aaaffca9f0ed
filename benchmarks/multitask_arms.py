"""What the arms of a multi-task sweep are, which of them are compared, and in which scores."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.results_page import SweepRun
from benchmarks.variants import VARIANT, compared_by
from raysweep.evidence import ArmResult, Comparison
from raysweep.report.view import SweepView
from trainables.parts.multitask.settings import FreezingSettings, VectorSettings
from trainables.parts.task_settings import TaskDataSettings
from trainables.parts.tasks import TASKS

PROBE = "probe spearman"
MEAN = "mean"
BOTH = "cls+mean"
_TASK = re.compile(r"tasks\.(\w+)\.")
_DEFAULTS = {
    "sharing": "hard",
    **{f"freezing.{name}": default for name, default in FreezingSettings().model_dump().items()},
    **{f"pooling.{name}": default for name, default in VectorSettings().model_dump().items()},
}


Rows = Mapping[str, Mapping[str, Comparison]]  # by arm, then by what is compared, mostly a task


@dataclass(frozen=True, slots=True)
class Against:
    """Every other arm against one of them."""

    opponent: ArmResult
    rows: Rows


def value(arm: ArmResult, path: str) -> Any:
    """A setting, also where a sweep file leaves it out."""
    return arm.config.get(path, _DEFAULTS[path])


def called(view: SweepView, name: str) -> str:
    """An arm by its variant, or by its own name: if it is a reference, has no variant, or shares it with another."""
    labels = {arm.arm: _label(arm) for arm in view.arms}
    label = labels[name]
    return label if label == name or list(labels.values()).count(label) == 1 else f"{name} ({label})"


def _label(arm: ArmResult) -> str:
    return arm.arm if arm.role == "reference" else str(arm.config.get(VARIANT) or arm.arm)


def finalists(view: SweepView) -> list[ArmResult]:
    return [arm for arm in view.arms if arm.role == "finalist"]


def frozen(view: SweepView, kind: str) -> list[ArmResult]:
    """The finalists that freeze in this way."""
    return [arm for arm in finalists(view) if value(arm, "freezing.kind") == kind]


def pooled(view: SweepView, both: bool) -> list[ArmResult]:
    """The finalists that pool the first token's state and the mean together, or all others."""
    return [arm for arm in finalists(view) if (value(arm, "pooling.kind") == BOTH) == both]


def everything_of(view: SweepView) -> ArmResult | None:
    """The arm of one encoder in which everything learns; of several one with plain mean pooling, a finalist."""
    found = [arm for arm in view.arms if value(arm, "sharing") == "hard" and value(arm, "freezing.kind") == "none"]
    return next(iter(sorted(found, key=lambda arm: (not plain_mean(arm), arm.role != "finalist"))), None)


def plain_mean(arm: ArmResult) -> bool:
    """Whether a text's vector is the mean of its tokens' states, and nothing behind it."""
    behind = value(arm, "pooling.projection") or value(arm, "pooling.layer_norm")
    return value(arm, "pooling.kind") == MEAN and not behind


def separate_of(view: SweepView) -> ArmResult | None:
    """The arm in which each task has an encoder of its own."""
    return next((arm for arm in view.arms if value(arm, "sharing") == "none"), None)


def own_scores(config: Mapping[str, Any]) -> dict[str, str]:
    """By task the name of the further score that is its own: `topic accuracy`."""
    names = dict.fromkeys(found[1] for path in config if (found := _TASK.match(path)))
    default = TaskDataSettings().task
    return {name: f"{name} {TASKS[config.get(f'tasks.{name}.data.task', default)].score}" for name in names}


def against(run: SweepRun, opponent: ArmResult, scores: Mapping[str, str]) -> Against:
    """Every other arm against this one in these further scores, Holm-corrected as one family."""
    triples = [(arm.arm, opponent.arm, score) for arm in run.view.arms if arm != opponent for score in scores.values()]
    rows: dict[str, dict[str, Comparison]] = {}
    names = {score: name for name, score in scores.items()}
    for (arm, _, score), row in zip(triples, compared_by(run, triples), strict=True):
        rows.setdefault(arm, {})[names[score]] = row
    return Against(opponent, rows)


def rows_of(found: Against, arms: Iterable[ArmResult]) -> Rows:
    """Of these arms, by arm and by what is compared."""
    return {arm.arm: found.rows[arm.arm] for arm in arms if arm.arm in found.rows}
