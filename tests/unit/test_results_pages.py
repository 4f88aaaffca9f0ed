"""The results pages of sweeps: what they compare, exactly, and what they leave unsaid."""

from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import dendritic_bert, measured, nexus
from benchmarks.results_page import SweepRun, settings
from benchmarks.variants import compared
from raysweep.evidence import Comparison, holm, paired_difference
from raysweep.evidence.bootstrap import resampled
from raysweep.journal import FILE
from raysweep.trial import Scored
from tests import journals
from tests.journals import Event
from tests.results import (
    COMMAND,
    DONE,
    LABELS,
    SEED,
    SEEDS,
    Main,
    answers,
    cells,
    evaluated,
    head,
    page_of,
    prove_it,
    trained,
)

# How many of the 400 examples each arm has wrong, by seed: the first ones. `untrained` repeats the best finalist.
WRONG = {
    "standard": (80, 76, 84),
    "dsn-dendrites": (84, 88, 80),
    "dsn-matched": (100, 110, 105),
    "untrained": (200, 200, 200),
}
ARMS = {"standard": "finalist-1", "dsn-dendrites": "finalist-2", "dsn-matched": "finalist-3", "untrained": "untrained"}


def text_model(number: int, variant: str, score: float, lr: float = 1e-3, **place: Any) -> Iterator[Event]:
    """A trial of DendriticBERT: sizes are those of bert-tiny and of its DSN, each with a head for two labels."""
    whole = variant in ("standard", "untrained")
    config = {"variant": "standard" if whole else variant, "encoder.layers": 2 if whole else 0, "train.lr": lr}
    config["train.epochs"] = 0 if variant == "untrained" else 2
    parameters, behind = (4386178, 413314) if whole else (3973122, 258)
    values = {
        "select.score": score,
        "dendrites": 0.0,
        "size.parameters": parameters,
        "size.without_embeddings": behind,
        "size.bytes": 4 * parameters,
        "size.reduction": 1 - parameters / 4386178,
        "size.reduction_without_embeddings": 1 - behind / 413314,
        "time.examples_per_second": 1000.0,
    }
    yield from trained(number, config, "select.score", values, **place, tried=float(variant == "dsn-dendrites"))


def proof_of(folder: Path, number: int, wrong: int) -> Event:
    """The report split, and a harder one of its first half."""
    found = answers(wrong)
    hard = Scored(found[:200], LABELS[:200], "accuracy")
    metrics = {"latency.p50_ms": 0.5, "latency.batch16_ms": 2.25, "size.disk_bytes": 16e6}
    return evaluated(folder, number, found, {"hard": hard}, metrics)


def searched(seeds: list[int]) -> Iterator[Event]:
    """A search over two rates for each of three variants."""
    yield head("dendritic_bert", "select.score", per="variant", seeds=seeds)
    for place, variant in enumerate(list(ARMS)[:3]):
        for number, lr in enumerate((1e-3, 3e-3), 2 * place):
            yield from text_model(number, variant, 0.9 - 0.01 * number, lr)


def proven(folder: Path, seeds: list[int] = SEEDS) -> Path:
    """A whole sweep, with its files and the engine's own verdict."""
    events = list(searched(seeds))
    for place, (variant, arm) in enumerate(ARMS.items(), 1):
        role = "reference" if arm == variant else "finalist"
        for number, (seed, wrong) in enumerate(zip(seeds, WRONG[variant], strict=False), 10 * place):
            events += text_model(number, variant, 0.86 - 0.01 * place, role=role, arm=arm, seed=seed)
            events.append(proof_of(folder, number, wrong))
    journals.write(folder, events)
    return prove_it(folder)


def comparisons(folder: Path) -> list[Comparison]:
    run = SweepRun.read(folder)
    return compared(run, dendritic_bert.compared_pairs(run.view))


def test_every_arm_stands_against_the_standard_model_and_dendrites_against_their_control(tmp_path: Path) -> None:
    rows = comparisons(proven(tmp_path))
    pairs = [("finalist-2", "finalist-1"), ("finalist-3", "finalist-1"), ("untrained", "finalist-1")]
    assert [(row.arm, row.against) for row in rows] == [*pairs, ("finalist-2", "finalist-3")]
    wrong = {arm: sum(WRONG[variant]) for variant, arm in ARMS.items()}
    for row in rows:
        assert row.difference == pytest.approx((wrong[row.against] - wrong[row.arm]) / 3 / 400)
        assert row.error_reduction.value == pytest.approx(1 - wrong[row.arm] / wrong[row.against])


