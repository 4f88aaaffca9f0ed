"""A model in MLflow, before it has a version: packed, uploaded, and loaded back in a fresh process."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from raysweep.model_folder import VERIFY, ModelFolder, code_of
from raysweep.problems import UserError

TOLERANCE = 1e-4  # largest absolute difference between a loaded model's outputs and those at its export
VERIFY_SECONDS = 300.0
PINNED = ("torch", "transformers", "safetensors", "numpy", "pandas", "tokenizers")
ONNX = "onnxruntime"  # for models in this format alone
OFFLINE = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def upload(client: MlflowClient, model: LoggedModel, folder: ModelFolder) -> LoggedModel:
    """Pack the folder with its loader's code and send it; the model is then READY."""
    # MLflow warns that no example input is given: verify.json is a better one.
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(record=True):
        packed = Path(place) / "model"
        mlflow.pyfunc.save_model(
            str(packed),
            mlflow_model=Model(model.artifact_location, model.source_run_id, model_id=model.model_id),
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"model": str(folder.path)},
            code_paths=[str(code_of(folder.loader))],
            signature=_signature(folder),
            pip_requirements=_pins(folder),
        )
        for compiled in list(packed.rglob("__pycache__")):
            shutil.rmtree(compiled)
        client.log_model_artifacts(model.model_id, str(packed))
    return client.finalize_logged_model(model.model_id, "READY")


def verify(uri: str, model: LoggedModel, folder: ModelFolder) -> float:
    """The largest difference of its outputs, loaded in a fresh process. Raises UserError when it is not as exported."""
    if model.status != "READY":
        raise UserError(f"MLflow has the model {model.model_id} as {model.status}, not READY; nothing was registered")
    done = _load_back(uri, model, folder)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"the logged model does not load in a fresh process, nothing was registered: {said}")
    difference = float(json.loads(done.stdout.strip().splitlines()[-1])["difference"])
    if not difference <= TOLERANCE:  # NaN is none either
        said = f"differ by {difference:.3g} from those at its export, where {TOLERANCE:g} is allowed"
        raise UserError(f"the outputs of {folder.path} {said}; nothing was registered")
    return difference


def _load_back(uri: str, model: LoggedModel, folder: ModelFolder) -> subprocess.CompletedProcess[str]:
    source = Path(__file__).with_name("verify_model.py").read_text()
    with tempfile.TemporaryDirectory() as elsewhere:
        return subprocess.run(
            [sys.executable, "-I", "-B", "-c", source, f"models:/{model.model_id}", str(folder.path / VERIFY)],
            cwd=elsewhere,
            env={**os.environ, **OFFLINE, "MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri},
            capture_output=True,
            text=True,
            timeout=VERIFY_SECONDS,
            check=False,
        )


def _signature(folder: ModelFolder) -> ModelSignature:
    inputs = [ColSpec("string", column) for column in folder.columns]
    outputs = TensorSpec(np.dtype("float32"), (-1, *folder.output_shape))
    return ModelSignature(Schema(inputs), Schema([outputs]))


def _pins(folder: ModelFolder) -> list[str]:
    """Exact versions of what a loader may need; MLflow's own guess would load the model to find out."""
    pins = []
    for package in (*PINNED, ONNX) if any(folder.path.rglob("*.onnx")) else PINNED:
        try:
            pins.append(f"{package}=={version(package).partition('+')[0]}")  # no index has a local build's version
        except PackageNotFoundError:
            continue  # this loader does without it, or verification fails
    return pins
