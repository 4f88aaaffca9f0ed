"""The process that trains: a Ray Tune actor that takes up one trial after another; it imports nothing of the driver."""

from typing import Any

from ray.tune import Trainable

from raysweep.engine.isolated import runner_for
from raysweep.engine.runner import Assignment


class WarmTrainable(Trainable):  # type: ignore[misc]
    """Trains one trial after another in the same process: `reset_config` starts the next one."""

    def setup(self, config: dict[str, Any]) -> None:
        assignment = Assignment(**config["assignment"])
        self._runner = runner_for(assignment)
        self._runner.begin(assignment)

    def step(self) -> dict[str, Any]:
        outcome = self._runner.step()
        return {"events": outcome.events, "over": outcome.over, "done": outcome.over}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._runner.close()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        self._runner.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        raise AssertionError("a trial's checkpoints are the runner's")

    def load_checkpoint(self, checkpoint: Any) -> None:
        raise AssertionError("a trial's checkpoints are the runner's")