def test_the_differences_are_those_of_the_recorded_predictions_corrected_as_one_family(tmp_path: Path) -> None:
    rows = comparisons(proven(tmp_path))
    recorded = {arm: np.stack([answers(wrong) for wrong in WRONG[variant]]) for variant, arm in ARMS.items()}
    found = []
    for row in rows:
        pair = recorded[row.arm], recorded[row.against]
        found.append(paired_difference(*pair, LABELS, "accuracy", 0.05, np.random.default_rng(SEED)))
    assert [(row.difference, row.low, row.high, row.p) for row in rows] == [astuple(one) for one in found]
    assert [row.p_holm for row in rows] == holm([one.p for one in found])
    # on three seeds 20, 34 and 21 more are wrong than by the standard model: enough alone, not as one of four
    assert rows[1].p < 0.05 < rows[1].p_holm
    assert [row.verdict for row in rows] == ["not distinguishable", "not distinguishable", "worse", "better"]


def test_the_remaining_error_of_one_seed_is_counted_on_resamples_of_the_examples(tmp_path: Path) -> None:
    folder = proven(tmp_path, SEEDS[:1])
    both = np.stack([answers(100), answers(80)])
    ours, theirs = 1 - resampled(both, LABELS, "accuracy", np.random.default_rng(SEED))
    low, high = np.quantile(1 - ours / theirs, [0.025, 0.975], method="nearest")
    row = comparisons(folder)[1]
    assert row.error_reduction.value == pytest.approx(-0.25)
    assert (row.error_reduction.low, row.error_reduction.high) == pytest.approx((low, high))
    shown = cells(page_of(dendritic_bert.main, folder), "finalist-3 (dsn-matched)", "### Against")
    assert shown[4] == f"-25.0 % [{100 * low:+.1f} %, {100 * high:+.1f} %]"


def test_an_arm_without_an_opposite_is_compared_with_nothing(tmp_path: Path) -> None:
    view = SweepRun.read(proven(tmp_path)).view
    view.confirmed.arms[:] = view.confirmed.arms[1:]  # without the standard model
    assert dendritic_bert.compared_pairs(view) == [("finalist-2", "finalist-3")]
    view.confirmed.arms[:] = [view.arms[0], replace(view.arms[-1], arm="standard")]  # a reference of that name
    assert dendritic_bert.compared_pairs(view) == [("finalist-2", "standard")]


def test_a_page_of_dendritic_bert_shows_scores_costs_and_dendrites_that_were_not_kept(tmp_path: Path) -> None:
    page = page_of(dendritic_bert.main, proven(tmp_path))
    name = "finalist-2 (dsn-dendrites)"
    settings, score, seeds, select, hard, *dendrites = cells(page, name, "### The proof")
    assert (settings, seeds, select, dendrites) == (
        "epochs=2",
        "0.7900, 0.7800, 0.8000",
        "0.8400",
        ["0, 0, 0", "1, 1, 1"],
    )
    assert score.startswith("0.7900 [")
    assert hard.startswith("0.5800 [")  # 84 of 200 wrong
    costs = [
        "3,973,122",
        "258",
        "15,892,488",
        "9.4 %",
        "99.9 %",
        "90.58 %",
        "0.06 %",
        "16,000,000",
        "1,000",
        "0.50",
        "2.25",
    ]
    assert cells(page, name, "What the models cost") == costs
    assert cells(page, "dsn-matched", "### The search") == ["encoder.layers=0"]
    searched_row = ["2", "complete", "0.8800", "0", "1", "3,973,122", "258"]
    assert cells(page, "dsn-dendrites | 0.001", "### The search") == searched_row
    assert cells(page, "finalist-1 (standard)", "### The winner")[0] == name
    assert "# DendriticBERT\n\nhalf of the rows\n\n## small\n" in page


