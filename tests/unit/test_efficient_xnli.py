"""XNLI: one order of labels however a source numbers them, parallel rows, added languages, and every mistake told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raysweep.problems import Problem, UserError
from raysweep.space.fields import Fields
from raysweep.trial import Scored
from tests.task_folders import Row, folder_of, write_jsonl
from trainables.parts import examples as reading
from trainables.parts.efficient.xnli import (
    LANGUAGES,
    XnliSettings,
    disagreements,
    language_data,
    mean_over,
    read_language,
    read_training,
    xnli_facts,
)
from trainables.parts.task_data import Examples, examples_facts, labels_of, read_examples
from trainables.parts.task_settings import TaskDataSettings
from trainables.parts.text_inputs import value

CANONICAL = ("entailment", "neutral", "contradiction")
PUBLISHED = ("contradiction", "entailment", "neutral")  # another numbering that models of inference are trained with
ANSWERS = ["neutral", "contradiction", "entailment", "contradiction", "contradiction", "neutral"]


def rows_of(answers: Sequence[str], names: Sequence[str] | None, words: str = "test") -> list[Row]:
    """Pairs that say what they are, labelled by name or by number among `names`."""
    return [
        {"premise": f"{words} {n}", "hypothesis": f"so {answer}", "label": names.index(answer) if names else answer}
        for n, answer in enumerate(answers)
    ]


def languages(path: Path, names: Sequence[str] | None = CANONICAL, *codes: str, **tests: list[Row]) -> str:
    """A folder with a folder for each language: `test` as given or alike in all, and `train` of nine rows."""
    for code in (*(codes or ("en", "de", "sw")), *tests):
        found = tests.get(code, rows_of(ANSWERS, names, f"{code} test"))
        train = rows_of(CANONICAL * 3, names, f"{code} train")
        (path / "xnli").mkdir(parents=True, exist_ok=True)
        folder_of(path / "xnli" / code, write_jsonl, test=found, train=train)
    return str(path / "xnli")


def english(path: Path, **more: Any) -> TaskDataSettings:
    """Training data of its own: twelve rows, and splits beside it."""
    splits = {name: rows_of(CANONICAL, CANONICAL, name) for name in ("dev", "report")}
    source = folder_of(path / "english", write_jsonl, train=rows_of(CANONICAL * 4, CANONICAL, "train"), **splits)
    return TaskDataSettings(task="mnli", source=source, **{"select": "dev", "report": "report", "also": (), **more})


def answered(examples: Examples, names: Sequence[str]) -> float:
    """The accuracy of one who reads the answer off the hypothesis, and numbers it by `names`."""
    assert examples.second is not None
    answers = [float(names.index(text.removeprefix("so "))) for text in examples.second]
    return value(Scored(np.array(answers), examples.targets, "accuracy"))


@pytest.mark.parametrize(
    ("names", "labels"), [(CANONICAL, None), (CANONICAL, CANONICAL), (PUBLISHED, PUBLISHED), (None, None)]
)
def test_a_perfect_answerer_is_right_in_every_language_however_labels_are_numbered(
    names: Sequence[str] | None, labels: tuple[str, ...] | None, tmp_path: Path
) -> None:
    source = languages(tmp_path, names)
    wanted = XnliSettings(languages=("en", "de", "sw"), source=source, labels=labels, train_languages=("de", "sw"))
    trained_on = labels_of(english(tmp_path))
    assert [answered(read_language(wanted, code), trained_on) for code in wanted.codes] == [1.0, 1.0, 1.0]
    assert answered(read_training(english(tmp_path), wanted), trained_on) == 1.0


def test_a_numbering_that_nobody_names_would_be_seen(tmp_path: Path) -> None:
    wanted = XnliSettings(languages=("en", "de"), source=languages(tmp_path, PUBLISHED))
    assert answered(read_language(wanted, "de"), labels_of(english(tmp_path))) == 0.0


def test_rows_are_the_same_ones_in_every_language_and_stratified(tmp_path: Path) -> None:
    many = list(CANONICAL) * 20 + ["neutral"] * 40
    source = languages(tmp_path, en=rows_of(many, CANONICAL, "en"), sw=rows_of(many, CANONICAL, "sw"))
    wanted = XnliSettings(languages=("en", "sw"), source=source, rows=25)
    one, other = (read_language(wanted, code) for code in wanted.codes)
    assert [text.split()[1] for text in one.first] == [text.split()[1] for text in other.first]
    assert {text.split()[0] for text in other.first} == {"sw"}
    assert sorted(int(text.split()[1]) for text in one.first) == [int(text.split()[1]) for text in one.first]
    assert np.bincount(one.targets.astype(int)).tolist() == [5, 15, 5]


def told(wanted: XnliSettings, data: TaskDataSettings, problems: Sequence[Problem] = ()) -> list[str]:
    with pytest.raises(UserError) as caught:
        xnli_facts(data, wanted, problems)
    return [str(problem) for problem in caught.value.problems]


def test_languages_that_are_not_parallel_are_refused(tmp_path: Path) -> None:
    swapped = [ANSWERS[1], ANSWERS[0], *ANSWERS[2:]]
    source = languages(tmp_path, de=rows_of(swapped, CANONICAL), sw=rows_of(ANSWERS[1:], CANONICAL))
    wanted = XnliSettings(languages=("en", "de", "sw"), source=source)
    assert len(read_language(wanted, "en")) == 6
    found = told(wanted, english(tmp_path))
    assert len(found) == 2
    assert "xnli de: 2 labels are not those of en, the first at row 1, contradiction and neutral (row n of" in found[0]
    assert "xnli sw: has 5 test rows, and en has 6" in found[1]


def test_training_rows_of_languages_stand_behind_the_english_ones(tmp_path: Path) -> None:
    source, data = languages(tmp_path), english(tmp_path)
    plain, added = XnliSettings(), XnliSettings(languages=("en",), source=source, train_languages=("sw", "de"))
    assert read_training(data, plain) is read_examples(data, "train")
    found = read_training(data, added)
    expected = [f"train {n}" for n in range(12)] + [f"{code} train {n}" for code in ("sw", "de") for n in range(9)]
    assert found.first == expected
    assert len(found.second or ()) == len(found.targets) == 30
    fewer = read_training(data, added.model_copy(update={"train_rows": 3}))
    assert len(fewer) == 12 + 3 + 3
    assert sorted(fewer.targets[12:15].tolist()) == sorted(fewer.targets[15:].tolist()) == [0, 1, 2]
    assert read_training(english(tmp_path, train_rows=5), added).first[5:] == expected[12:]


def test_facts_tell_rows_hashes_and_what_was_seen_of_each_language(tmp_path: Path) -> None:
    data = english(tmp_path)
    seen: list[Row] = [{"premise": "train 0", "hypothesis": "so entailment", "label": 0}] * 2
    seen += [{"premise": "dev 1", "hypothesis": "so neutral", "label": 1}]
    seen += [{"premise": "de train 2", "hypothesis": "so contradiction", "label": 2}]
    other = rows_of([CANONICAL[row["label"]] for row in seen], CANONICAL, "sw test")
    source = languages(tmp_path, CANONICAL, "de", en=seen, sw=other)
    wanted = XnliSettings(languages=("en", "sw"), source=source, train_languages=("de",))
    own, facts = examples_facts(data), xnli_facts(data, wanted)
    assert facts.rows == own.rows | {"xnli en": 4, "xnli sw": 4, "xnli de train": 9}
    assert set(facts.hashes) == set(facts.rows)
    assert len({*own.hashes.values(), *facts.hashes.values()}) == 6
    counted = {"xnli en repeated": 1, "train in xnli en": 2, "select in xnli en": 1}
    nothing = {"xnli sw repeated": 0, "train in xnli sw": 0, "select in xnli sw": 0}
    assert facts.overlaps == own.overlaps | counted | nothing
    assert (facts.name, facts.source) == ("english + xnli", f"{data.source} + {source}")
    assert xnli_facts(data, XnliSettings()) == own


def test_facts_are_those_of_the_files_as_they_are(tmp_path: Path) -> None:
    wanted, data = XnliSettings(languages=("en", "de"), source=languages(tmp_path)), english(tmp_path)
    before = xnli_facts(data, wanted)
    languages(tmp_path, CANONICAL, en=rows_of(ANSWERS, CANONICAL, "another"))
    after = xnli_facts(data, wanted)
    assert after.hashes["xnli en"] != before.hashes["xnli en"]
    assert after.hashes["xnli de"] == before.hashes["xnli de"]


def test_every_problem_is_told_with_its_language(tmp_path: Path) -> None:
    wrong = [{**row, "label": 7} for row in rows_of(ANSWERS, CANONICAL)]
    source = languages(tmp_path, CANONICAL, "en", de=wrong)
    wanted = XnliSettings(languages=("en", "de", "sw", "ur"), source=source, rows=7, train_languages=("fr",))
    found = told(wanted, english(tmp_path, report="nowhere"), [Problem("the encoder is not here")])
    assert found[0] == "the encoder is not here"
    assert "no file for split 'nowhere'" in found[1]
    assert found[2] == "xnli en: xnli.rows is 7, but there are 6 rows"
    assert "xnli de: column 'label' is outside 0..2 at row 1: 7" in found[3]
    assert "(xnli.labels names the classes from 0 on" in found[3]
    assert [text.split(", and not")[0] for text in found[4:]] == [
        f"xnli {code}: xnli.source: there is no folder {source}/{code}" for code in ("sw", "ur", "fr")
    ]


def test_a_first_language_that_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    wanted = XnliSettings(languages=("ur", "en", "de"), source=languages(tmp_path))
    (found,) = told(wanted, english(tmp_path))
    assert found.startswith("xnli ur: ")


def test_the_data_must_be_of_the_task_and_select_by_rows_that_nobody_translates(tmp_path: Path) -> None:
    wanted = XnliSettings(languages=("en",), source=languages(tmp_path), train_languages=("de",))
    carved = english(tmp_path, select=None)
    assert disagreements(carved, XnliSettings()) == disagreements(english(tmp_path), wanted) == []
    assert disagreements(carved, XnliSettings(languages=("en",))) == []
    assert disagreements(TaskDataSettings(task="mnli"), wanted) == []
    (message,) = disagreements(TaskDataSettings(), wanted)
    assert message == "xnli.languages need data.task mnli, whose labels they have, but it is sst2"
    (message,) = disagreements(carved, wanted)
    assert "data.select is held out of 'train'" in message
    (message,) = disagreements(english(tmp_path), wanted, folds=3)
    assert message.startswith("cross_validation.folds would score rows whose translations")
    assert disagreements(english(tmp_path), XnliSettings(languages=("en",)), folds=3) == []


class Hub:
    """XNLI as `datasets` would give it; it notes what is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        self.asked: set[tuple[str, str, str]] = set()
        reading.read_split.cache_clear()  # what another test's hub gave
        monkeypatch.setattr(datasets, "get_dataset_split_names", lambda path, subset: ["train", "validation", "test"])
        monkeypatch.setattr(datasets, "load_dataset", self.load)

    def load(self, path: str, subset: str, split: str) -> Any:
        import datasets

        self.asked.add((path, subset, split))
        return datasets.Dataset.from_list(rows_of(ANSWERS, CANONICAL, subset))


