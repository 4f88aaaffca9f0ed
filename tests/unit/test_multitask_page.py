"""The results page of multi-task sweeps: its answers follow the recorded predictions, whichever way these point."""

from collections.abc import Iterator, Mapping
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import multitask
from benchmarks.multitask_answers import lead
from benchmarks.multitask_arms import against, called, everything_of, own_scores, separate_of
from benchmarks.results_page import SweepRun
from raysweep.evidence import Comparison, holm, paired_difference
from raysweep.trial import Scored
from tests import journals
from tests.journals import Event
from tests.results import LABELS, SEED, SEEDS, answers, cells, evaluated, head, page_of, prove_it, trained

METRIC = "select.score"
TASKS = {"tasks.topic.data.task": "ag_news", "tasks.sentiment.loss": "binary"}  # sst2 is every task's default
FREEZING: dict[str, dict[str, Any]] = {
    "everything": {},
    "backbone": {"freezing.kind": "backbone"},
    "topic-head": {"freezing.kind": "head", "freezing.head": "topic"},
    "gradual": {"freezing.kind": "gradual"},
    "heads-first": {"freezing.kind": "two_phase"},
    "separate": {"sharing": "none"},
}
POOLING: dict[str, dict[str, Any]] = {
    "cls": {"pooling.kind": "cls"},
    "mean": {},
    "both": {"pooling.kind": "cls+mean"},
    "gated": {"pooling.kind": "cls+mean", "pooling.combine": "gated"},
    "normed": {"pooling.layer_norm": True},
}
# Of 400 topics and of 400 sentiments so many are wrong; of what a sweep does not name here, as many as in LIKE.
Said = dict[str, dict[str, str]]
Wrong = Mapping[str, tuple[int, int]]
LIKE = (60, 60)
FROZEN: dict[str, Wrong] = {
    "one way": {
        "backbone": (160, 61),
        "topic-head": (160, 10),
        "gradual": (10, 60),
        "heads-first": (160, 60),
        "separate": (160, 60),
    },
    "the other": {
        "backbone": (10, 10),
        "topic-head": (10, 160),
        "gradual": (160, 160),
        "heads-first": (60, 10),
        "separate": (10, 10),
    },
    "alike": {"backbone": (61, 59), "topic-head": (61, 59)},
}
POOLED: dict[str, Wrong] = {
    "best": {"both": (10, 60), "gated": (200, 60)},
    "beaten": {"cls": (10, 60)},
    "level": {"cls": (160, 60)},
}
SECONDS = {"one way": {"backbone": 8.0}, "the other": {"backbone": 150.0}}
NOT_SHOWN = "Not that it could be shown."


def others(topic: int, sentiment: int, probe: bool) -> dict[str, Scored]:
    """Each task's scores; the probe's cosines fall where scores rise on as many examples as topics are wrong."""
    found = {
        f"{task} {statistic}": Scored(answers(wrong), LABELS, statistic)
        for task, wrong in (("topic", topic), ("sentiment", sentiment))
        for statistic in ("accuracy", "macro_f1")
    }
    scores = np.linspace(0, 1, 400)
    cosines = np.where(np.arange(400) < topic, 1 - scores, scores)
    return found | ({"probe spearman": Scored(cosines, scores, "spearman")} if probe else {})


def events_of(
    folder: Path, arms: Mapping[str, dict[str, Any]], wrong: Wrong, seconds: Mapping[str, float], probe: bool
) -> Iterator[Event]:
    """A sweep over these variants; `separate` is a reference. The more topics are wrong, the lower is select."""
    yield head("multitask", METRIC, per="variant", seeds=SEEDS)
    searched = {variant: settings for variant, settings in arms.items() if variant != "separate"}
    for number, (variant, settings) in enumerate(searched.items()):
        yield from trained(number, TASKS | {"variant": variant} | settings, METRIC, {METRIC: 0.9})
    for place, (variant, settings) in enumerate(arms.items(), 1):
        topic, sentiment = wrong.get(variant, LIKE)
        values = {METRIC: 0.9 - topic / 1000, "time.train_seconds": seconds.get(variant, 100.0)}
        role, arm = ("reference", variant) if variant == "separate" else ("finalist", f"finalist-{place}")
        for number, seed in enumerate(SEEDS, 10 * place):
            config = TASKS | {"variant": variant} | settings
            yield from trained(number, config, METRIC, values, role=role, arm=arm, seed=seed)
            yield evaluated(folder, number, answers(topic), others(topic, sentiment, probe), {})


def folder_of(
    path: Path,
    arms: Mapping[str, dict[str, Any]],
    wrong: Wrong | None = None,
    seconds: Mapping[str, float] | None = None,
    probe: bool = False,
) -> Path:
    return prove_it(journals.write(path, list(events_of(path, arms, wrong or {}, seconds or {}, probe))))


