"""YAML 1.2 with lines: what stays text, what is a number, and every complaint with its place."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.problems import UserError
from raysweep.yaml_file import Place, parse_yaml, read_yaml

# Scalars that older YAML readers take for something else, and the core schema's numbers.
SCALARS = {
    "2:4": "2:4",
    "12:00:00": "12:00:00",
    "no": "no",
    "on": "on",
    "off": "off",
    "Yes": "Yes",
    "1_000": "1_000",
    "2001-12-14": "2001-12-14",
    "<<": "<<",
    "'5'": "5",
    '"1e-5"': "1e-5",
    "!!str 7": "7",
    "1e-5": 1e-5,
    "1.0e-5": 1e-5,
    "5E3": 5000.0,
    ".5": 0.5,
    "-.inf": float("-inf"),
    "+12": 12,
    "08": 8,
    "0x1F": 31,
    "0o17": 15,
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_follow_the_core_schema(text: str) -> None:
    value = parse_yaml(f"a: {text}", None).data["a"]
    assert value == SCALARS[text]
    assert type(value) is type(SCALARS[text])


def test_keys_follow_it_too() -> None:
    assert list(parse_yaml("2:4: 1\nno: 2\ntrue: 3\n0.5: 4\ngröße: 5", None).data) == ["2:4", "no", True, 0.5, "größe"]


def test_the_yaml_directive_does_not_bring_the_old_rules_back() -> None:
    assert parse_yaml("%YAML 1.1\n---\na: no\nb: 2:4\nc: 010", None).data == {"a": "no", "b": "2:4", "c": 10}


PRINTABLE = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f", exclude_categories=["Cc"])
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | PRINTABLE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PRINTABLE, inner, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUES)
def test_json_is_yaml(value: object) -> None:
    assert parse_yaml(json.dumps(value, ensure_ascii=False), None).data == value


def test_lines_of_keys_and_list_items() -> None:
    place = parse_yaml("# comment\na:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n", "f.yaml").place
    wanted = {("a",): 2, ("a", "b"): 3, ("a", "c"): 4, ("a", "c", 0): 5, ("a", "c", 1): 6, ("a", "c", 1, "d"): 6}
    assert {keys: place.at(keys).line for keys in wanted} == wanted


def test_an_unknown_path_stands_where_its_surroundings_stand() -> None:
    place = parse_yaml("a:\n  b:\n    c: 1\n", "f.yaml").place
    assert str(place.problem(("a", "b", "missing", 3), "wrong")) == "f.yaml:2: wrong"


def test_an_override_hides_the_lines_below_it() -> None:
    place = parse_yaml("a:\n  b: {c: 1}\nd: 2\n", "f.yaml").place
    place.override(("a", "b"), "--set a.b=3")
    assert place.at(("a", "b", "c")).file == "--set a.b=3"
    assert (place.at(("a",)).line, place.at(("d",)).line) == (1, 3)


def test_all_duplicates_are_told_with_both_lines() -> None:
    file = parse_yaml("a: 1\nb: {c: 1, c: 2}\na: 2\ntrue: 1\nTrue: 2\n", "f.yaml")
    assert [str(problem) for problem in file.problems] == [
        "f.yaml:2: duplicate key 'c' (first on line 2)",
        "f.yaml:3: duplicate key 'a' (first on line 1)",
        "f.yaml:5: duplicate key 'True' (first on line 4)",
    ]
    assert file.data == {"a": 1, "b": {"c": 1}, True: 1}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("? [a]\n: 1", 1, "a key is text"),
        ("a: !python/object x", 1, "tag"),
        ("a: 1\nb: !x {c: 1}", 2, "tag"),
        ("a: !!int z", 1, "'z' is no int"),
        ("a: &x\n  - *x", 1, "inside its own anchor"),
        (f"a: {'9' * 5000}", 1, "is no int"),
    ],
)
def test_what_can_be_read_but_not_used(text: str, line: int, words: str) -> None:
    (problem,) = parse_yaml(text, "f.yaml").problems
    assert problem.line in (line, line + 1)
    assert words in problem.message


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [1", "f.yaml:1: ", "expected ','"),
        ("a: 1\nb: c: d", "f.yaml:2: ", "text that contains ': ' needs quotes"),
        ("a:\n\tb: 1", "f.yaml:2: ", "indent with spaces"),
        ("a: *unknown", "f.yaml:1: ", "undefined alias"),
        ("a: 1\n---\nb: 2", "f.yaml:2: ", "expected a single document"),
        ("a: 'open", "f.yaml:1: ", "quoted scalar"),
        ("a: \x00", "f.yaml: ", "no YAML"),
        ("[" * 2000, "f.yaml: ", "nested too deeply"),
    ],
)
def test_syntax_errors_have_a_line(text: str, place: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "f.yaml")
    assert str(caught.value).startswith(place)
    assert words in str(caught.value)


def test_aliases_are_copies() -> None:
    data = parse_yaml("a: &x {b: 1}\nc: *x", None).data
    data["a"]["b"] = 2
    assert data["c"] == {"b": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"- a\n- b\n", "found a list"),
        (b"text", "found only 'text'"),
        (b"\x89PNG\r\n\xff\xfe", "expected text in UTF-8"),
    ],
)
def test_files_that_are_no_mapping(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_yaml(path)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(path).data == {"a": 1}


def test_a_missing_file_names_the_one_meant(tmp_path: Path) -> None:
    (tmp_path / "nexus.yaml").write_text("a: 1")
    with pytest.raises(UserError, match=r"no such file \(did you mean '.*nexus\.yaml'\?\)"):
        read_yaml(tmp_path / "nexsu.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)


def test_a_place_without_a_file_says_nothing() -> None:
    assert str(Place().problem(("a",), "wrong", "do this")) == "wrong (do this)"
