"""What bad input gets: a clear message, exit code 2, and nothing half-written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raysweep import cli, sweep_folder
from raysweep.journal import FILE, Journal

GOOD = """
name: small
recipe: nexus
space:
  train.lr: {loguniform: [1e-4, 1e-2]}
  train.epochs: 2
objectives: [{metric: select.spearman}]
"""

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.complaints, "_width", 1000)

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["raysweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return call


def write(text: str, folder: Path) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


BAD = [
    ("recipe: nexus", "recipe: nexsus", "3: unknown recipe 'nexsus'", "did you mean 'nexus'?"),
    ("train.epochs: 2", "train.epocs: 2", "6: ", "did you mean 'train.epochs'?"),
    ("objectives:", "objective:", "7: unknown key 'objective'", "did you mean 'objectives'?"),
    ("select.spearman", "select.spaerman", "7: ", "did you mean 'select.spearman'?"),
    ("loguniform", "logunifrom", "5: ", "did you mean 'loguniform'?"),
    ("train.epochs: 2", "train.lr2: 1\n  train.epochs: 2", "6: ", "train.lr"),
    ("[1e-4, 1e-2]", "['2e-5', 1e-2]", "5: ", "number"),
    ("[1e-4, 1e-2]", "[1e-2, 1e-4]", "5: ", ""),
    ("[1e-4, 1e-2]", "[0, 1e-4]", "5: ", ""),
    ("train.epochs: 2", "train.epochs: 2:4", "6: ", "2:4"),
    ("train.epochs: 2", "train.epochs: 2\n  train.epochs: 3", "7: ", "first"),
    ("train.epochs: 2", "train.epochs: -1", "6: ", ""),
    ("objectives:", "constraints: [train.lr > 1]\nobjectives:", "7: ", "reject"),
    ("objectives:", "constraints: [train.lrr < 1]\nobjectives:", "7: ", "train.lr"),
    ("train.epochs: 2", "data.source: /nowhere/at/all", "6: ", "/nowhere/at/all"),
    ("train.epochs: 2", "encoder.name: /nowhere/at/all", "6: ", "/nowhere/at/all"),
    (GOOD, "", "", "empty"),
    (GOOD, "space: [", "", ""),
]


@pytest.mark.parametrize(("old", "new", "place", "words"), BAD)
def test_a_bad_file(command: Command, tmp_path: Path, old: str, new: str, place: str, words: str) -> None:
    assert old in GOOD
    file = write(GOOD.replace(old, new), tmp_path)
    for verb in ("check", "run"):
        code, said = command(verb, file)
        assert code == 2, said
        assert place in said
        assert words in said
        assert "sweep.yaml" in said
        assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.yaml"]


def test_every_mistake_at_once(command: Command, tmp_path: Path) -> None:
    bad = GOOD.replace("train.epochs: 2", "train.epocs: 2").replace("1e-4, 1e-2", "1, 0").replace("select.s", "selct.s")
    code, said = command("check", write(bad, tmp_path))
    assert code == 2
    assert said.count("error:") == 3


def test_a_missing_file(command: Command, tmp_path: Path) -> None:
    code, said = command("run", tmp_path / "none.yaml")
    assert code == 2
    assert "none.yaml" in said


@pytest.mark.parametrize("override", ["space.train.epocs=3", "budget.trails=3", "seed=abc", "nonsense"])
def test_a_bad_override(command: Command, tmp_path: Path, override: str) -> None:
    code, said = command("check", write(GOOD, tmp_path), "--set", override)
    assert code == 2
    assert "--set" in said


def pairs(folder: Path, **columns: Any) -> Path:
    frame = pd.DataFrame({"sentence1": ["a b", "c"], "sentence2": ["a", "d"], "score": [0.5, 1.0], **columns})
    for split in ("train", "validation", "test"):
        frame.drop(columns=[name for name, value in columns.items() if value is None]).to_parquet(
            folder / f"{split}.parquet"
        )
    return folder


@pytest.mark.parametrize(
    ("columns", "words"),
    [({"score": [0.5, 3.2]}, "3.2"), ({"score": ["x", "y"]}, "score"), ({"sentence2": None}, "sentence2")],
)
def test_bad_data(command: Command, tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    file = write(GOOD.replace("train.epochs: 2", f"data.source: {pairs(data, **columns)}"), tmp_path)
    code, said = command("run", file)
    assert code == 2
    assert words in said


def test_an_encoder_without_weights(command: Command, tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text('{"model_type": "bert"}')
    code, said = command("check", write(GOOD.replace("train.epochs: 2", f"encoder.name: {encoder}"), tmp_path))
    assert code == 2
    assert "weights" in said


def test_a_folder_that_is_taken(command: Command, tmp_path: Path) -> None:
    file = write(GOOD, tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    code, said = command("run", file, "--dir", tmp_path / "full")
    assert code == 2
    assert "not empty" in said


def test_no_free_disk(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(sweep_folder.shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    code, said = command("run", write(GOOD, tmp_path))
    assert code == 2
    assert "1 MB free" in said
    assert not (tmp_path / "sweeps").exists()


def test_a_folder_of_another_version(command: Command, tmp_path: Path) -> None:
    Journal(tmp_path / "old" / FILE).append("sweep", version="sweep/v0", name="old", spec={})
    for verb in ("resume", "status", "report", "sync"):
        code, said = command(verb, tmp_path / "old")
        assert code == 2
        assert "sweep/v0" in said


def test_no_sweep_at_all(command: Command, tmp_path: Path) -> None:
    for arguments in (("resume", tmp_path), ("status", tmp_path / "none"), ("why", tmp_path, "t0001")):
        code, said = command(*arguments)
        assert code == 2
        assert "holds no sweep" in said


def test_more_than_the_machine_has(command: Command, tmp_path: Path) -> None:
    file = write(GOOD + "resources: {cpu: 4096}\n", tmp_path)
    code, said = command("run", file, "--dir", tmp_path / "sweep")
    assert code == 2
    assert "asks for 4096 CPU" in said
