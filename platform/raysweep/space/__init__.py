"""The search space: a grammar of domains, branches, conditions and constraints, compiled to Optuna."""

from raysweep.space.compile import compile_space
from raysweep.space.space import Constraint, Dimension, Space

__all__ = ["Constraint", "Dimension", "Space", "compile_space"]
