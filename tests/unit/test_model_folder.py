"""Sealing an exported model: what its verify.json may hold, and what follows from it for the model's input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from raysweep.model_folder import MANIFEST, VERIFY, seal
from raysweep.problems import UserError

LOADER = "package.module:load"
PAIR = ["a premise", "a hypothesis"]


def write(folder: Path, verify: Any) -> Path:
    """A model's folder; `verify` is the content of verify.json, or its text."""
    folder.mkdir()
    save_file({"weight": np.zeros(2)}, folder / "model.safetensors")
    (folder / VERIFY).write_text(verify if isinstance(verify, str) else json.dumps(verify))
    return folder


def refusals(folder: Path) -> list[str]:
    """The problems with a folder, each without the place that it must begin with."""
    with pytest.raises(UserError) as caught:
        seal(folder, LOADER)
    assert not (folder / MANIFEST).exists()
    said = [str(problem) for problem in caught.value.problems]
    assert all(line.startswith(f"{folder / VERIFY}: ") for line in said)
    return [line.removeprefix(f"{folder / VERIFY}: ") for line in said]


@pytest.mark.parametrize(
    ("texts", "columns"),
    [(["a", ""], ["text"]), ([PAIR, ["", ""]], ["text", "text_pair"])],
)
@pytest.mark.parametrize(("outputs", "shape"), [([0.5, 1], ()), ([[0.5, 1, 2], [3, 4, 5]], (3,))])
def test_texts_and_pairs_are_told_apart(
    tmp_path: Path, texts: list[Any], columns: list[str], outputs: list[Any], shape: tuple[int, ...]
) -> None:
    folder = write(tmp_path / "model", {"texts": texts, "outputs": outputs})
    sealed = seal(folder, LOADER)
    assert (sealed.columns, sealed.output_shape) == (tuple(columns), shape)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert (manifest["loader"], manifest["columns"]) == (LOADER, columns)
    assert seal(folder, LOADER) == sealed  # its own manifest is no part of what is hashed


@pytest.mark.parametrize(
    ("malformed", "found"),
    [
        (["one side"], "['one side']"),
        (["a", "b", "c"], "['a', 'b', 'c']"),
        (["a", None], "['a', None]"),
        ([], "[]"),
        (None, "None"),
        (7, "7"),
        ({"text": "a"}, "{'text': 'a'}"),
    ],
)
def test_a_malformed_text_is_shown_with_its_place(tmp_path: Path, malformed: Any, found: str) -> None:
    folder = write(tmp_path / "model", {"texts": [PAIR, malformed], "outputs": [1, 2]})
    assert refusals(folder) == [f"texts[1]: expected a string or a list of two strings, found {found}"]


def test_strings_and_pairs_do_not_mix(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"texts": ["alone", "too", PAIR, "a"], "outputs": [1, 2, 3, 4]})
    [said] = refusals(folder)
    assert said == "texts: expected only strings or only lists of two, found a string at [0] and a list of two at [2]"


@pytest.mark.parametrize("texts", [[], "a text", None, {"a": "b"}])
def test_there_must_be_texts(tmp_path: Path, texts: Any) -> None:
    folder = write(tmp_path / "model", {"texts": texts, "outputs": []})
    assert refusals(folder) == [f"texts: expected a list with at least one text or pair of texts, found {texts!r}"]


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ([1.0], "shape (1,)"),
        ([[[1.0]], [[2.0]]], "shape (2, 1, 1)"),
        ([[], []], "shape (2, 0)"),
        (1.0, "shape ()"),
        ([[1.0], [2.0, 3.0]], "[[1.0], [2.0, 3.0]]"),
        (["yes", "no"], "['yes', 'no']"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_outputs_have_a_row_for_each_text(tmp_path: Path, outputs: Any, found: str) -> None:
    folder = write(tmp_path / "model", {"texts": [PAIR, PAIR], "outputs": outputs})
    assert refusals(folder) == [f"outputs: expected numbers of shape (2,) or (2, dimensions), found {found}"]


@pytest.mark.parametrize(
    ("content", "found"),
    [('{"texts": ', "no JSON: "), ("[1, 2]", "[1, 2]"), ('{"texts": ["a"]}', "{'texts': ['a']}")],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, content: str, found: str) -> None:
    [said] = refusals(write(tmp_path / "model", content))
    assert said.startswith(f'expected {{"texts": [...], "outputs": [...]}}, found {found}')


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"texts": ["a", PAIR, 1, [2]], "outputs": [1.0]})
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError) as caught:
        seal(folder, LOADER)
    said = [str(problem).partition(f"{VERIFY}: ")[2].partition(":")[0] for problem in caught.value.problems]
    assert said == ["", "texts[2]", "texts[3]", "texts", "outputs"]


def test_what_a_model_takes_may_stand_beside_it_and_is_sealed_with_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"texts": [PAIR], "outputs": [1]})
    before = seal(folder, LOADER).sha256
    (folder / "resource_usage.yaml").write_text("energy_joules: not measured\n")
    assert seal(folder, LOADER).sha256 != before
    (folder / "resource_usage.yml").touch()
    with pytest.raises(UserError, match=r"resource_usage\.yml may not be part of a registered model .*\.yaml"):
        seal(folder, LOADER)


def test_a_link_is_refused_unread(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "")
    (folder / VERIFY).unlink()
    (folder / VERIFY).symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"verify\.json may not be part of a registered model"):
        seal(folder, LOADER)
