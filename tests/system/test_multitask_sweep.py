"""A small sweep of one sentence encoder for three tasks, killed once, to a registered model that answers them all.

One task's data are a user's own, in a folder that is named from where the sweep is begun.
"""

import html
import json
from pathlib import Path

import numpy as np
import pytest
from commands import answer
from scipy.stats import spearmanr
from text_sweeps import STRANGE, assert_went_on, champion_of, found_in, killed_and_resumed

from raysweep.predictions import load_predictions
from raysweep.trial import Evaluation
from trainables.parts.task_data import TaskDataSettings, read_examples

pytestmark = pytest.mark.slow  # contracts try the recipe, and the sweeps of others the engine
SPACE, MODEL = "multitask_freezing.yaml", "multitask-freezing"
LEARNS = "{everything-learns: {}, heads-first: {freezing.kind: two_phase}}"
OWN = "{task: regression, source: likes, first: one, second: other, target: likeness, score_max: 5.0, unlabelled: true}"
SETTINGS = [
    "space.encoder.name=embedded",
    "space.tasks.topic.data.source=synthetic",
    "space.tasks.topic.data.train_rows=128",
    "space.tasks.sentiment.data.source=synthetic",
    "space.tasks.sentiment.data.train_rows=96",
    f"space.tasks.close={{data: {OWN}}}",
    "space.probe.source=synthetic",
    f"space.variant={{choice: {LEARNS}}}",
    "space.train.epochs=3",
    "space.train.lr=3e-3",
    "scheduler.max=3",
    "budget.trials=2",
    "references={separate: {variant: separate, sharing: none}}",
    "confirm.per=[]",
    "confirm.seeds=[1, 2]",
]
SCORES = {"topic accuracy", "sentiment accuracy", "close spearman", "probe spearman"}
LOAD = """
import json, sys
sys.modules["raysweep"] = None  # is not needed
import mlflow, pandas
from trainables.parts.multitask.predictor import MultitaskPredictor
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(f"models:/{sys.argv[2]}@champion")
texts, pairs = json.load(open(sys.argv[3]))
predictor = MultitaskPredictor(sys.argv[4])
served = model.predict(pandas.DataFrame(texts, columns=["text"])).tolist()
print(json.dumps([predictor.columns, served, predictor.predict("close", pairs).tolist()]))
"""


def write_own_data(folder: Path) -> None:
    """Pairs of which some have no number; two texts are the more alike the more words they share."""
    rng, words = np.random.default_rng(0), [f"w{number}" for number in range(40)]
    folder.mkdir()
    for split, count in {"train": 72, "validation": 24, "test": 40}.items():
        rows = []
        for row in range(count):
            drawn = rng.permutation(words)[:10].tolist()
            shared = int(rng.integers(6))
            rest = drawn[5 : 10 - shared]
            likeness = None if row % 12 == 5 else float(shared)
            rows.append({"one": " ".join(drawn[:5]), "other": " ".join(drawn[:shared] + rest), "likeness": likeness})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder, elsewhere = tmp_path_factory.mktemp("sweeps") / "multitask", tmp_path_factory.mktemp("elsewhere")
    write_own_data(folder.parent / "likes")
    return folder, killed_and_resumed(SPACE, folder, SETTINGS, elsewhere)


def stored(folder: Path) -> Evaluation:
    """What the champion predicted on the report split."""
    found = champion_of(folder)
    return load_predictions(folder / found["predictions"], found["statistic"], found["others"])


def test_a_killed_sweep_goes_on_where_it_was_from_another_folder(sweep: tuple[Path, str]) -> None:
    assert_went_on(sweep[0], ["t0000", "t0001"], epochs=3)


def test_the_proof_goes_by_the_mean_of_the_tasks_each_from_guessing_on(sweep: tuple[Path, str]) -> None:
    (confirmed,) = found_in(sweep[0], "confirmed")
    assert {arm["arm"] for arm in confirmed["arms"]} == {"finalist-1", "separate"}
    assert [comparison["against"] for comparison in confirmed["comparisons"]] == ["separate"]
    found, metrics = stored(sweep[0]), champion_of(sweep[0])["metrics"]
    assert [(one.statistic, one.chance) for one in found.statistic] == [  # type: ignore[union-attr]
        ("spearman", 0.0),
        ("accuracy", 0.5),
        ("accuracy", 0.25),
    ]
    close, sentiment, topic = (
        found.others[name] for name in ("close spearman", "sentiment accuracy", "topic accuracy")
    )
    right = {
        0.5: np.mean(sentiment.predictions == sentiment.targets),
        0.25: np.mean(topic.predictions == topic.targets),
    }
    above = [(share - chance) / (1 - chance) for chance, share in right.items()]
    mean = np.mean([spearmanr(close.predictions, close.targets).statistic, *above])
    assert metrics["report.score"] == pytest.approx(mean, abs=1e-9)
    assert len(found.targets) == len(close.targets) + len(sentiment.targets) + len(topic.targets)


def test_rows_without_a_number_are_left_out_and_counted(sweep: tuple[Path, str]) -> None:
    rows = found_in(sweep[0], "sweep")[0]["data"]["rows"]
    told = {name.removeprefix("close "): count for name, count in rows.items() if name.startswith("close ")}
    left_out = {
        "train left out without label": 6,
        "select left out without label": 2,
        "report left out without label": 3,
    }
    assert told == {"train": 66, "select": 22, "report": 37, **left_out}


def test_every_task_is_told_of(sweep: tuple[Path, str]) -> None:
    folder, output = sweep
    (confirmed,) = found_in(folder, "confirmed")
    assert all(set(arm["others"]) >= SCORES for arm in confirmed["arms"])
    page = html.unescape((folder / "report.html").read_text())
    assert all(f"<td>{score}</td>" in page for score in SCORES)
    assert all(score in output for score in SCORES)
    assert "SYNTHETIC" in output


def test_the_registered_model_answers_every_task_as_it_did(sweep: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = sweep
    topic = read_examples(TaskDataSettings(task="ag_news"), "report")
    sentiment = read_examples(TaskDataSettings(task="sst2"), "report")
    own = json.loads(f"[{','.join((folder.parent / 'likes' / 'test.jsonl').read_text().splitlines())}]")
    pairs = [(row["one"], row["other"]) for row in own if row["likeness"] is not None]
    (tmp_path / "texts.json").write_text(json.dumps([[*topic.first, *sentiment.first], pairs]))
    uri, files = f"sqlite:///{folder.parent / 'mlflow.db'}", folder / champion_of(folder)["model"]
    columns, served, close = json.loads(answer(LOAD, uri, MODEL, tmp_path / "texts.json", files, cwd=folder.parent))
    names = [column.partition(".")[0] for column in columns]
    chances, others = np.array(served), stored(folder).others
    assert names == ["topic"] * 4 + ["sentiment"] * 2
    topics, moods = chances[: len(topic), :4], chances[len(topic) :, 4:]
    assert (topics.argmax(axis=1) == others["topic accuracy"].predictions).all()
    assert (moods.argmax(axis=1) == others["sentiment accuracy"].predictions).all()
    assert chances[:, :4].sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert close == pytest.approx(others["close spearman"].predictions, abs=1e-5)


def test_nothing_strange_is_printed(sweep: tuple[Path, str]) -> None:
    assert not [word for word in STRANGE if word in sweep[1]]
