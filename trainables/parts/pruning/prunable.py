"""Whether an encoder is one that can be pruned."""

from typing import Any

from raysweep.problems import UserError
from trainables.parts.pruning.architectures import ARCHITECTURES, architecture_of


def check_prunable(encoder: Any) -> None:
    """Raises UserError if it is not known where this kind of encoder keeps its layers, heads and neurons."""
    if architecture_of(encoder) is None:
        kind, known = encoder.config.model_type, ", ".join(sorted(ARCHITECTURES))
        raise UserError(
            f"pruning knows encoders of the kinds {known}, but encoder.name is of kind {kind}: take another"
        )
