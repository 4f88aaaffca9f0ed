"""A whole sweep while MLflow is down: no trial suffers, and `sync` brings everything, the model too."""

from pathlib import Path

from commands import TOY, run, toy_file
from mlflow import MlflowClient

from raysweep.journal import FILE, records
from tests.mlflow_server import Server, assert_complete


def test_a_sweep_without_its_server_and_sync_afterwards(tmp_path: Path) -> None:
    server, folder = Server(tmp_path / "server"), tmp_path / "sweep"
    file = toy_file(tmp_path, f"{TOY}\ntracking: {{mlflow: {{uri: '{server.uri}'}}}}\n")
    code, output = run("run", file, "--dir", folder, cwd=tmp_path)
    assert code == 1
    assert "the model is not registered, for MLflow is behind" in output
    assert f"raysweep sync {folder}" in output
    assert "Traceback" not in output
    found = records(folder / FILE)
    assert {record["outcome"] for record in found if record["kind"] == "finished"} == {"complete", "stopped"}
    server.start()
    try:
        code, output = run("sync", folder, cwd=tmp_path)
        assert code == 0, output
        client = MlflowClient(server.uri, server.uri)  # other tests set the registry of this process
        assert client.get_model_version_by_alias("toy", "champion").version == "1"
        assert_complete(server.uri, folder)
        assert records(folder / FILE)[-1]["complete"]
        code, output = run("sync", folder, cwd=tmp_path)  # nothing is left, and nothing is done twice
        assert code == 0, output
        assert len(client.search_model_versions("name = 'toy'")) == 1
    finally:
        server.kill()
