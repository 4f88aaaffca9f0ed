"""What a sweep may claim: intervals, paired comparisons, the Pareto front, and which finalist wins. Pure numpy."""

from raysweep.evidence.bootstrap import Difference, Interval, bootstrap_interval, holm, paired_difference
from raysweep.evidence.pareto import hypervolume, pareto_front
from raysweep.evidence.scores import score
from raysweep.evidence.verdict import Arm, ArmResult, Comparison, Confirmation, confirm, optimism

__all__ = [
    "Arm",
    "ArmResult",
    "Comparison",
    "Confirmation",
    "Difference",
    "Interval",
    "bootstrap_interval",
    "confirm",
    "holm",
    "hypervolume",
    "optimism",
    "paired_difference",
    "pareto_front",
    "score",
]
