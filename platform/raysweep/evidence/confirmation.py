"""What the proof found: the content of the journal's `confirmed` record."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from raysweep.evidence.error_reduction import ErrorReduction

Verdict = Literal["better", "worse", "not distinguishable"]


@dataclass(frozen=True, slots=True)
class OtherScore:
    """A further score of an arm, with its interval over examples and seeds. It decides nothing."""

    statistic: str
    mean: float
    low: float
    high: float
    per_seed: list[float]


@dataclass(frozen=True, slots=True)
class ArmResult:
    """An arm's score on the report split."""

    arm: str
    role: str
    of: str
    config: dict[str, Any]
    trials: list[str]
    seeds: list[int]
    metric: str
    mean: float
    low: float
    high: float
    per_seed: list[float]
    select_per_seed: list[float]
    others: dict[str, OtherScore] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "ArmResult":
        others = {name: OtherScore(**other) for name, other in record.get("others", {}).items()}
        return cls(**{**record, "others": others})


@dataclass(frozen=True, slots=True)
class Comparison:
    """The winner against another arm. `error_reduction` is None where the other arm may have no error left."""

    arm: str
    against: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: Verdict
    error_reduction: ErrorReduction | None = None

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Comparison":
        reduced = record.get("error_reduction")
        return cls(**{**record, "error_reduction": ErrorReduction(**reduced) if reduced else None})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The content of the journal's `confirmed` record."""

    arms: list[ArmResult]
    comparisons: list[Comparison]
    winner: str
    champion: str
    optimism: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Confirmation":
        """From a journal's record, also of a time before it had all fields; its `kind` and `time` are left out."""
        arms = [ArmResult.from_dict(arm) for arm in record["arms"]]
        comparisons = [Comparison.from_dict(comparison) for comparison in record["comparisons"]]
        return cls(arms, comparisons, record["winner"], record["champion"], record["optimism"])
