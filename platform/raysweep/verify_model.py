"""Run in a fresh process with a model's URI and its verify.json: does the model load, and give the same outputs?

Prints the largest absolute difference as JSON. Fails loudly when the model cannot be loaded where raysweep is missing.
"""

import gc
import json
import sys
from pathlib import Path

gc.disable()  # importing makes millions of objects that stay, and the process soon ends
sys.modules["raysweep"] = None  # type: ignore[assignment]  # whoever loads the model need not have it

import mlflow  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

uri, expected = sys.argv[1:]
wanted = json.loads(Path(expected).read_text())
# Nor may the loader's package come from anywhere but the model: an editable install would hide what was not packed.
manifest = json.loads((Path(expected).parent / "manifest.json").read_text())
loader = manifest["loader"].partition(":")[0].partition(".")[0]
sys.path[:] = [place for place in sys.path if not (Path(place) / loader).exists()]
model = mlflow.pyfunc.load_model(uri)
rows = [[text] if isinstance(text, str) else text for text in wanted["texts"]]  # a pair is a row already
outputs = np.asarray(model.predict(pd.DataFrame(rows, columns=manifest["columns"])), dtype=np.float64)
targets = np.asarray(wanted["outputs"], dtype=np.float64)
if outputs.shape != targets.shape:
    sys.exit(f"the loaded model gives shape {outputs.shape}, its export gave {targets.shape}")
print(json.dumps({"difference": float(np.abs(outputs - targets).max())}))
gc.freeze()  # nor is there a last search
