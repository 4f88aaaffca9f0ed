"""From examples to what a model takes, and from known logits to answers and scores, for every kind of task."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.parts import synthetic
from trainables.parts.encoders import Encoder, EncoderSettings, load_encoder
from trainables.parts.packed import Packed
from trainables.parts.task_data import Examples
from trainables.parts.tasks import TASKS, Task, TaskName
from trainables.parts.text_inputs import TextInputs, scored, scores, text_inputs

TEXTS = ["the old dog", "a cat", "the nurse sold a red boat near the river", "snow", "a small car was sold"]
OTHERS = ["a dog", "the cat was here", "a boat", "near the river", "the car"]
FILLING = "the doctor sold a boat . " * 6
CONTEXTS = [  # the second one is longer than a window
    "near the river the old nurse sold a red car .",
    f"{FILLING}the singer bought a clock . {FILLING}",
    "the cat was washed by a farmer .",
]
QUESTIONS = ["what was sold ?", "who bought a clock ?", "who washed the cat ?"]
ANSWERS = ["a red car", "singer", "a farmer"]
NAMES = {
    "accuracy": ["accuracy", "macro_f1"],
    "f1": ["f1", "accuracy"],
    "matthews": ["matthews", "accuracy"],
    "spearman": ["spearman", "pearson"],
    "mean": ["f1", "exact_match"],
}


class Known(nn.Module):
    """Gives each text, known by its tokens, the logits that were set for it: [1, K], or [tokens, K]."""

    def __init__(self, inputs: TextInputs, logits: list[Tensor]) -> None:
        super().__init__()
        texts = np.split(inputs.tokens.ids, inputs.tokens.starts[1:])
        self.logits = {tuple(text.tolist()): found for text, found in zip(texts, logits, strict=True)}

    def forward(self, batch: Packed) -> Tensor:
        return torch.cat([self.logits[tuple(text.tolist())] for text in batch.ids.split(batch.lengths.tolist())])


def encoder(max_length: int = 32) -> Encoder:
    return load_encoder(EncoderSettings(max_length=max_length), 0)


def inputs_of(task: Task, targets: list[float] | None = None) -> TextInputs:
    """Five texts or pairs with these targets, or three questions on contexts, in windows of 32 tokens."""
    if task.kind == "span":
        places = [context.index(answer) for context, answer in zip(CONTEXTS, ANSWERS, strict=True)]
        answers = [[pair] for pair in zip(ANSWERS, places, strict=True)]
        return text_inputs(task, Examples(QUESTIONS, CONTEXTS, np.zeros(3), answers), encoder(), 8, "cpu")
    if targets is None:
        targets = [0.0, 0.25, 1.0, 0.5, 0.75] if task.kind == "regression" else [0.0, 1.0, 1.0, 0.0, 1.0]
    second = OTHERS if len(task.texts) == 2 else None
    return text_inputs(task, Examples(TEXTS, second, np.array(targets)), encoder(), 8, "cpu")


def label_logits(labels: list[float], classes: int = 2) -> list[Tensor]:
    return [torch.eye(classes)[[int(label)]] * 3 - 1 for label in labels]


def place_logits(inputs: TextInputs) -> list[Tensor]:
    """High at the answer's ends in windows that hold it, low elsewhere."""
    logits = []
    for length, (start, end) in zip(inputs.lengths.tolist(), inputs.targets.tolist(), strict=True):
        window = torch.full((length, 2), -5.0)
        if end:
            window[start, 0] = window[end, 1] = 5.0
        logits.append(window)
    return logits


def perfect(inputs: TextInputs) -> list[Tensor]:
    if inputs.task.kind == "span":
        return place_logits(inputs)
    if inputs.task.kind == "regression":
        return list(inputs.targets[:, None, None])
    return label_logits(inputs.targets.tolist(), max(2, len(inputs.task.labels)))


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("size", [1, 2, 64])
def test_perfect_logits_score_1_by_the_tasks_own_score_first(name: TaskName, size: int) -> None:
    inputs = inputs_of(TASKS[name])
    model = Known(inputs, perfect(inputs))
    found = scored(model, inputs, size, "cpu")
    positive = ["f1"] if TASKS[name].score == "accuracy" and len(TASKS[name].labels) in (0, 2) else []
    assert list(found) == NAMES[TASKS[name].score] + positive
    assert scores(found) == pytest.approx(dict.fromkeys(["score", *found], 1.0))
    assert not model.training
    assert {len(one.predictions) for one in found.values()} == {len(inputs.examples)}


