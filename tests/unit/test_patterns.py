"""A star of a dotted name stands for one name, and hints show names and not stars."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.patterns import fit, suggested
from raysweep.recipe import reports

METRICS = ["select.score", "select.*.score", "select.mean.score", "epoch.*.*", "train.loss"]
NAMES = st.lists(st.text("abc*._-", min_size=1, max_size=4), min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("select.score", ("select.score", ())),
        ("select.topic.score", ("select.*.score", ("topic",))),
        ("select.mean.score", ("select.mean.score", ())),
        ("epoch.topic.f1", ("epoch.*.*", ("topic", "f1"))),
        ("select.a.b.score", None),
        ("select..score", None),
        ("select.*.score", None),
        ("score", None),
        ("", None),
    ],
)
def test_a_star_is_one_name_and_a_plain_pattern_comes_first(name: str, found: Any) -> None:
    assert fit(METRICS, name) == found
    assert fit(reversed(METRICS), name) == found
    assert reports(SimpleNamespace(METRICS=dict.fromkeys(METRICS, "")), name) is (found is not None)  # type: ignore[arg-type]


@given(NAMES, st.integers(0, 15))
def test_a_name_fits_itself_with_stars_if_its_parts_are_names(name: str, hidden: int) -> None:
    parts = name.split(".")
    pattern = ".".join("*" if hidden >> at & 1 else part for at, part in enumerate(parts))
    found = fit([pattern], name)
    if all(parts) and "*" not in parts:
        assert found == (pattern, tuple(part for at, part in enumerate(parts) if hidden >> at & 1))
    else:
        assert found is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("select.topic.scoer", "did you mean 'select.topic.score'?"),
        ("selct.topic.score", "did you mean 'select.topic.score'?"),
        ("select.scoer", "did you mean 'select.score'?"),
        ("select.topic.deep.score", "did you mean 'select.topic.score'?"),
        ("train.los", "did you mean 'train.loss'?"),
        ("select.*.score", "put a name in place of the star"),
        ("zzz", "known: epoch.*.*, select.*.score, select.mean.score, select.score, train.loss"),
    ],
)
def test_hints_keep_the_names_that_were_given(name: str, hint: str) -> None:
    assert suggested(name, METRICS) == hint


def test_a_name_that_ends_at_the_star_is_shown_what_could_follow() -> None:
    assert suggested("tasks.weight", ["tasks.*.weight", "train.lr"]) == "did you mean 'tasks.*.weight'?"
