"""Loads the toy's model without raysweep, as a registered model must."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file


def load(folder: Path) -> Any:
    weight = load_file(Path(folder) / "model.safetensors")["weight"]
    return lambda texts: np.array([[len(text) * weight[0], weight[1]] for text in texts])