@pytest.mark.parametrize(
    ("name", "predicted", "expected"),
    [  # of the targets 1 1 0 0 0
        ("sst2", [1, 0, 0, 0, 0], {"accuracy": 0.8, "macro_f1": (6 / 7 + 2 / 3) / 2, "f1": 2 / 3}),
        ("sst2", [0, 0, 0, 0, 0], {"accuracy": 0.6, "macro_f1": (6 / 8 + 0) / 2, "f1": 0}),
        ("mrpc", [1, 0, 0, 0, 0], {"f1": 2 / 3, "accuracy": 0.8}),
        ("cola", [1, 0, 1, 0, 0], {"matthews": (1 * 2 - 1 * 1) / 6, "accuracy": 0.6}),
        ("cola", [1, 1, 1, 1, 1], {"matthews": 0, "accuracy": 0.4}),
        ("qqp", [0, 0, 0, 0, 0], {"f1": 0, "accuracy": 0.6}),
    ],
)
def test_labels_are_the_likeliest_classes(name: TaskName, predicted: list[int], expected: dict[str, float]) -> None:
    inputs = inputs_of(TASKS[name], [1, 1, 0, 0, 0])
    found = scored(Known(inputs, label_logits(predicted)), inputs, 2, "cpu")
    assert [one.predictions.tolist() for one in found.values()] == [predicted] * len(expected)
    assert [one.targets.tolist() for one in found.values()] == [[1, 1, 0, 0, 0]] * len(expected)
    assert {name: one.statistic for name, one in found.items()} == {name: name for name in expected}
    assert scores(found) == pytest.approx({"score": next(iter(expected.values()))} | expected)


def test_of_more_labels_the_mean_f1_is_told_and_none_is_positive() -> None:
    inputs = inputs_of(TASKS["mnli"], [0, 1, 2, 2, 2])
    found = scored(Known(inputs, label_logits([0, 1, 2, 1, 1], 3)), inputs, 2, "cpu")
    assert scores(found) == pytest.approx({"score": 0.6, "accuracy": 0.6, "macro_f1": (1 + 1 / 2 + 1 / 2) / 3})


def test_numbers_are_the_logits_themselves() -> None:
    inputs, logits = inputs_of(TASKS["stsb"], [0, 0.2, 0.4, 0.6, 0.8]), [0.1, -3.0, 0.5, 0.7, 40.0]
    found = scored(Known(inputs, [torch.tensor([[number]]) for number in logits]), inputs, 2, "cpu")
    assert found["spearman"].predictions == pytest.approx(logits)
    expected = np.corrcoef(logits, [0, 0.2, 0.4, 0.6, 0.8])[0, 1]
    assert scores(found) == pytest.approx({"score": 0.9, "spearman": 0.9, "pearson": expected})


def test_answers_are_scored_by_their_words() -> None:
    inputs = inputs_of(TASKS["squad"])
    logits = place_logits(inputs)
    start, end = inputs.targets[0].tolist()  # "a red car": the articles do not count, so half of it is "red"
    logits[0][end, 1], logits[0][start + 1, 1] = -5.0, 5.0
    logits[-1] = torch.zeros(len(logits[-1]), 2)
    logits[-1][-2:] = 1.0  # the full stop behind the farmer
    found = scored(Known(inputs, logits), inputs, 2, "cpu")
    assert found["f1"].predictions == pytest.approx([2 / 3, 1, 0])
    assert found["exact_match"].predictions.tolist() == [0, 1, 0]
    assert all(one.targets.tolist() == [1, 1, 1] and one.statistic == "mean" for one in found.values())
    assert scores(found) == pytest.approx({"score": 5 / 9, "f1": 5 / 9, "exact_match": 1 / 3})


