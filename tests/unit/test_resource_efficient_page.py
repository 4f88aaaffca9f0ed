"""The results page of resource-efficient sweeps: sizes, models and languages as the recorded predictions have them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import efficient_languages, efficient_picture, resource_efficient
from benchmarks.efficient_arms import by_way, comparable, every_row, given_rows, larger, way, within
from benchmarks.resource_efficient_published import AVERAGE_DROP, DOUBTS, SST2, XNLI
from benchmarks.results_page import SweepRun
from raysweep.evidence import bootstrap_interval, holm, paired_difference
from raysweep.proof import Trials
from raysweep.recipe import find, reports
from raysweep.trial import Scored
from tests import journals
from tests.journals import Event
from tests.results import LABELS, SEED, SEEDS, answers, cells, evaluated, head, page_of, prove_it, trained
from trainables.parts.efficient.costs import SERVED
from trainables.resource_efficient import language_split

METRIC = "select.score"
SIZES: dict[str, dict[str, Any]] = {
    "lora-5k": {"tuning.kind": "lora", "data.train_rows": 5000},
    "lora-1000": {"tuning.kind": "lora", "data.train_rows": 1000},
    "full-1000": {"data.train_rows": 1000},
    "lora": {"tuning.kind": "lora"},
    "grown": {"curve.sizes": [500, -1]},
    "untrained": {"train.epochs": 0},
}
WRONG = {"lora-5k": 60, "lora-1000": 80, "full-1000": 120, "lora": 40, "grown": 44, "untrained": 200}
NUMBERS = {
    variant: variant if variant == "untrained" else f"finalist-{number}" for number, variant in enumerate(SIZES, 1)
}
COSTS = {
    "full-1000": {"resources.train_seconds": 1234.5, "latency.p50_ms": 3.0, "size.trainable": 2e6},
    "lora": {"resources.train_seconds": 2469.0, "size.weight_bytes": 4e6},
}
MODELS: dict[str, dict[str, Any]] = {"one": {"encoder.name": "a"}, "two": {"encoder.name": "b"}}
# Of 400 rows of each language the first so many are wrong.
LANGUAGES = {"one": {"fr": 44, "en": 40, "zh": 160}, "two": {"fr": 20, "en": 40, "zh": 41}}


def told(variant: str) -> dict[str, float]:
    """What trials reported last: only one of them was trained on one size after another."""
    curve = {"curve.500.score": 0.7, "curve.2000.score": 0.8} if variant == "grown" else {}
    return {METRIC: 0.9, **curve, **COSTS.get(variant, {})}


def events_of(
    folder: Path, arms: Mapping[str, dict[str, Any]], wrong: Mapping[str, int], languages: bool, train: int
) -> Iterator[Event]:
    kind, told_first = head("resource_efficient", METRIC, per="variant", seeds=SEEDS)
    rows = {"train": train, "select": 20, "report": 400}
    yield kind, {**told_first, "data": {**told_first["data"], "rows": rows}}
    for number, (variant, settings) in enumerate(arms.items()):
        yield from trained(number, {"variant": variant} | settings, METRIC, told(variant))
    for place, (variant, settings) in enumerate(arms.items(), 1):
        role = "reference" if variant == "untrained" else "finalist"
        for number, seed in enumerate(SEEDS, 10 * place):
            arm = {"role": role, "arm": NUMBERS.get(variant, f"finalist-{place}"), "seed": seed}
            yield from trained(number, {"variant": variant} | settings, METRIC, told(variant), **arm)
            yield evaluated(folder, number, answers(wrong[variant]), others(variant, languages), {})


def others(variant: str, languages: bool) -> dict[str, Scored]:
    """Further scores: one of the report split, and two of each language."""
    found = {"macro_f1": Scored(answers(WRONG.get(variant, 40)), LABELS, "macro_f1")}
    for language, wrong in LANGUAGES[variant].items() if languages else ():
        found[f"language {language}"] = Scored(answers(wrong), LABELS, "accuracy")
        found[f"language {language} macro_f1"] = Scored(answers(wrong), LABELS, "macro_f1")
    return found


def sized(folder: Path, train: int = 67_349) -> Path:
    return prove_it(journals.write(folder, list(events_of(folder, SIZES, WRONG, False, train))))


def in_languages(folder: Path) -> Path:
    wrong = dict.fromkeys(MODELS, 40)
    return prove_it(journals.write(folder, list(events_of(folder, MODELS, wrong, True, 5000))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sized(tmp_path_factory.mktemp("sized"))


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return page_of(resource_efficient.main, folder)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_languages(tmp_path_factory.mktemp("spoken"))


@pytest.fixture(scope="module")
def spoken_page(spoken: Path) -> str:
    return page_of(resource_efficient.main, spoken)


def named(variant: str) -> str:
    return f"{NUMBERS[variant]} ({variant})"


def test_arms_are_ways_by_the_rows_they_asked_for(folder: Path) -> None:
    view = SweepRun.read(folder).view
    sizes = {name: list(arms) for name, arms in by_way(view).items()}
    assert sizes == {"lora": [1000, 5000, None], "full": [1000], "grown": [None], "untrained": [None]}
    arm = view.arms[0]
    for variant, rows, name in [("lora-all", None, "lora"), ("rank-8", 1000, "rank-8"), ("1000", 1000, "1000")]:
        assert way(replace(arm, config={"variant": variant, "data.train_rows": rows})) == name


@pytest.mark.parametrize(("sizes", "rows"), [([500, 2000], 2000), ([500, -1], None), ([], None)])
def test_a_trial_of_several_sizes_is_proven_on_the_last(sizes: list[int], rows: int | None) -> None:
    assert given_rows({"curve.sizes": sizes}) == rows


def test_how_many_every_row_is_must_have_been_recorded(folder: Path, tmp_path: Path) -> None:
    assert every_row(SweepRun.read(folder).view) == 67_349
    # the journal tells of the rows of one configuration, which here asked for fewer
    view = SweepRun.read(sized(tmp_path, train=5000)).view
    assert every_row(view) is None
    whole = next(trial for trial in view.trials.values() if given_rows(trial.config) is None)
    whole.curve[99] = {"train.rows": 63_982.0}
    assert every_row(view) == 63_982


def test_scores_stand_by_way_and_rows(folder: Path, page: str, tmp_path: Path) -> None:
    start = "### Scores by training rows"
    assert "| trained on | 1,000 | 5,000 | all 67,349 |" in page
    assert [cell.partition(" ")[0] for cell in cells(page, "lora", start)] == ["0.8000", "0.8500", "0.9000"]
    assert cells(page, "full", start)[1:] == ["not run", "not run"]
    view = SweepRun.read(folder).view
    best = next(arm for arm in view.arms if arm.arm == NUMBERS["lora"])
    assert cells(page, "lora", start)[2] == f"0.9000 [{best.low:.4f}, {best.high:.4f}]"


def test_more_rows_are_held_against_the_next_fewer_ones(folder: Path, page: str) -> None:
    lora = [NUMBERS[variant] for variant in ("lora-1000", "lora-5k", "lora")]
    assert larger(SweepRun.read(folder).view) == [(lora[1], lora[0]), (lora[2], lora[1])]
    row = cells(page, f"{named('lora-5k')} | {named('lora-1000')}", "### Scores by training rows")
    assert row[0].startswith("+5.00 [")
    assert row[-1] == "better"


def test_scores_within_a_trial_are_means_over_its_seeds(folder: Path, page: str) -> None:
    view = SweepRun.read(folder).view
    grown = next(arm for arm in view.arms if arm.arm == NUMBERS["grown"])
    view.trials[grown.trials[0]].last["curve.500.score"] = 0.4
    assert within(view, grown, "select") == pytest.approx({500: 0.6, 2000: 0.8})
    view.trials[grown.trials[0]].evaluated["metrics"]["curve.500.score"] = 0.3
    assert within(view, grown, "report") == {500: 0.3}
    assert cells(page, named("grown"), "Scores of arms whose") == ["select", "0.7000", "0.8000"]


def test_arms_of_as_many_rows_are_compared_and_never_two_references(folder: Path, page: str) -> None:
    view = SweepRun.read(folder).view
    pairs = comparable(view)
    expected = [("lora-1000", "full-1000"), ("lora", "grown"), ("lora", "untrained"), ("grown", "untrained")]
    assert pairs == [(NUMBERS[one], NUMBERS[two]) for one, two in expected]
    first, second = (np.stack([answers(WRONG[one])] * len(SEEDS)) for one in expected[0])
    found = paired_difference(first, second, LABELS, "accuracy", 0.05, np.random.default_rng(SEED))
    row = cells(page, f"{named('lora-1000')} | {named('full-1000')}", "### Models and ways")
    assert row[0] == f"+10.00 [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    view.confirmed.arms.append(replace(view.arms[-1], arm="another"))
    assert ("untrained", "another") not in comparable(view)


def test_what_the_journal_lacks_is_said_to_be_missing(page: str) -> None:
    took = cells(page, named("full-1000"), "### What training took")
    assert took == ["1,234.5", *["not measured"] * 6]
    assert cells(page, named("full-1000"), "### Parameters") == ["2,000,000", "not measured"]
    assert cells(page, named("grown"), "### What answering takes") == ["not measured"] * 8
    assert "No arm was scored in several languages: not run." in page
    assert "No arm was cross-validated: not run." in page


def test_folds_are_told_with_their_deviation(folder: Path) -> None:
    view = SweepRun.read(folder).view
    for trial in view.arms[0].trials:
        view.trials[trial].last.update({"folds.score": 0.81, "folds.deviation": 0.02})
    _, found = resource_efficient.folds_section(view)
    first, second, *_ = found.splitlines()[2:]
    assert first.endswith("| 0.8100 | 0.0200 |")
    assert second.endswith("| not measured | not measured |")


def test_languages_have_scores_and_a_mean_whose_interval_draws_translations_together(spoken_page: str) -> None:
    start = "### Languages"
    assert [cells(spoken_page, language, start)[0].partition(" ")[0] for language in ("en", "fr", "zh")] == [
        "0.9000",
        "0.8900",
        "0.6000",
    ]
    wrong = LANGUAGES["one"].values()
    shares = np.mean([answers(one) == LABELS for one in wrong], axis=0)
    found = bootstrap_interval(np.stack([shares] * 3), np.ones(400), "mean", 0.05, np.random.default_rng(SEED))
    assert cells(spoken_page, "mean", start)[0] == f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"
    assert found.mean == pytest.approx(1 - sum(wrong) / 1200)


def test_a_language_is_held_against_english_row_by_row_as_one_family(spoken: Path, spoken_page: str) -> None:
    run = SweepRun.read(spoken)
    trials, languages = Trials(run.records, METRIC, spoken), efficient_languages.languages_of(run.view)
    assert languages == ["en", "fr", "zh"]
    arms = {arm.arm: trials.arm(arm.arm) for arm in run.view.arms}
    gaps = efficient_languages.gaps(run.view, arms, languages)
    expected = {
        (arm, language): paired_difference(
            *(np.stack([answers(LANGUAGES[variant][one]) == LABELS] * 3).astype(float) for one in (language, "en")),
            np.ones(400),
            "mean",
            0.05,
            np.random.default_rng(SEED),
        )
        for arm, variant in zip(arms, MODELS, strict=True)
        for language in ("fr", "zh")
    }
    assert {key: gap for key, (gap, _) in gaps.items()} == expected
    adjusted = holm([gap.p for gap in expected.values()])
    assert [p for _, p in gaps.values()] == adjusted
    fr, zh = (cells(spoken_page, language, "| less en |") for language in ("fr", "zh"))
    assert (fr[0][:8], zh[0][:8]) == ("-1.00 [-", "-30.00 [")
    assert fr[1].startswith("+5.00 [+")
    assert zh[1].startswith("-0.25 [")
    assert [cell.endswith("not distinguishable") for cell in (*fr, *zh)] == [
        p > 0.05 for p in np.array(adjusted)[[0, 2, 1, 3]]
    ]
    assert zh[1].endswith("not distinguishable")


def test_other_rows_are_not_taken_for_translations(spoken: Path) -> None:
    run = SweepRun.read(spoken)
    arm = Trials(run.records, METRIC, spoken).arm("finalist-1")
    french = arm.others["language fr"]
    arm.others["language fr"] = Scored(1 - french.predictions, 1 - french.targets, "accuracy")
    languages = ["en", "fr", "zh"]
    gaps = efficient_languages.gaps(run.view, {"finalist-1": arm}, languages)
    assert list(gaps) == [("finalist-1", "zh")]
    assert efficient_languages.mean_of(run.view, arm, languages) is None
    assert efficient_languages.gap_cell(run.view, gaps.get(("finalist-1", "fr"))) == "other rows"


def test_without_english_there_are_scores_alone(spoken: Path) -> None:
    run = SweepRun.read(spoken)
    for arm in run.view.arms:
        del arm.others["language en"]
    *_, said = efficient_languages.section(run)
    assert said.startswith("English was not run")


def test_scores_of_languages_stand_in_their_own_table_alone(spoken_page: str) -> None:
    scores = spoken_page[spoken_page.index("### Scores") : spoken_page.index("### Models and ways")]
    assert "macro_f1" in scores
    assert "language" not in scores


def test_macro_f1_of_languages_is_shown_where_it_was_scored(spoken: Path, spoken_page: str) -> None:
    view = SweepRun.read(spoken).view
    found = [arm.others["language zh macro_f1"] for arm in view.arms]
    shown = [f"{one.mean:.4f} [{one.low:.4f}, {one.high:.4f}]" for one in found]
    assert cells(spoken_page, "zh", "Macro F1") == shown
    assert efficient_languages.f1_lines(view, ["sw"]) == []


def test_what_the_page_asks_for_is_what_the_recipe_tells() -> None:
    recipe = find("resource_efficient")
    for metric, _ in (*resource_efficient.TRAINING.values(), *resource_efficient.PARAMETERS.values()):
        assert reports(recipe, metric), metric
    assert all(reports(recipe, metric) for metric, _ in resource_efficient.FOLDS.values())
    assert {metric for metric, _ in resource_efficient.SERVING.values()} == set(SERVED)
    assert set(efficient_picture.COSTS) <= {*recipe.METRICS, *SERVED}
    assert language_split("fr") == efficient_languages.score_of("fr")


def test_the_picture_has_a_panel_for_each_thing_that_is_known(folder: Path, page: str) -> None:
    assert "![Scores by rows, by language and against costs](page.svg)" in page
    drawn = (folder / "page.svg").read_bytes()
    page_of(resource_efficient.main, folder)
    assert (folder / "page.svg").read_bytes() == drawn
    panels = efficient_picture.panels_of(SweepRun.read(folder).view)
    curves, seconds, latency, weights = efficient_picture.draw({"small": panels}).axes
    assert [axis.get_xlabel() for axis in (seconds, latency, weights)] == [
        "seconds of training",
        "ms for one text",
        "weights, MB",
    ]
    points = [tuple(map(tuple, line.get_xydata().round(6))) for line in curves.lines]
    assert ((1000, 0.8), (5000, 0.85), (67349, 0.9)) in points
    assert [line.get_linestyle() for line in curves.lines if len(line.get_xdata()) == 2] == ["--"]
    assert ((500, 0.7), (2000, 0.8)) in points
    assert [text.get_text() for text in curves.get_legend().texts] == ["lora", "full", "grown", "untrained"]
    assert weights.lines[0].get_xydata().tolist() == [[4.0, 0.9]]


def test_languages_are_drawn_beside_each_other(spoken: Path) -> None:
    (panel,) = efficient_picture.panels_of(SweepRun.read(spoken).view)
    (axis,) = efficient_picture.draw({"small": [panel]}).axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["en", "fr", "zh"]
    assert [line.get_ydata().tolist() for line in axis.lines if line.get_marker() == "o"] == [
        pytest.approx([0.9, 0.89, 0.6]),
        pytest.approx([0.9, 0.95, 0.8975]),
    ]


def test_nothing_is_drawn_of_a_sweep_without_proof(tmp_path: Path) -> None:
    events = [head("resource_efficient", METRIC, seeds=SEEDS), *trained(0, {"variant": "lora"}, METRIC, told("lora"))]
    page = page_of(resource_efficient.main, journals.write(tmp_path, events))
    assert not (tmp_path / "page.svg").exists()
    assert page.split("## Published numbers")[0].endswith("nothing is claimed.\n\n")
    assert "2,469.0" in page  # what training took stands with the search trials too


def test_the_doubts_about_published_numbers_follow_from_them() -> None:
    printed = {row[0]: row for row in SST2}
    assert printed["DistilBERT"][6] == printed["GPT-Neo 2.7B in 8 bits"][5] == "89.67"
    english, spanish, chinese = map(float, XNLI[0][1:])
    # French and German are printed as between Spanish and Chinese, so they lose at least what Spanish loses
    least = (3 * (english - spanish) + (english - chinese)) / 4
    assert f"at least {least:.3f}" in DOUBTS
    assert float(AVERAGE_DROP) < least
    assert float(printed["BitNet b1.58 2B"][4]) < 2 * 2.4  # bytes of a number, 10^9 parameters
