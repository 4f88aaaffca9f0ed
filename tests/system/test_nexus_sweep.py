"""A small sweep of the real recipe through Ray, MLflow and W&B, to a registered model that loads."""

import json
from pathlib import Path

import pytest
from commands import ROOT, answer, run

from raysweep.journal import FILE, records

LOAD = """
import json, sys, mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/quickstart@champion")
print(json.dumps(model.predict(pandas.DataFrame({"text": json.loads(sys.argv[2])})).tolist()))
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("sweeps")
    smaller = [
        "budget.trials=4",
        "scheduler.max=3",
        "space.train.epochs=3",
        "space.dendrites.enabled=false",
        "confirm.seeds=[11, 12]",
        "references={untrained: {train.epochs: 0}}",
    ]
    settings = [part for setting in smaller for part in ("--set", setting)]
    file = ROOT / "search_spaces/quickstart.yaml"
    code, output = run("run", file, "--dir", folder / "small", *settings, cwd=folder, timeout=240)
    assert code == 0, output
    return folder / "small", output


def test_the_report_is_the_last_line(sweep: tuple[Path, str]) -> None:
    folder, output = sweep
    assert output.strip().splitlines()[-1] == str(folder / "report.html")
    assert (folder / "report.html").stat().st_size > 10_000


def test_made_data_says_so_everywhere(sweep: tuple[Path, str]) -> None:
    folder, output = sweep
    assert "SYNTHETIC" in output
    assert "SYNTHETIC" in (folder / "report.html").read_text()
    assert records(folder / FILE)[0]["data"]["synthetic"] is True


def test_nothing_strange_is_printed(sweep: tuple[Path, str]) -> None:
    for word in ("Warning", "Traceback", "Downloading", "site-packages"):
        assert word not in sweep[1]


def test_it_learns(sweep: tuple[Path, str]) -> None:
    confirmed = next(record for record in records(sweep[0] / FILE) if record["kind"] == "confirmed")
    scores = {arm["arm"]: arm["mean"] for arm in confirmed["arms"]}
    assert scores["finalist-1"] > scores["untrained"] + 0.1


def test_the_registered_model_loads_and_gives_the_exported_embeddings(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    found = records(folder / FILE)
    champion = next(record["champion"] for record in found if record["kind"] == "confirmed")
    verify = json.loads((folder / "trials" / champion / "model" / "verify.json").read_text())
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    outputs = json.loads(answer(LOAD, uri, json.dumps(verify["texts"]), cwd=folder.parent))
    assert outputs == [pytest.approx(row, abs=1e-5) for row in verify["outputs"]]


def test_a_plain_winner_loads_as_a_sentence_transformer(sweep: tuple[Path, str]) -> None:
    from sentence_transformers import SentenceTransformer

    folder, _ = sweep
    champion = next(record["champion"] for record in records(folder / FILE) if record["kind"] == "confirmed")
    model = folder / "trials" / champion / "model"
    verify = json.loads((model / "verify.json").read_text())
    embedded = SentenceTransformer(str(model), device="cpu").encode(verify["texts"])
    assert embedded.tolist() == [pytest.approx(row, abs=1e-5) for row in verify["outputs"]]


def test_the_trackers_have_everything(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    code, output = run("status", folder, cwd=folder.parent)
    assert code == 0
    assert "have everything" in output
    assert list((folder / "track").rglob("*.wandb"))


def test_why_and_report_answer(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    code, output = run("why", folder, "t0000", cwd=folder.parent)
    assert code == 0
    assert "t0000" in output
    code, output = run("report", folder, cwd=folder.parent)
    assert output.strip() == str(folder / "report.html")
