"""A small sweep of inference in two languages, by LoRA on ternary layers, killed once, to a registered model."""

import json
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from text_sweeps import STRANGE, assert_went_on, champion_of, found_in, killed_and_resumed

from raysweep.predictions import load_predictions
from trainables.parts.task_data import TaskDataSettings, read_examples
from trainables.parts.text_predictor import TextPredictor

SETTINGS = [
    "space.data.source=synthetic",
    "space.curve={sizes: [48, 120]}",
    "space.encoder.name=embedded",
    "space.xnli.languages=[en, es]",
    "space.xnli.source=languages",
    "space.variant=bitnet",
    "space.ternary.enabled=true",
    "space.tuning.kind=lora",
    "space.tuning.rank=4",
    "space.train.epochs=2",
    "space.train.lr=3e-3",
    "space.measure.memory=false",
    "scheduler.max=4",
    "budget.trials=1",
    "references={float: {variant: float, ternary.enabled: false}}",
    "confirm.per=[]",
    "confirm.seeds=[1, 2]",
]


def write_languages(folder: Path) -> None:
    """The same made-up pairs twice; the second language writes every word backwards."""
    examples = read_examples(TaskDataSettings(task="mnli"), "report")
    for language, step in {"en": 1, "es": -1}.items():
        place = folder / language
        place.mkdir(parents=True)
        rows = [
            {"premise": backwards(one, step), "hypothesis": backwards(other, step), "label": int(target)}
            for (one, other), target in zip(examples.texts, examples.targets, strict=True)
        ]
        (place / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def backwards(text: str, step: int) -> str:
    return " ".join(word[::step] for word in text.split())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("sweeps") / "efficient"
    write_languages(folder.parent / "languages")
    return folder, killed_and_resumed("efficient_xnli.yaml", folder, SETTINGS)


def test_a_killed_sweep_goes_on_where_it_was(sweep: tuple[Path, str]) -> None:
    assert_went_on(sweep[0], ["t0000"], epochs=4)


def test_a_trial_is_a_learning_curve(sweep: tuple[Path, str]) -> None:
    reports = [record["metrics"] for record in found_in(sweep[0], "reported") if record["trial"] == "t0000"]
    assert [metrics["train.rows"] for metrics in reports] == [48, 48, 120, 120]
    assert {"curve.48.score", "curve.120.score"} <= reports[-1].keys()
    assert "curve.120.score" not in reports[1]


def test_the_mean_of_both_languages_is_proven_beside_each(sweep: tuple[Path, str]) -> None:
    (confirmed,) = found_in(sweep[0], "confirmed")
    for arm in confirmed["arms"]:
        each = [arm["others"][f"language {name}"]["mean"] for name in ("en", "es")]
        assert arm["mean"] == pytest.approx(np.mean(each))
    assert "language es" in sweep[1]


def test_the_exported_model_answers_as_it_did_and_says_what_it_took(sweep: tuple[Path, str]) -> None:
    folder, found = sweep[0], champion_of(sweep[0])
    stored = load_predictions(folder / found["predictions"], found["statistic"], found["others"])
    model = folder / "trials" / found["trial"] / "model"
    examples = read_examples(TaskDataSettings(task="mnli"), "report")
    answers = TextPredictor(model).predict(examples.texts).argmax(axis=1)
    assert np.mean(answers == stored.others["language en"].predictions) > 0.99  # in batches of another size
    usage = YAML(typ="safe").load((model / "resource_usage.yaml").read_text())
    assert usage["training"]["duration_seconds"] > 0
    assert usage["serving"]["latency_p50_ms"] > 0
    assert len(found_in(folder, "registered")) == 1


def test_nothing_strange_is_printed(sweep: tuple[Path, str]) -> None:
    assert not [word for word in STRANGE if word in sweep[1]]