@pytest.mark.parametrize(("source", "asked"), [("hub", "facebook/xnli"), ("other/xnli", "other/xnli")])
def test_the_hub_has_a_subset_for_each_language(source: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    wanted = XnliSettings(languages=("th", "en"), source=source, train_languages=("th",))
    for code in wanted.codes:
        assert read_language(wanted, code).first == [f"{code} {n}" for n in range(6)]
    assert hub.asked == {(asked, code, "test") for code in ("th", "en")}
    assert len(read_training(TaskDataSettings(task="mnli"), wanted)) > 6
    assert (asked, "th", "train") in hub.asked


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub() -> None:
    assert language_data(XnliSettings(languages=("en",), source="./missing"), "de").source == "missing/de"
    with pytest.raises(UserError, match="xnli de: "):
        read_language(XnliSettings(languages=("en",), source="/missing"), "de")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"languages": ["en", "eng"]}, "languages holds 'eng', which XNLI does not have (did you mean 'en'?)"),
        ({"languages": ["qq"]}, f"(known: {', '.join(LANGUAGES)})"),
        ({"languages": ["en", "de", "en"]}, "languages holds 'en' twice"),
        ({"languages": ["en"], "train_languages": ["xy"]}, "train_languages holds 'xy'"),
        ({"languages": ["de"], "train_languages": ["en"]}, "the English training rows are those of data"),
        ({"languages": ["de"], "train_rows": 5}, "train_rows is for train_languages, and there are none"),
        ({"train_languages": ["de"], "rows": 3}, "rows has no effect without languages; train_languages has no effect"),
        ({"languages": ["de"], "labels": ["entailment", "neutral"]}, "labels of task mnli are entailment, neutral"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        XnliSettings(**given)
    assert message in str(caught.value)


def test_a_sweep_file_names_languages_or_all() -> None:
    fields = Fields(XnliSettings)
    assert [fields.complaint("languages", found) for found in ("all", [], ["en", "zh"])] == [None] * 3
    assert "did you mean 'all'?" in str(fields.complaint("languages", "al"))
    assert XnliSettings(languages="all").codes == LANGUAGES
    assert len(LANGUAGES) == 15
    assert hash(XnliSettings(languages=["en"])) == hash(XnliSettings(languages=("en",)))  # type: ignore[arg-type]


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=30))
def test_the_mean_is_that_of_the_languages_accuracies(rows: list[tuple[int, ...]]) -> None:
    targets, *answers = np.array(rows, float).T
    found = {code: Scored(each, targets, "accuracy") for code, each in zip(LANGUAGES, answers, strict=False)}
    together = mean_over(found)
    assert (together.statistic, together.targets.tolist()) == ("mean", [1.0] * len(rows))
    assert value(together) == pytest.approx(np.mean([value(one) for one in found.values()]))
    assert together.predictions == pytest.approx([np.mean([answer == row[0] for answer in row[1:]]) for row in rows])


def test_an_answer_that_is_none_leaves_none_of_its_row() -> None:
    targets = np.array([0.0, 1.0])
    found = {"en": Scored(np.array([np.nan, 1.0]), targets, "accuracy"), "de": Scored(targets, targets, "accuracy")}
    assert np.isnan(mean_over(found).predictions).tolist() == [True, False]
    assert np.isnan(value(mean_over(found)))