def test_any_of_the_right_answers_counts() -> None:
    answers = [[("a red car", CONTEXTS[0].index("a red")), ("car", CONTEXTS[0].index("car"))]]
    inputs = text_inputs(
        TASKS["squad"], Examples(QUESTIONS[:1], CONTEXTS[:1], np.zeros(1), answers), encoder(), 8, "cpu"
    )
    logits = torch.full((int(inputs.lengths[0]), 2), -5.0)
    logits[inputs.targets[0, 1]] = 5.0  # "car" alone, its start and its end
    assert scores(scored(Known(inputs, [logits]), inputs, 2, "cpu")) == {"score": 1, "f1": 1, "exact_match": 1}


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["mrpc", "cola", "sst2", "stsb", "squad"])
def test_logits_that_are_no_numbers_are_no_answers(name: TaskName, broken: float) -> None:
    inputs = inputs_of(TASKS[name])
    logits = perfect(inputs)
    logits[1] = logits[1].clone()
    logits[1][-1, -1] = broken
    found = scored(Known(inputs, logits), inputs, 2, "cpu")
    for one in found.values():
        assert np.flatnonzero(~np.isfinite(one.predictions)).tolist() == [1]
    values = scores(found)
    assert list(values) == ["score", *found]
    assert all(np.isnan(value) for value in values.values())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sst2", torch.int64), ("mnli", torch.int64), ("stsb", torch.float32), ("regression", torch.float32)],
)
def test_targets_are_classes_or_numbers(name: TaskName, kind: torch.dtype) -> None:
    inputs = inputs_of(TASKS[name])
    assert inputs.targets.dtype == kind
    assert inputs.targets.tolist() == inputs.examples.targets.tolist()
    assert inputs.windows is None
    assert inputs.lengths is inputs.tokens.lengths


@pytest.mark.parametrize("name", ["sst2", "mnli"])
def test_texts_are_tokenised_alone_or_in_pairs(name: TaskName) -> None:
    inputs, tokenizer = inputs_of(TASKS[name]), synthetic.tokenizer()
    given: Any = (TEXTS, OTHERS) if name == "mnli" else (TEXTS,)
    expected = tokenizer(*given, padding=False, truncation=False, return_token_type_ids=True)
    assert [ids.tolist() for ids in np.split(inputs.tokens.ids, inputs.tokens.starts[1:])] == expected["input_ids"]
    if name == "sst2":
        assert inputs.tokens.types is None
    else:
        assert inputs.tokens.types is not None
        assert inputs.tokens.types.tolist() == [kind for row in expected["token_type_ids"] for kind in row]


def test_a_text_is_cut_at_what_the_encoder_takes() -> None:
    inputs = text_inputs(TASKS["sst2"], Examples([FILLING, "the dog"], None, np.zeros(2)), encoder(10), 8, "cpu")
    assert inputs.lengths.tolist() == [10, 4]


def test_long_contexts_become_windows_with_the_places_of_the_answer() -> None:
    inputs = inputs_of(TASKS["squad"])
    parts = inputs.windows
    assert parts is not None
    assert parts.example.tolist() == [0, *[1] * (len(parts.example) - 2), 2]
    assert len(parts.example) > 4
    assert inputs.lengths.max() == 32
    assert inputs.targets.tolist() == [list(ends) for ends in zip(parts.starts, parts.ends, strict=True)]
    held = [window for window, (_, end) in enumerate(inputs.targets.tolist()) if end]
    assert set(parts.example[held]) == {0, 1, 2}
    assert len(held) < len(parts.example)
    for window in held:
        ids = inputs.tokens.ids[inputs.tokens.starts[window] :][
            inputs.targets[window, 0] : inputs.targets[window, 1] + 1
        ]
        assert synthetic.tokenizer().decode(ids) == ANSWERS[parts.example[window]]


@pytest.mark.parametrize("name", ["sst2", "squad"])
def test_tokens_are_made_once_for_the_trials_of_a_process(name: TaskName) -> None:
    assert inputs_of(TASKS[name]).tokens is inputs_of(TASKS[name]).tokens
