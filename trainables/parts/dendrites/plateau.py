"""When to grow: a pure state machine over scores. It knows nothing of models."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from trainables.parts.dendrites.settings import DendriteSettings

Action = Literal["go on", "grown", "done"]  # what has become of a model after a report


@dataclass(slots=True)
class Plateau:
    """Scores are maximised. A score that is not finite is never better than another, nor does it reset the patience.

    After a growth the patience runs against the best score since that growth; what counts in the end is the best of
    all. A growth that does not raise the best of all is tried again from the best model, `max_tries` times in all.
    """

    settings: DendriteSettings
    reports: int = 0
    dendrites: int = 0
    best: float | None = None
    best_dendrites: int = 0
    best_since: float | None = None  # since the last growth
    waited: int = 0  # reports since `best_since` rose
    raised: bool = True  # whether the best of all rose since the last growth; no growth has failed yet
    tries: int = 0
    done: bool = False

    def report(self, score: float) -> tuple[bool, Literal["go on", "grow", "done"]]:
        """Whether `score` is the best of all, to be kept, and then what to do.

        On "grow" and "done" the best model is to be put back first; on "grow" it then gets one more dendrite.
        """
        assert not self.done, "there is nothing to report after 'done'"
        self.reports += 1
        best = self._better(score, self.best)
        if best:
            self.best, self.best_dendrites, self.raised = score, self.dendrites, True
        if self._better(score, self.best_since):
            self.best_since, self.waited = score, 0
        else:
            self.waited += 1
        return best, self._switch() if self._due() else "go on"

    def state(self) -> dict[str, Any]:
        """Everything but the settings."""
        return {name: value for name, value in asdict(self).items() if name != "settings"}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        assert set(state) == {field.name for field in fields(self)} - {"settings"}
        for name, value in state.items():
            setattr(self, name, value)

    def _better(self, score: float, than: float | None) -> bool:
        if not math.isfinite(score) or than is None:
            return math.isfinite(score)
        relative = self.settings.threshold_mode == "relative"
        return score - than > self.settings.threshold * (abs(than) if relative else 1.0)

    def _due(self) -> bool:
        if not self.settings.enabled or self.best is None:  # without one finite score there is nothing to grow from
            return False
        if self.settings.switch == "fixed":
            return self.reports % self.settings.every == 0
        return self.waited >= self.settings.patience

    def _switch(self) -> Literal["grow", "done"]:
        self.tries = 0 if self.raised else self.tries + 1
        self.dendrites = self.best_dendrites
        if self.tries >= self.settings.max_tries or self.dendrites >= self.settings.max_dendrites:
            self.done = True
            return "done"
        self.dendrites += 1
        self.best_since, self.waited, self.raised = None, 0, False
        return "grow"
