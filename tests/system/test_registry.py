"""The registered model against a real MLflow store: it loads back elsewhere, or it is not registered."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.types import DataType
from safetensors.numpy import load_file, save_file

from raysweep import track
from raysweep.journal import FILE, Journal, records
from raysweep.problems import UserError
from raysweep.registry import Registered, load_function, register
from tests import journals

LOADER, PAIR_LOADER = "stub_recipes.lengths:load", "stub_recipes.pairs:load"
CODE = """
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file

def load(folder):
    weights = load_file(Path(folder) / "model.safetensors")["scale"]
    return lambda texts: np.stack([len(text) * weights for text in texts]).astype(np.float32)
"""
TEXTS = ["a", "two words", ""]
PAIR_CODE = """
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file

def load(folder):
    weights = load_file(Path(folder) / "model.safetensors")["scale"]

    def scores(pairs):
        assert all(type(pair) is tuple for pair in pairs)
        return np.array([len(first) * weights[0] + len(second) * weights[1] for first, second in pairs])

    return scores
"""
PAIRS = [["a", "two words"], ["", "b"], ["three more words", ""]]
ASK = """
import sys, json, mlflow, pandas as pd
sys.modules['raysweep'] = None
mlflow.set_tracking_uri(sys.argv[1]); mlflow.set_registry_uri(sys.argv[1])
model = mlflow.pyfunc.load_model('models:/tiny@champion')
print(json.dumps(model.predict(pd.DataFrame(json.loads(sys.argv[2]))).tolist()))
"""


@pytest.fixture(autouse=True)
def stub_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe's loader in a package that only this process can import; the model must bring it along."""
    package = tmp_path / "code" / "stub_recipes"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "lengths.py").write_text(CODE)
    (package / "pairs.py").write_text(PAIR_CODE)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    for name in ("stub_recipes", "stub_recipes.lengths", "stub_recipes.pairs"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def export(folder: Path, scale: float = 2.0) -> None:
    """What a recipe's export leaves."""
    folder.mkdir(parents=True)
    weights = np.array([scale, -1.0, 0.5], dtype=np.float32)
    save_file({"scale": weights}, folder / "model.safetensors")
    outputs = [(len(text) * weights).tolist() for text in TEXTS]
    (folder / "verify.json").write_text(json.dumps({"texts": TEXTS, "outputs": outputs}))


def export_pairs(folder: Path) -> None:
    """What a recipe for pairs of texts leaves: one number for each pair."""
    folder.mkdir(parents=True)
    save_file({"scale": np.array([2.0, -1.0], dtype=np.float32)}, folder / "model.safetensors")
    outputs = [len(first) * 2.0 - len(second) for first, second in PAIRS]
    (folder / "verify.json").write_text(json.dumps({"texts": PAIRS, "outputs": outputs}))


def confirmed_sweep(directory: Path, export: Callable[[Path], None] = export) -> Path:
    """A sweep up to its evidence, with the champion's model."""
    journals.write(directory, [event for event in journals.sweep("tiny", 2) if event[0] not in ("registered", "ended")])
    export(directory / "trials" / "t0002" / "model")
    return directory


def run_register(directory: Path, loader: str = LOADER) -> Registered | None:
    journal = Journal(directory / FILE)
    try:
        return register(directory, loader, journal.append)
    finally:
        journal.close()


def client_of(directory: Path) -> MlflowClient:
    uri = f"sqlite:///{directory.parent / 'mlflow.db'}"
    return MlflowClient(uri, uri)


def models(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("raysweep")
    return list(client.search_logged_models([experiment.experiment_id]))


def ask(directory: Path, columns: dict[str, list[str]]) -> Any:
    """What the champion answers in a process that has neither raysweep nor the loader's package."""
    command = [sys.executable, "-I", "-c", ASK, f"sqlite:///{directory.parent / 'mlflow.db'}", json.dumps(columns)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_model_is_registered_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    directory = confirmed_sweep(tmp_path / "sweeps" / "one")
    registered = run_register(directory)
    assert registered is not None
    client = client_of(directory)

    version = client.get_model_version_by_alias("tiny", "champion")
    assert (str(version.version), version.status, version.run_id) == ("1", "READY", registered.run_id)
    assert registered.uri == "models:/tiny/1"
    assert version.source == f"models:/{registered.model_id}"
    assert version.tags["validation_status"] == "passed"
    assert version.tags["data.synthetic"] == "true"
    assert version.tags["raysweep.trial"] == "t0002"
    assert version.tags["report"] == "spearman 0.76, 0.74 to 0.78"
    assert version.tags["verdict"].endswith("**better**")
    for said in (
        "SYNTHETIC",
        "101, 102",
        "finalist-1 against plain",
        "raysweep run tiny.yaml",
        'DataFrame({"text": ["',
    ):
        assert said in version.description

    [model] = models(client)
    assert model.status == "READY"
    assert model.params["layers"] == "1"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "tiny", "version": "1"}]
    [metric] = [metric for metric in model.metrics if metric.key == "report/spearman"]
    assert (metric.value, metric.dataset_name, metric.dataset_digest) == (0.72, "toy pairs/report", "c" * 16)
    assert records(directory / FILE)[-1]["uri"] == "models:/tiny/1"


def test_the_registered_model_answers_where_its_code_is_not_installed(tmp_path: Path) -> None:
    directory = confirmed_sweep(tmp_path / "sweeps" / "one")
    registered = run_register(directory)
    assert registered is not None
    assert ask(directory, {"text": ["abcd"]}) == [[8.0, -4.0, 2.0]]
    encode = load_function(directory / "trials" / "t0002" / "model")  # and without MLflow, from the folder alone
    np.testing.assert_array_equal(encode(["abcd"]), [[8.0, -4.0, 2.0]])


def test_a_model_of_pairs_takes_two_columns(tmp_path: Path) -> None:
    directory = confirmed_sweep(tmp_path / "sweeps" / "one", export_pairs)
    registered = run_register(directory, PAIR_LOADER)
    assert registered is not None
    assert registered.verified == 0.0
    assert ask(directory, {"text_pair": ["cd", ""], "text": ["abc", "a"]}) == [4.0, 2.0]

    client = client_of(directory)
    packed = Path(client.get_logged_model(registered.model_id).artifact_location.removeprefix("file://"))
    signature = Model.load(str(packed)).signature
    assert [(column.name, column.type, column.required) for column in signature.inputs] == [
        ("text", DataType.string, True),
        ("text_pair", DataType.string, True),
    ]
    assert [output.shape for output in signature.outputs] == [(-1,)]
    assert '"text": ["a sentence", "another"], "text_pair": [' in client.get_model_version("tiny", "1").description

    model = mlflow.pyfunc.load_model(str(packed))
    with pytest.raises(MlflowException) as caught:  # MLflow's own words, from the signature
        model.predict(pd.DataFrame({"text": ["abc"], "pair": ["cd"]}))
    for said in (
        "'text': string (required), 'text_pair': string (required)",
        "missing inputs ['text_pair']",
        "['pair']",
    ):
        assert said in caught.value.message
    with pytest.raises(MlflowException, match=r"texts in the column 'text'; found \['abc', 'a'\] in row 0"):
        model.predict({"text": ["abc", "a"], "text_pair": ["cd", "b"]})  # MLflow makes one row of such lists


def test_a_model_of_pairs_whose_sides_were_exchanged_is_not_registered(tmp_path: Path) -> None:
    directory = confirmed_sweep(tmp_path / "sweeps" / "one", export_pairs)
    told = directory / "trials" / "t0002" / "model" / "verify.json"
    exchanged = json.loads(told.read_text())
    exchanged["texts"] = [[second, first] for first, second in exchanged["texts"]]
    told.write_text(json.dumps(exchanged))
    with pytest.raises(UserError, match="differ by 48 "):  # 16 letters, each 2 + 1
        run_register(directory, PAIR_LOADER)
    assert models(client_of(directory)) == []


def test_outputs_that_are_no_numbers_equal_nothing(tmp_path: Path) -> None:
    directory = confirmed_sweep(tmp_path / "sweeps" / "one", lambda folder: export(folder, float("nan")))
    with pytest.raises(UserError, match="differ by nan"):
        run_register(directory)
    assert models(client_of(directory)) == []


def test_registering_twice_makes_one_version(tmp_path: Path) -> None:
    directory = confirmed_sweep(tmp_path / "sweeps" / "one")
    first = run_register(directory)
    assert run_register(directory) == first  # the journal says so
    lines = (directory / FILE).read_text().splitlines(keepends=True)
    (directory / FILE).write_text("".join(line for line in lines if '"kind":"registered"' not in line))
    assert run_register(directory) == first  # killed before the journal was written: the registry says so
    client = client_of(directory)
    assert len(client.search_model_versions("name = 'tiny'")) == len(models(client)) == 1


def test_the_last_champion_becomes_previous(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run_register(confirmed_sweep(tmp_path / "sweeps" / name)) is not None
    aliases = client_of(tmp_path / "sweeps" / "one").get_registered_model("tiny").aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"champion": "2", "previous": "1"}


def test_tampered_weights_register_nothing(tmp_path: Path) -> None:
    directory = confirmed_sweep(tmp_path / "sweeps" / "one")
    weights = directory / "trials" / "t0002" / "model" / "model.safetensors"
    save_file({"scale": load_file(weights)["scale"] + np.float32(0.001)}, weights)
    with pytest.raises(UserError, match=r"differ by 0\.009"):  # 9 letters x 0.001
        run_register(directory)
    client = client_of(directory)
    assert models(client) == []
    assert client.search_registered_models() == []
    assert not [record for record in records(directory / FILE) if record["kind"] == "registered"]


def test_code_that_cannot_be_loaded_elsewhere_registers_nothing(tmp_path: Path) -> None:
    directory = confirmed_sweep(tmp_path / "sweeps" / "one")
    module = tmp_path / "code" / "stub_recipes" / "lengths.py"
    module.write_text("import raysweep\n" + module.read_text())
    with pytest.raises(UserError, match="does not load in a fresh process"):
        run_register(directory)
    assert models(client_of(directory)) == []


def test_files_that_can_hold_code_are_refused_all_at_once(tmp_path: Path) -> None:
    directory = confirmed_sweep(tmp_path / "sweeps" / "one")
    folder = directory / "trials" / "t0002" / "model"
    (folder / "optimizer.pt").write_bytes(b"")
    (folder / "modeling.py").write_text("")
    (folder / "model.safetensors").unlink()
    (folder / "verify.json").unlink()
    with pytest.raises(UserError) as caught:
        run_register(directory)
    assert [str(problem).split()[0].rpartition("/")[2] for problem in caught.value.problems] == [
        "modeling.py",
        "optimizer.pt",
        "model",
        "verify.json",
    ]
    assert not client_of(directory).search_registered_models()


def test_leftovers_of_a_killed_attempt_are_removed(tmp_path: Path) -> None:
    directory = confirmed_sweep(tmp_path / "sweeps" / "one")
    track.sync(directory)
    client = client_of(directory)
    experiment = client.get_experiment_by_name("raysweep").experiment_id
    [run] = client.search_runs([experiment], "tags.`raysweep.champion` = 'true'")
    key = run.data.tags["raysweep.trial_key"]
    leftover = client.create_logged_model(experiment, "tiny", run.info.run_id, {"raysweep.trial_key": key})
    registered = run_register(directory)
    assert registered is not None
    assert registered.run_id == run.info.run_id
    assert [model.model_id for model in models(client)] == [registered.model_id] != [leftover.model_id]


def test_no_champion_no_model_and_no_mlflow_register_nothing(tmp_path: Path) -> None:
    events = journals.sweep("tiny", trials=2)
    unproven = journals.write(tmp_path / "a", [event for event in events if event[0] in ("sweep", "asked")])
    off = confirmed_sweep(tmp_path / "b")
    head = journals.head("tiny", {"mlflow": {"enabled": False}})
    (off / FILE).unlink()
    journals.write(off, [head, *[event for event in events[1:] if event[0] not in ("registered", "ended")]])
    assert run_register(unproven) is None
    assert run_register(off) is None
