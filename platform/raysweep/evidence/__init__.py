"""What a sweep may claim: intervals, paired comparisons, the Pareto front, and which finalist wins. Pure numpy."""

from raysweep.evidence.bootstrap import Difference, Interval, bootstrap_interval, holm, paired_difference
from raysweep.evidence.confirmation import ArmResult, Comparison, Confirmation, OtherScore
from raysweep.evidence.error_reduction import ErrorReduction, error_reduction
from raysweep.evidence.pareto import hypervolume, pareto_front
from raysweep.evidence.scores import score
from raysweep.evidence.verdict import Arm, confirm, optimism

__all__ = [
    "Arm",
    "ArmResult",
    "Comparison",
    "Confirmation",
    "Difference",
    "ErrorReduction",
    "Interval",
    "OtherScore",
    "bootstrap_interval",
    "confirm",
    "error_reduction",
    "holm",
    "hypervolume",
    "optimism",
    "paired_difference",
    "pareto_front",
    "score",
]
