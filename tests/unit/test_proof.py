"""The proof from a journal and the files of its trials."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from raysweep.engine import inline
from raysweep.journal import Journal, records
from raysweep.predictions import save_predictions
from raysweep.problems import UserError
from raysweep.proof import prove
from raysweep.report import SweepView, print_summary
from raysweep.report.html import page
from raysweep.run import begin
from raysweep.spec import SweepSpec
from raysweep.sweep import Sweep
from raysweep.sweep_file import load_sweep
from raysweep.track.pages import confirmed_page, model_page
from raysweep.trial import Evaluation, Scored

Record = dict[str, Any]
SPEC = SweepSpec.model_validate({"name": "a", "recipe": "toy", "space": {}, "objectives": [{"metric": "score"}]})
LABELS = np.tile([0.0, 1.0], 20)


def trained(folder: Path, number: int, arm: str | None, wrong: int = 0, others: tuple[str, ...] = ()) -> list[Record]:
    """The records of one trial whose model is wrong on so many examples; arms have two seeds, one after another."""
    trial, role = f"t{number:04d}", "reference" if arm == "plain" else "finalist" if arm else "search"
    asked = {
        "number": number,
        "role": role,
        "arm": arm,
        "of": "t0000" if arm else None,
        "config": {},
        "seed": number % 2,
    }
    records = [
        {"kind": "asked", "trial": trial, **asked},
        {"kind": "finished", "trial": trial, "values": {"score": 0.9}},
    ]
    if arm is None:
        return records
    predictions = np.where(np.arange(40) < wrong, 1 - LABELS, LABELS)
    evaluation = Evaluation({}, predictions, LABELS, "accuracy", {n: Scored(LABELS, LABELS, "f1") for n in others})
    (folder / trial).mkdir(parents=True)
    save_predictions(evaluation, folder / trial / "predictions.npz")
    proof = {"predictions": f"{trial}/predictions.npz", "statistic": "accuracy", "others": dict.fromkeys(others, "f1")}
    return [*records, {"kind": "evaluated", "trial": trial, **proof}]


def sweep(folder: Path, *others: tuple[str, ...]) -> list[Record]:
    """A search trial, and two arms on two seeds each; `others` are the further scores of each of the four."""
    found = trained(folder, 0, None)
    for number, names in enumerate(others):
        found += trained(folder, 2 + number, "finalist-1" if number < 2 else "plain", 4 + number, names)
    return found


def test_every_arm_has_its_further_scores(tmp_path: Path) -> None:
    proven = prove(sweep(tmp_path, *[("hard", "odd")] * 4), SPEC, tmp_path)
    assert proven is not None
    assert [(arm["arm"], arm["per_seed"]) for arm in proven["arms"]] == [
        ("finalist-1", pytest.approx([0.9, 0.875])),
        ("plain", pytest.approx([0.85, 0.825])),
    ]
    for arm in proven["arms"]:
        assert {name: (other["statistic"], other["per_seed"]) for name, other in arm["others"].items()} == {
            "hard": ("f1", [1, 1]),
            "odd": ("f1", [1, 1]),
        }


def test_a_journal_from_before_further_scores_is_proven(tmp_path: Path) -> None:
    found = sweep(tmp_path, *[()] * 4)
    for record in found:
        record.pop("others", None)
    proven = prove(found, SPEC, tmp_path)
    assert proven is not None
    assert [arm["others"] for arm in proven["arms"]] == [{}, {}]


def test_a_further_score_that_a_seed_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        prove(sweep(tmp_path, ("hard",), (), ("hard",), ("hard",)), SPEC, tmp_path)
    assert [str(problem) for problem in error.value.problems] == [
        "trial 't0003' has no 'hard', which its arm has (was the recipe changed while the sweep ran?)"
    ]


def test_a_further_score_that_an_arm_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="arm 'plain' has no 'hard', which 'finalist-1' has"):
        prove(sweep(tmp_path, ("hard",), ("hard",), (), ()), SPEC, tmp_path)


def test_without_a_finalist_there_is_no_proof(tmp_path: Path) -> None:
    assert prove(trained(tmp_path, 0, None), SPEC, tmp_path) is None


TWO_TASKS = """\
name: two
recipe: toy
space: {quality: {choice: [0.6, 0.9]}, epochs: 1, tasks: true}
objectives: [{metric: score}]
references: {bad: {quality: 0.2}}
budget: {trials: 2}
scheduler: {type: fifo, max: 1}
confirm: {top: 1, seeds: [1, 2]}
"""


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """A sweep whose models are scored on two tasks in one, with its proof in its journal."""
    file = tmp_path_factory.mktemp("two_tasks") / "two.yaml"
    file.write_text(TWO_TASKS)
    folder, sweep = begin(file, [], file.with_suffix(""), "raysweep run two.yaml"), load_sweep(file)
    journal = Journal(folder.journal)
    inline.run(Sweep(sweep.spec, sweep.space, journal), folder.path)
    proven = prove(records(folder.journal), sweep.spec, folder.path)
    assert proven is not None
    journal.append("confirmed", **proven)
    return folder.path, records(folder.journal)


def test_a_sweep_of_two_tasks_is_proven_from_its_journal(two_tasks: tuple[Path, list[Record]]) -> None:
    folder, found = two_tasks
    confirmed = found[-1]
    files = {record["trial"]: folder / record["predictions"] for record in found if record["kind"] == "evaluated"}
    assert [arm["arm"] for arm in confirmed["arms"]] == ["finalist-1", "bad"]
    for arm in confirmed["arms"]:
        for trial, score in zip(arm["trials"], arm["per_seed"], strict=True):
            predictions, targets = (np.load(files[trial])[name] for name in ("predictions", "targets"))
            rank = stats.spearmanr(predictions[:50], targets[:50]).statistic
            right = np.mean(predictions[50:] == targets[50:])
            assert score == pytest.approx((rank + (right - 0.5) / 0.5) / 2)
        assert arm["metric"] == arm["others"]["both"]["statistic"]
        assert arm["others"]["both"]["per_seed"] == arm["per_seed"]
    assert confirmed["comparisons"][0]["verdict"] == "better"


def test_people_read_words_for_a_score_of_two_tasks(two_tasks: tuple[Path, list[Record]]) -> None:
    found, output = two_tasks[1], io.StringIO()
    view, words = SweepView.from_records(found), "mean of spearman and accuracy (0 is guessing)"
    print_summary(Console(file=output, width=300, color_system=None), view, Path("report.html"))
    for said in (page(view), output.getvalue()):
        assert f"scores {words} 0." in said
        assert f"{words} on report" in said
        assert f"both: {words}" in said
    assert f"| finalist-1 | both: {words} | 0." in confirmed_page(found[-1])
    evaluated = next(record for record in found if record["kind"] == "evaluated")
    said = model_page(found[0], found[-1], evaluated, "models:/two/1", ["text"])
    assert f"On the report split: {words} 0." in said
