"""What the arms of a SparseBERT sweep are: dense or pruned, by which method, how much, and by chance or by rank."""

from collections.abc import Mapping
from typing import Any

from benchmarks.variants import VARIANT
from raysweep.evidence import ArmResult
from raysweep.report.view import SweepView
from trainables.parts.pruning.settings import UNITS, PruningSettings

DENSE = 0.0  # the share that goes where nothing is pruned
_DEFAULTS = {
    **{f"pruning.{name}": default for name, default in PruningSettings().model_dump().items()},
    "quantise.kind": "none",
}


def value(config: Mapping[str, Any], path: str) -> Any:
    """A setting, also where a sweep file leaves it out."""
    return config.get(path, _DEFAULTS[path])


def sparsity(config: Mapping[str, Any]) -> float:
    """The share that goes, as it was asked for."""
    return DENSE if value(config, "pruning.target") == "none" else float(value(config, "pruning.sparsity"))


def label(arm: ArmResult) -> str:
    """The name that says what an arm is: its variant, or that of a reference, whose variant is not its own."""
    return arm.arm if arm.role == "reference" else str(arm.config.get(VARIANT) or arm.arm)


def method(arm: ArmResult) -> str:
    """What an arm is called without the share in percent: variant heads-50 is heads."""
    percent = f"{100 * sparsity(arm.config):g}"
    return "-".join(part for part in label(arm).split("-") if part != percent)


def called(arm: ArmResult) -> str:
    """An arm with its method and share: finalist-3 (heads, 50 %)."""
    named = [method(arm)] if method(arm) != arm.arm else []
    shares = [percent(share)] if (share := sparsity(arm.config)) != DENSE else []
    return f"{arm.arm} ({', '.join([*named, *shares])})" if named or shares else arm.arm


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def by_method(view: SweepView) -> dict[str, dict[float, ArmResult]]:
    """The arms by method and share, the least pruned first; of several the best finalist, which comes first."""
    found: dict[str, dict[float, ArmResult]] = {}
    for arm in view.arms:
        found.setdefault(method(arm), {}).setdefault(sparsity(arm.config), arm)
    return {name: dict(sorted(arms.items())) for name, arms in found.items()}


def dense_of(view: SweepView) -> ArmResult | None:
    """The arm of which nothing is pruned or quantised; a finalist rather than a reference."""
    whole = [arm for arm in view.arms if sparsity(arm.config) == DENSE and value(arm.config, "quantise.kind") == "none"]
    return next(iter(sorted(whole, key=lambda arm: arm.role != "finalist")), None)


def controls_of(view: SweepView, arm: ArmResult) -> list[ArmResult]:
    """The arms that prune as much of the same, as this one does by rank, by chance."""
    if sparsity(arm.config) == DENSE or chance(arm):
        return []
    return [other for other in view.arms if chance(other) and _what_goes(other.config) == _what_goes(arm.config)]


def _what_goes(config: Mapping[str, Any]) -> tuple[frozenset[str], float, str]:
    """The kinds of what is pruned, how much, and how the rest is stored. Two of four are half of the weights."""
    targets = value(config, "pruning.target").replace("two_four", "weights").split("+")
    return frozenset(targets), sparsity(config), value(config, "quantise.kind")


def whole_units(arm: ArmResult) -> bool:
    """Whether heads or neurons go."""
    return any(unit in value(arm.config, "pruning.target").split("+") for unit in UNITS)


def chance(arm: ArmResult) -> bool:
    """Whether an arm prunes at random."""
    return sparsity(arm.config) != DENSE and value(arm.config, "pruning.importance") == "random"


def removed(view: SweepView, arm: ArmResult) -> bool:
    """Whether an arm's models have fewer parameters than the dense one, not only more zeros."""
    dense = dense_of(view)
    ours = view.measured(arm, "size.parameters")
    whole = None if dense is None else view.measured(dense, "size.parameters")
    if ours is None or whole is None:
        return whole_units(arm)
    return ours < whole
