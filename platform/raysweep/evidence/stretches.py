"""Scores of several tasks in one: their mean, each in units where 0 is guessing and 1 perfect; and how it is called."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from raysweep.trial import Scoring, Statistic, Stretch

Floats = npt.NDArray[np.float64]


def places(stretches: Sequence[Stretch], examples: int) -> Iterator[tuple[Statistic, slice]]:
    """Where each stretch stands among so many examples, and what scores it."""
    assert sum(one.size for one in stretches) == examples, f"{stretches} are not {examples} examples"
    start = 0
    for one in stretches:
        yield one.statistic, slice(start, start + one.size)
        start += one.size


def mean_score(stretches: Sequence[Stretch], scores: Sequence[Floats]) -> Floats:
    """The mean over the stretches of (score - chance) / (1 - chance), of scores of any one shape."""
    above = [(score - one.chance) / (1 - one.chance) for one, score in zip(stretches, scores, strict=True)]
    mean: Floats = np.mean(above, axis=0)
    return mean


def words(statistic: Scoring) -> str:
    """How a score is called: `accuracy`, or `mean of 3 x accuracy and spearman (0 is guessing)`."""
    if isinstance(statistic, str):
        return "mean score" if statistic == "mean" else statistic  # of scores that the examples have each
    counts = Counter(one.statistic for one in statistic)
    names = [f"{count} x {name}" if count > 1 else str(name) for name, count in counts.items()]
    mean = f"mean of {_listed(names)}" if len(statistic) > 1 else names[0]
    return f"{mean} (0 is guessing)" if any(one.chance for one in statistic) else mean


def exact_words(statistic: Scoring) -> str:
    """A score so exactly that two which differ differ here: `the mean of accuracy on 40 examples above 0.5 and ...`."""
    if isinstance(statistic, str):
        return statistic
    return f"the mean of {_listed([f'{one[0]} on {one[1]} examples above {one[2]}' for one in statistic])}"


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
