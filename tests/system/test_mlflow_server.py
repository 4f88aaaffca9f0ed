"""A whole sweep in MLflow, embedded and on a real server, read back point by point."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from raysweep import track
from raysweep.journal import FILE, records
from tests import journals
from tests.mlflow_server import Server, assert_complete, runs_of, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(params=["embedded", "server"])
def tracking(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """A sweep's tracking block; MLflow only."""
    uri = request.getfixturevalue("server").uri if request.param == "server" else None
    return {"mlflow": {"uri": uri}, "wandb": {"mode": "disabled"}}


def uri_of(tracking: dict[str, Any], directory: Path) -> str:
    return tracking["mlflow"]["uri"] or f"sqlite:///{directory.parent / 'mlflow.db'}"


def test_a_whole_sweep_is_there_point_by_point(tracking: dict[str, Any], tmp_path: Path) -> None:
    directory = journals.write(tmp_path / "sweeps" / "tiny", journals.sweep("tiny", 8, tracking))
    assert track.sync(directory).empty
    uri = uri_of(tracking, directory)
    assert_complete(uri, directory)

    client = MlflowClient(uri, uri)
    runs = runs_of(client, directory)
    parent, ended = runs[""], records(directory / FILE)[-1]
    assert (parent.info.status, parent.info.end_time) == ("FINISHED", round(ended["time"] * 1000))
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} == {
        "report.html",
        "sweep.resolved.yaml",
        "sweep.yaml",
    }
    assert parent.data.params["budget.trials"] == "16"
    assert parent.data.metrics["best/spearman"] == pytest.approx(0.77)
    assert parent.data.metrics["confirmed/finalist-1/low"] == pytest.approx(0.74)
    assert parent.data.tags["mlflow.source.git.commit"] == "0123abcd"
    assert parent.data.tags["raysweep.registered.uri"] == "models:/tiny/1"
    assert all(run.data.tags["data.synthetic"] == "true" for run in runs.values())
    assert runs["t0001"].data.tags["raysweep.decision"] == "stop at step 2: rank 3 of 3 at rung 0"
    assert runs["t0003"].data.tags["raysweep.error"] == "ValueError: no"
    assert runs["t0008"].data.tags["raysweep.champion"] == "true"
    assert runs["t0008"].data.metrics["report/spearman"] == pytest.approx(0.78)


def test_data_sets_are_named_by_split_and_hash(tracking: dict[str, Any], tmp_path: Path) -> None:
    directory = journals.write(tmp_path / "sweeps" / "tiny", journals.sweep("tiny", 2, tracking))
    track.sync(directory)
    uri = uri_of(tracking, directory)
    runs = runs_of(MlflowClient(uri, uri), directory)
    read = {
        name: {entry.tags[0].value: json.loads(entry.dataset.profile)["sha256"] for entry in run.inputs.dataset_inputs}
        for name, run in runs.items()
    }
    assert read["t0000"] == {"train": "a" * 64, "select": "b" * 64}
    assert read["t0002"] == read[""] == {"train": "a" * 64, "select": "b" * 64, "report": "c" * 64}


def test_sending_everything_again_changes_nothing(tracking: dict[str, Any], tmp_path: Path) -> None:
    directory = journals.write(tmp_path / "sweeps" / "tiny", journals.sweep("tiny", 4, tracking))
    track.sync(directory)
    (directory / "track" / "mlflow.json").unlink()
    assert track.sync(directory).empty
    assert_complete(uri_of(tracking, directory), directory)


@pytest.mark.slow
def test_a_store_that_was_lost_is_filled_again(tmp_path: Path) -> None:
    tracking = {"wandb": {"mode": "disabled"}}
    directory = journals.write(tmp_path / "sweeps" / "tiny", journals.sweep("tiny", 4, tracking))
    for _ in range(2):  # each in a process of its own: MLflow keeps its connections open
        (tmp_path / "sweeps" / "mlflow.db").unlink(missing_ok=True)
        script = f"import pathlib, raysweep.track; print(raysweep.track.sync(pathlib.Path({str(directory)!r})))"
        said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert said == "mlflow: complete\n"
    assert_complete(f"sqlite:///{tmp_path / 'sweeps' / 'mlflow.db'}", directory)


def test_an_empty_twin_left_by_a_late_answer_goes(tracking: dict[str, Any], tmp_path: Path) -> None:
    directory = journals.write(tmp_path / "sweeps" / "tiny", journals.sweep("tiny", 2, tracking)[:-1])
    track.sync(directory)
    uri = uri_of(tracking, directory)
    client = MlflowClient(uri, uri)
    run = runs_of(client, directory)["t0001"]
    tags = {key: run.data.tags[key] for key in ("raysweep.trial_key", "raysweep.sweep", "mlflow.parentRunId")}
    client.create_run(run.info.experiment_id, run.info.start_time, tags)
    journals.write(directory, [("ended", {"reason": "all trials are done", "complete": True})])
    assert track.sync(directory).empty
    assert_complete(uri, directory)


def test_names_and_values_that_mlflow_refuses_are_changed_visibly(tracking: dict[str, Any], tmp_path: Path) -> None:
    asked, started, reported, *_ = journals.trial(0)
    asked[1]["config"] = {"task!": 1, "task?": 2, "../up": 3, "long": "x" * 7000, "lone": "\ud800", "none": None}
    reported[1]["metrics"] = {"f1 (macro)": 0.5, "f1 [macro]": 0.25, "infinite": float("inf")}
    events = [journals.head("tiny", tracking), asked, started, reported]
    directory = journals.write(tmp_path / "sweeps" / "tiny", events)
    assert track.sync(directory).empty
    uri = uri_of(tracking, directory)
    data = runs_of(MlflowClient(uri, uri), directory)["t0000"].data
    assert {"1", "2", "3", "null"} <= set(data.params.values())
    assert data.params["long"] == "x" * 5988 + "... (cut)"
    assert sorted(value for name, value in data.metrics.items() if name.startswith("f1 _macro_")) == [0.25, 0.5]
    assert data.metrics["infinite"] > 1e300
