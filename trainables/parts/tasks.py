"""The tasks that a text model can be trained on: their columns, labels, score, and where the splits are.

Test labels of GLUE are hidden, so its official validation split is the report, and what the search goes by is carved
out of train.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from raysweep.trial import Statistic

Kind = Literal["classification", "regression", "span"]
TaskName = Literal[
    "cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "squad", "imdb", "snli", "ag_news", "trec",
    "classification", "regression",
]  # fmt: skip
OWN: tuple[TaskName, ...] = ("classification", "regression")  # a user's own data: one text, or two with data.second


@dataclass(frozen=True, slots=True)
class Task:
    """What a task's rows look like and how answers are scored; the defaults of `TaskDataSettings`.

    `labels` are in canonical order: class number i is `labels[i]`. `select` None: it is carved out of train.
    For spans `texts` are question and context, and `target` holds the answers.
    """

    name: TaskName
    kind: Kind
    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    score: Statistic = "accuracy"  # the task's own first metric; of "f1" the positive class is number 1
    target: str = "label"
    target_max: float = 1.0
    hub: str | None = "nyu-mll/glue"
    subset: str | None = None
    train: str = "train"
    select: str | None = None
    report: str = "validation"
    also: tuple[str, ...] = ()  # further report splits
    unlabelled: bool = False  # whether rows without a label (-1) belong to the set, and are left out


def _glue(name: TaskName, texts: tuple[str, ...], labels: tuple[str, ...], score: Statistic = "accuracy") -> Task:
    return Task(name, "classification", texts, labels, score, subset=name)


SENTENCES = ("sentence1", "sentence2")
INFERENCE = ("entailment", "neutral", "contradiction")
NLI = ("premise", "hypothesis")

_EVERY = (
    _glue("cola", ("sentence",), ("unacceptable", "acceptable"), "matthews"),
    _glue("sst2", ("sentence",), ("negative", "positive")),
    _glue("mrpc", SENTENCES, ("not_equivalent", "equivalent"), "f1"),
    Task("stsb", "regression", SENTENCES, score="spearman", target_max=5.0, subset="stsb"),
    _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), "f1"),
    Task(
        "mnli", "classification", NLI, INFERENCE, subset="mnli",
        report="validation_matched", also=("validation_mismatched",),
    ),
    _glue("qnli", ("question", "sentence"), ("entailment", "not_entailment")),
    _glue("rte", SENTENCES, ("entailment", "not_entailment")),
    _glue("wnli", SENTENCES, ("not_entailment", "entailment")),
    Task("squad", "span", ("question", "context"), score="mean", target="answers", hub="rajpurkar/squad"),
    Task("imdb", "classification", ("text",), ("negative", "positive"), hub="stanfordnlp/imdb", report="test"),
    Task(
        "snli", "classification", NLI, INFERENCE, hub="stanfordnlp/snli", select="validation", report="test",
        unlabelled=True,  # pairs on which the annotators did not agree
    ),
    Task(
        "ag_news", "classification", ("text",), ("world", "sports", "business", "sci_tech"),
        hub="fancyzhx/ag_news", report="test",
    ),
    Task(
        "trec", "classification", ("text",), ("abbreviation", "entity", "description", "human", "location", "number"),
        target="coarse_label", hub="CogComp/trec", report="test",
    ),
    Task("classification", "classification", ("text",), hub=None, select="validation", report="test"),
    Task(
        "regression", "regression", ("text",), score="spearman", target="score", hub=None,
        select="validation", report="test",
    ),
)  # fmt: skip
TASKS: dict[TaskName, Task] = {task.name: task for task in _EVERY}
assert tuple(TASKS) == get_args(TaskName)
