"""Tasks of a few rows in folders, and models on them, as the tests of the multi-task recipe's parts use them."""

from pathlib import Path
from typing import Any

from tests.task_folders import Row, folder_of, write_jsonl
from tests.text_models import moved
from trainables.parts.encoders import Encoder, EncoderSource, load_encoder
from trainables.parts.multitask import build
from trainables.parts.multitask.inputs import TaskInputs, load_inputs
from trainables.parts.multitask.model import MultitaskModel
from trainables.parts.multitask.settings import HeadSettings, MultitaskConfig, VectorSettings
from trainables.parts.task_settings import TaskDataSettings

TEXTS = ["the old dog", "a cat", "the nurse sold a red boat near the river", "snow", "a small car was sold"]
OTHERS = ["a dog", "the young cat was here", "a boat", "near the river", "the car"]


def opinions(start: int = 0) -> list[Row]:
    """Texts with labels, as SST-2 has them."""
    return [{"sentence": f"{text} {start}".strip(), "label": n % 2} for n, text in enumerate(TEXTS)]


def likeness(start: int = 0) -> list[Row]:
    """Pairs with scores, as STS-B has them."""
    pairs = zip(TEXTS, OTHERS, strict=True)
    return [
        {"sentence1": f"{a} {start}", "sentence2": f"{b} {start}", "label": float(n)} for n, (a, b) in enumerate(pairs)
    ]


def inferences(start: int = 0) -> list[Row]:
    """Pairs with labels, as MNLI has them."""
    pairs = zip(TEXTS, OTHERS, strict=True)
    return [{"premise": f"{a} {start}", "hypothesis": f"{b} {start}", "label": n % 3} for n, (a, b) in enumerate(pairs)]


ROWS = {"sst2": opinions, "stsb": likeness, "mnli": inferences}


def data_of(path: Path, task: Any, **more: Any) -> TaskDataSettings:
    """A folder with this task's rows: five in each split, no text in two of them."""
    names = ("train", "select", "report", *(["validation_mismatched"] if task == "mnli" else []))
    source = folder_of(path / task, write_jsonl, **{name: ROWS[task](n) for n, name in enumerate(names)})
    return TaskDataSettings(task=task, source=source, **{"select": "select", "report": "report", **more})


def config_of(path: Path, **losses: Any) -> MultitaskConfig:
    """The tasks of these names, with these losses."""
    tasks = {name: HeadSettings(data=data_of(path, name), loss=loss) for name, loss in losses.items()}
    return MultitaskConfig(tasks=tasks)


def new_encoder(seed: int = 0, **changes: Any) -> Encoder:
    return load_encoder(EncoderSource(**{"max_length": 32, **changes}), seed)


def inputs_of(path: Path, task: str, loss: Any = None, split: Any = "train", also: str | None = None) -> TaskInputs:
    return load_inputs(config_of(path, **{task: loss}), task, split, new_encoder(), "cpu", also)


def model_of(inputs: TaskInputs, encoder: Encoder, **pooling: Any) -> MultitaskModel:
    """The model of one task, the weights behind its encoder as if it had been trained, in eval mode."""
    config = MultitaskConfig(tasks={inputs.name: inputs.settings}, pooling=VectorSettings(**pooling))
    model = build.new_model(config, encoder, 0)
    moved(model.tower(inputs.name).vector)
    moved(model.heads)
    return model.eval()
