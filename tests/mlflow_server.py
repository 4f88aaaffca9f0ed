"""A real `mlflow server` on the loopback interface, and what a store must hold for a journal."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from raysweep.journal import FILE, Record, records
from raysweep.track.updates import sweep_id

STATUS = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "infeasible": "FAILED"}
SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
Point = tuple[int, int, str]  # milliseconds, step, value as text, so that NaN equals NaN


class Server:
    """Can be killed, stopped, and started again over the same store."""

    def __init__(self, place: Path) -> None:
        self._place, self._port = place, _free_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        place.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        store = ["--backend-store-uri", f"sqlite:///{self._place / 'mlflow.db'}"]
        artifacts = ["--artifacts-destination", (self._place / "artifacts").as_uri()]
        where = ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        with (self._place / "server.log").open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *store, *artifacts, *where],
                cwd=self._place,
                env={**os.environ, **SETTINGS, "PATH": path},
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self._await()

    def signal(self, number: signal.Signals) -> None:
        """To the server and all its workers."""
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._process.wait()

    def _await(self) -> None:
        deadline = time.monotonic() + 90
        while True:
            try:
                return urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
            except OSError:
                assert self._process.poll() is None, (self._place / "server.log").read_text()
                assert time.monotonic() < deadline, "the server did not get healthy"
                time.sleep(0.2)


@contextmanager
def serving(place: Path) -> Iterator[Server]:
    server = Server(place)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def assert_complete(uri: str, directory: Path) -> None:
    """The store holds every trial of the journal once, with exactly its points, parameters, times and outcome."""
    client, found = MlflowClient(uri, uri), records(directory / FILE)
    runs = runs_of(client, directory)
    asked = [record for record in found if record["kind"] == "asked"]
    assert sorted(runs) == sorted(["", *(record["trial"] for record in asked)])
    for record in asked:
        run = runs[record["trial"]]
        assert run.data.tags["mlflow.parentRunId"] == runs[""].info.run_id
        assert run.data.tags["raysweep.role"] == record["role"]
        assert run.info.start_time == _milliseconds(record)
        wanted = {"seed": record["seed"], **record["config"]}
        assert run.data.params == {key: str(value) for key, value in wanted.items()}
        _assert_curves(client, run, [r for r in found if r.get("trial") == record["trial"]])
    for record in found:
        if record["kind"] == "finished":
            info = runs[record["trial"]].info
            assert (info.status, info.end_time) == (STATUS[record["outcome"]], _milliseconds(record))


def runs_of(client: MlflowClient, directory: Path) -> dict[str, Any]:
    """The sweep's runs by trial ("" for its own), each of which is there once."""
    sweep = sweep_id(records(directory / FILE)[0])
    experiment = client.get_experiment_by_name("raysweep")
    runs = client.search_runs([experiment.experiment_id], f"tags.`raysweep.sweep` = '{sweep}'", max_results=1000)
    keys = [run.data.tags["raysweep.trial_key"].removeprefix(sweep).removeprefix("/") for run in runs]
    assert len(set(keys)) == len(keys), "a run is there twice"
    return dict(zip(keys, runs, strict=True))


def _assert_curves(client: MlflowClient, run: Any, found: list[Record]) -> None:
    expected: dict[str, list[Point]] = {}
    for record in found:
        values = record["metrics"] if record["kind"] == "reported" else {}
        for name, value in values.items():
            expected.setdefault(name, []).append((_milliseconds(record), record["step"], repr(float(value))))
    for name, points in expected.items():
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted((metric.timestamp, metric.step, repr(metric.value)) for metric in history) == sorted(points)
    last = {name: value for r in found if r["kind"] == "finished" for name, value in r["values"].items()}
    shown = {name: repr(run.data.metrics[name]) for name in last}
    assert shown == {name: repr(float(value)) for name, value in last.items()}


def _milliseconds(record: Record) -> int:
    return round(record["time"] * 1000)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