def answered(page: str) -> dict[str, str]:
    """The page's answers by their questions."""
    lines = [line.removeprefix("- **") for line in page.splitlines() if line.startswith("- **")]
    return {question: said for question, _, said in (line.partition("** ") for line in lines)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("multitask")
    folders = {
        name: folder_of(place / name, FREEZING, wrong, SECONDS.get(name), probe=name == "one way")
        for name, wrong in FROZEN.items()
    }
    folders |= {name: folder_of(place / name, POOLING, wrong) for name, wrong in POOLED.items()}
    return {name: page_of(multitask.main, folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def said(pages: dict[str, str]) -> Said:
    return {name: answered(page) for name, page in pages.items()}


def test_a_frozen_encoder_loses_or_gains_as_the_predictions_say(said: Said) -> None:
    question = "Does freezing the encoder lose anything?"
    told = said["one way"][question]
    assert told.startswith("Yes: backbone on topic. Against everything, backbone is worse on topic (-25.00 [")
    assert told.rpartition(", ")[0].endswith("not distinguishable on sentiment (-0.25 [-0.75")
    told = said["the other"][question]
    assert told.startswith("No, on the contrary. Against everything, backbone is better on topic (+12.50 [")
    told = said["alike"][question]
    assert told.startswith(f"{NOT_SHOWN} Against everything, backbone is not distinguishable on topic (-0.25 [")


@pytest.mark.parametrize(
    ("way", "seconds", "change"), [("one way", 8.0, "92.0 % less."), ("the other", 150.0, "50.0 % more.")]
)
def test_time_is_told_as_it_was_measured(
    pages: dict[str, str], said: Said, way: str, seconds: float, change: str
) -> None:
    told = f"backbone trains for {seconds:.1f} s, everything for 100.0 s: {change}"
    assert said[way]["What does it save in time?"] == told
    assert cells(pages[way], "backbone", "### Costs")[:2] == [f"{seconds:.1f}", f"{seconds / 100:.2f}"]


def test_a_frozen_head_is_judged_on_its_own_task_and_on_the_other(said: Said) -> None:
    harm, help_ = (f"Does freezing the head of a task {what}?" for what in ("harm that task", "help another"))
    own, other = said["one way"][harm], said["one way"][help_]
    assert own.startswith("Yes: topic-head on topic. Against everything, topic-head is worse on topic (-25.00 [")
    assert "sentiment" not in own
    assert other.startswith(
        "Yes: topic-head on sentiment. Against everything, topic-head is better on sentiment (+12.50"
    )
    own, other = said["the other"][harm], said["the other"][help_]
    assert own.startswith("No, on the contrary. Against everything, topic-head is better on topic (+12.50 [")
    assert other.startswith("No, on the contrary. Against everything, topic-head is worse on sentiment (-25.00 [")
    assert [said["alike"][question].startswith(NOT_SHOWN) for question in (harm, help_)] == [True, True]


def test_beginning_with_little_is_held_against_training_everything(said: Said) -> None:
    thaw, first = (
        f"Does {way} beat training everything at once?"
        for way in ("thawing layers one after another", "training the heads first")
    )
    told = said["one way"]
    assert told[thaw].startswith("Yes: gradual on topic. Against everything, gradual is better on topic (+12.50 [")
    assert told[first].startswith(f"{NOT_SHOWN} Worse: heads-first on topic. Against everything, heads-first is worse")
    told = said["the other"]
    assert told[thaw].startswith("No, on the contrary. Against everything, gradual is worse on topic (-25.00 [")
    assert told[first].startswith("Yes: heads-first on sentiment.")


def test_one_encoder_is_held_against_one_for_each_task(said: Said) -> None:
    question = "Is a task better with one encoder for all?"
    told = said["one way"][question]
    assert told.startswith("Yes: everything on topic. Against separate, everything is better on topic (+25.00 [")
    told = said["the other"][question]
    assert told.startswith("No, on the contrary. Against separate, everything is worse on topic (-12.50 [")


def test_vectors_are_judged_by_themselves(said: Said) -> None:
    question = "Are vectors by themselves better than those of everything?"
    told, worse = said["one way"][question], "backbone, topic-head, heads-first and separate"
    assert told.startswith(f"Yes: gradual. Worse: {worse}. Against everything, rank correlation is better with gradual")
    assert question not in said["the other"]  # no pairs were scored


def test_cls_and_mean_are_the_best_only_where_they_beat_every_other_way(said: Said, tmp_path: Path) -> None:
    than_mean, best = "Is CLS+mean better than the mean?", "Is CLS+mean the best of all ways?"
    told = said["best"]
    assert told[than_mean].startswith(
        "Yes: both on topic. Worse: gated on topic. Against mean, both is better on topic"
    )
    chosen = "both, the best of CLS+mean on select, is in the score of all tasks"
    assert told[best].startswith(f"Yes. {chosen} better than cls (+12.50 [")
    told = said["beaten"]
    assert told[than_mean].startswith(f"{NOT_SHOWN} Against mean, both is not distinguishable on topic (+0.00 [")
    assert told[best].startswith(f"No. {chosen} worse than cls (-12.50 [")
    assert told["Is any other way better than the mean?"].startswith(
        "Yes: cls on topic. Against mean, cls is better on"
    )
    assert said["level"][best].startswith(f"{NOT_SHOWN} {chosen} better than cls (+25.00 [")
    assert "not distinguishable from mean (+0.00 [" in said["level"][best]
    folder = folder_of(tmp_path, {name: POOLING[name] for name in ("both", "gated")})
    assert answered(page_of(multitask.main, folder)) == {}


def test_differences_are_those_of_each_tasks_own_predictions_corrected_as_one_family(tmp_path: Path) -> None:
    wrong = {"backbone": (84, 61), "gradual": (55, 76)}
    run = SweepRun.read(folder_of(tmp_path, FREEZING, wrong))
    scores, found = own_scores(run.view.arms[0].config), {}
    assert scores == {"topic": "topic accuracy", "sentiment": "sentiment accuracy"}
    rows = against(run, everything_of(run.view), scores).rows
    for arm in run.view.arms[1:]:
        ours = wrong.get(called(run.view, arm.arm), LIKE)
        for task, count, base in zip(scores, ours, LIKE, strict=True):
            pair = (np.stack([answers(one)] * len(SEEDS)) for one in (count, base))
            found[arm.arm, task] = paired_difference(*pair, LABELS, "accuracy", 0.05, np.random.default_rng(SEED))
    told = {(arm, task): row for arm, tasks in rows.items() for task, row in tasks.items()}
    for key, one in found.items():
        assert (told[key].difference, told[key].low, told[key].high, told[key].p) == astuple(one)
    assert [told[key].p_holm for key in found] == holm([one.p for one in found.values()])
    judged = {key: told[key].verdict for key in found if told[key].verdict != "not distinguishable"}
    # five topics fewer wrong are enough alone, and not as one of ten
    assert judged == {("finalist-2", "topic"): "worse", ("finalist-4", "sentiment"): "worse"}
    assert told["finalist-4", "topic"].p < 0.05 < told["finalist-4", "topic"].p_holm


def test_the_tables_have_every_score_and_both_opponents(pages: dict[str, str]) -> None:
    page = pages["one way"]
    settings, score, each, select, *further = cells(page, "backbone", "### Scores")
    assert (settings, score[:8], each, select) == ("-", "0.6000 [", "0.6000, 0.6000, 0.6000", "0.7400")
    assert [one[:6] for one in further[:4]] == ["0.6000", "0.6000", "0.8475", "0.8475"]
    assert cells(page, "separate", "### Scores")[0] == "sharing=none"
    topic, _, _, worse, sentiment, *rest = cells(page, "backbone", "### Against everything: everything")
    assert (topic[:8], worse, sentiment[:7], rest[-1]) == ("-25.00 [", "worse", "-0.25 [", "not distinguishable")
    topic, *_, verdict = cells(page, "everything", "### Against separate")[:4]
    assert (topic[:8], verdict) == ("+25.00 [", "better")


def test_arms_are_known_by_their_settings_and_called_apart(tmp_path: Path) -> None:
    view = SweepRun.read(folder_of(tmp_path, FREEZING)).view
    everything, backbone, *_ = view.arms
    assert (everything_of(view), called(view, everything_of(view).arm)) == (everything, "everything")
    assert separate_of(view).arm == "separate"
    other = replace(everything, arm="finalist-9", config={**everything.config, "pooling.kind": "cls"})
    view.confirmed.arms.insert(0, other)
    assert everything_of(view) == everything  # plain mean goes before
    assert [called(view, name) for name in ("finalist-9", "finalist-1")] == [
        "finalist-9 (everything)",
        "finalist-1 (everything)",
    ]
    view.confirmed.arms[:] = [backbone]
    assert (everything_of(view), separate_of(view)) == (None, None)


def test_what_has_no_opposite_is_not_answered(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"backbone": FREEZING["backbone"]})
    page = page_of(multitask.main, folder)
    assert "### Scores" in page
    assert "### Against" not in page
    assert "### What the sweep answers" not in page


def test_a_task_is_compared_in_its_own_score() -> None:
    config = {"tasks.likeness.data.task": "stsb", "tasks.grammar.data.task": "cola", "train.lr": 1e-4}
    assert own_scores(config) == {"likeness": "likeness spearman", "grammar": "grammar matthews"}


@pytest.mark.parametrize(
    ("verdicts", "sought", "said"),
    [
        (["better", "worse"], "better", "Yes: 0. Worse: 1."),
        (["better", "better", "worse"], "worse", "Yes: 2. Better: 0 and 1."),
        (["worse", "not distinguishable"], "better", f"{NOT_SHOWN} Worse: 0."),
        (["worse", "worse"], "better", "No, on the contrary."),
        (["not distinguishable"], "worse", NOT_SHOWN),
    ],
)
def test_a_lead_follows_the_verdicts(verdicts: list[Any], sought: Any, said: str) -> None:
    row = Comparison("one", "other", 0.0, 0.0, 0.0, 1.0, 1.0, "better")
    assert lead({str(n): replace(row, verdict=verdict) for n, verdict in enumerate(verdicts)}, sought) == said