def test_an_unfinished_sweep_claims_nothing(tmp_path: Path) -> None:
    halted = ("ended", {"reason": "interrupted", "complete": False})
    for place, end in (("killed", []), ("interrupted", [halted])):
        folder = journals.write(tmp_path / place, [*searched(SEEDS), *end])
        ours, _ = page_of(dendritic_bert.main, folder).split("## Published numbers")
        assert "## small (unfinished)" in ours
        assert "- 3.0 hours of training in all trials together; the sweep has not ended" in ours
        assert ours.endswith("The proof had not ended when this page was written: nothing is claimed.\n\n")


def test_published_numbers_follow_from_each_other() -> None:
    page = "\n".join(dendritic_bert.published())
    assert f"{(89.5 - 88.7) / (100 - 88.7):.2%}".replace("%", " %") in page
    assert f"{0.49 / 4.43 - 1:.1%}".replace("%", " %") in page
    tables, head = 128 * (30522 + 512 + 2 + 2), 2 * (128 + 1)  # words, places, segments, one norm; a head of two labels
    assert f"{tables + head:,}" in page
    assert f"{(tables + head) / 4386178 - 1:.1%}".replace("%", " %") in page
    assert f"{head / (4386178 - tables) - 1:.1%}".replace("%", " %") in page


def test_a_page_of_nexus_has_its_own_columns(tmp_path: Path) -> None:
    events = [head("nexus", "select.spearman", seeds=SEEDS)]
    for number, (lr, score) in enumerate([(1e-5, 0.85), (2e-5, 0.86), (5e-5, 0.84)]):
        values = {"select.spearman": score, "dendrites": 0.0, "size.adapter_parameters": 147840.0}
        events += trained(number, {"train.lr": lr}, "select.spearman", values, tried=float(number))
    (asked, fields), finished = journals.trial(3, "infeasible")
    events += [(asked, {**fields, "config": {"train.lr": 1e-4}}), finished]
    page = page_of(nexus.main, journals.write(tmp_path, [*events, ("confirmed", journals.confirmed(0)), DONE]))
    search = [line.split(" | ")[1:] for line in page.splitlines() if "complete" in line or "infeasible" in line]
    assert search == [
        ["2", "complete", "0.8600", "0", "1", "147,840 |"],
        ["2", "complete", "0.8500", "0", "0", "147,840 |"],
        ["2", "complete", "0.8400", "0", "2", "147,840 |"],
        ["0", "infeasible", "-", "-", "-", "- |"],
    ]
    winner = ["", "0.7600 [0.7400, 0.7800]", "0.7600, 0.7600", "0.8000", "0, 0", "147,840"]
    assert cells(page, "finalist-1 (winner)", "### The proof") == winner
    difference = ["plain", "+0.0600 [+0.0100, +0.1100]", "0.010", "better"]
    assert cells(page, "finalist-1", "### The proof") == difference


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (COMMAND, "raysweep run dsn.yaml --set space.data.source=FOLDER --dir 'FOLDER'"),
        ("--set 'a={b: /x/y, c: [/x/z, t]}' --dir ~/d", "--set 'a={b: FOLDER, c: [FOLDER, t]}' --dir FOLDER"),
        ("--set tracking.mlflow.uri=sqlite:////x/y.db", "--set tracking.mlflow.uri=sqlite:FOLDER"),
        ("run here/a.yaml --set a=b/tiny --dir ../b", "run here/a.yaml --set a=b/tiny --dir ../b"),
    ],
)
def test_a_command_has_no_folder_of_the_machine(command: str, expected: str) -> None:
    assert measured.portable(command) == expected


def test_settings_have_no_folder_of_the_machine() -> None:
    config = {"encoder.name": "fresh:/home/someone/small", "train.lr": 1e-3, "data.source": "glue/sst2"}
    names = {"encoder.name": "name", "train.lr": "lr", "data.source": "source"}
    assert settings(config, names) == "name=fresh:FOLDER, lr=0.001, source=glue/sst2"


@pytest.mark.parametrize("main", [nexus.main, dendritic_bert.main])
def test_a_folder_without_a_journal_is_told(main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "one"), str(tmp_path / "two")])
    error = capsys.readouterr().err
    assert all(f"no {tmp_path / name / FILE}" in error for name in ("one", "two"))
