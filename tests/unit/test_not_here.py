"""A sweep of which this machine can run all, some or none: said before it begins, and by trials in the same words."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raysweep.engine import inline
from raysweep.journal import FILE, Journal, records
from raysweep.problems import UserError
from raysweep.report.plan import plan
from raysweep.run import begin
from raysweep.space import compile_space
from raysweep.spec import SweepSpec
from raysweep.sweep import Sweep
from raysweep.sweep_file import SweepFile, load_sweep
from raysweep.yaml_file import Place

SOME = """\
name: some
recipe: toy
space:
  quality: {uniform: [0.1, 0.9]}
  epochs: 3
  library: {choice: [none, no-such-library]}
objectives: [{metric: score}]
references: {heavy: {library: none, memory_gb: 1e9}}
confirm: {seeds: [1]}
"""
CHOICE = "{choice: [none, no-such-library]}"
WORDS = 'not here, because library="no-such-library" asks for the library no-such-library 2.1 or newer, and it is not'
HEAVY = "not here, because memory_gb=1000000000.0 asks for 1e+09 GB of memory, and this machine has"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def loaded(folder: Path, text: str = SOME) -> SweepFile:
    path = folder / "s.yaml"
    path.write_text(text)
    return load_sweep(path)


def said(sweep: SweepFile) -> str:
    console = Console(width=400, file=io.StringIO())
    console.print(plan(sweep))
    return console.file.getvalue()


def test_a_sweep_that_needs_nothing_runs_anywhere(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, SOME.replace(CHOICE, "none").replace("1e9", "0.1"))
    assert sweep.not_here() == []
    assert "not here" not in said(sweep)


def test_what_only_some_configurations_lack_is_told_with_the_settings_that_they_share(tmp_path: Path) -> None:
    sweep = loaded(tmp_path)
    library, heavy = sweep.not_here()
    assert library.message == f"{WORDS} installed"
    assert (library.file, library.line) == (str(tmp_path / "s.yaml"), 6)
    assert library.hint is not None
    share, _, settings = library.hint.removeprefix("in ").partition(" configurations drawn, with ")
    having, _, drawn = share.partition(" of ")
    assert settings == 'library="no-such-library"'
    assert 0 < int(having) < int(drawn)
    assert heavy.message.startswith(HEAVY)
    assert (heavy.hint, heavy.line) == ("in the reference 'heavy'", 8)
    assert f"{WORDS} installed" in said(sweep)
    assert "is good to run" in said(sweep)


def test_where_no_configuration_can_run_check_and_run_refuse(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, SOME.replace(CHOICE, "no-such-library"))
    for refuse in (sweep.not_here, lambda: plan(sweep), lambda: begin(sweep.path, [], tmp_path / "sweep", "")):
        with pytest.raises(UserError) as caught:
            refuse()
        assert caught.value.problems[0].message == f"{WORDS} installed"
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def test_of_many_reasons_the_most_frequent_are_told(tmp_path: Path) -> None:
    searched = SOME.replace("epochs: 3", "epochs: 3\n  memory_gb: {uniform: [1e6, 1e7]}")
    sweep = loaded(tmp_path, searched.replace(CHOICE, "no-such-library"))
    with pytest.raises(UserError) as caught:
        sweep.not_here()
    told = caught.value.problems
    assert len(told) == 8
    assert told[0].hint is not None
    assert told[0].message == f"{WORDS} installed"
    assert told[0].hint.startswith("in all configurations drawn")


def test_of_a_cluster_nothing_is_said_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    sweep = loaded(tmp_path, SOME.replace(CHOICE, "no-such-library"))
    assert sweep.not_here() == []


def swept(folder: Path, **changes: Any) -> list[dict[str, Any]]:
    """The journal of a sweep of the toy, half of whose configurations lack a library."""
    content: dict[str, Any] = {
        "name": "some",
        "recipe": "toy",
        "seed": 3,
        "space": {"quality": {"uniform": [0.1, 0.9]}, "library": {"choice": ["none", "no-such-library"]}, "epochs": 2},
        "objectives": [{"metric": "score"}],
        "searcher": {"type": "random"},
        "scheduler": {"type": "fifo", "max": 2},
        "budget": {"trials": 16},
        "confirm": {"seeds": [1]},
        **changes,
    }
    spec = SweepSpec.model_validate(content)
    journal = Journal(folder / FILE)
    sweep = Sweep(spec, compile_space(spec.space, [], Place()), journal)
    if journal.path.exists() and records(journal.path):
        sweep.resume()
    inline.run(sweep, folder)
    assert sweep.halted is None
    return records(journal.path)


def test_trials_that_cannot_run_here_end_at_once_in_the_same_words_and_the_others_train(tmp_path: Path) -> None:
    found = swept(tmp_path, failures={"same_error": 1})  # by itself a need that is not met halts nothing
    lacking = {one["trial"] for one in found if one["kind"] == "asked" and one["config"]["library"] != "none"}
    failed = [one for one in found if one["kind"] == "failed"]
    assert {one["trial"] for one in failed} == lacking != set()
    assert {(one["cause"], one["error"], one["again"], one["attempt"]) for one in failed} == {
        ("not here", f"{WORDS} installed", False, 1)
    }
    ended = {one["trial"]: one["outcome"] for one in found if one["kind"] == "finished"}
    assert {name for name, outcome in ended.items() if outcome == "infeasible"} == lacking
    assert {outcome for name, outcome in ended.items() if name not in lacking} == {"complete"}
    assert {one["trial"] for one in found if one["kind"] == "reported"} & lacking == set()


def test_a_trial_says_everything_that_it_lacks(tmp_path: Path) -> None:
    space = {"library": "no-such-library", "memory_gb": 1e9, "quality": 0.5}
    found = swept(tmp_path, space=space, budget={"trials": 1})
    (failed,) = [one for one in found if one["kind"] == "failed"]
    first, second = failed["error"].split("; ")
    assert first == f"{WORDS} installed"
    assert second.startswith(HEAVY)


def test_a_sweep_that_was_cut_behind_such_a_failure_goes_on_alike(tmp_path: Path) -> None:
    whole = swept(tmp_path)
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    cut = next(place for place, one in enumerate(whole) if one["kind"] == "failed") + 1
    (tmp_path / FILE).write_bytes(b"".join(lines[:cut]))
    again = swept(tmp_path)
    assert again[cut]["kind"] == "resumed"
    assert again[cut + 1]["outcome"] == "infeasible"
    told = [(one["trial"], one["outcome"]) for one in again if one["kind"] == "finished"]
    assert told == [(one["trial"], one["outcome"]) for one in whole if one["kind"] == "finished"]
