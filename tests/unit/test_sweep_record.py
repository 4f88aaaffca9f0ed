"""A sweep taken up again: spec and space from the journal's record are those of the file."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.problems import UserError
from raysweep.spec import SweepSpec
from raysweep.sweep_file import sweep_from_record
from tests.toy_sweep import GOOD, known, load


def test_the_journals_record_gives_the_same_sweep() -> None:
    sweep = load(GOOD, "space.flag={choice: {true: {train.limit: 3}, false: {}}}", "space.train.schedule=linear")
    record = json.loads(json.dumps(sweep.spec.model_dump(by_alias=True)))
    with known():
        spec, space = sweep_from_record(record)
    assert spec.model_dump(by_alias=True) == record
    assert spec.references == sweep.spec.references
    assert [setting.name for setting in space.settings] == [setting.name for setting in sweep.space.settings]
    assert [setting.domain for setting in space.settings] == [setting.domain for setting in sweep.space.settings]


def test_a_record_that_the_recipe_no_longer_suits() -> None:
    record = load(GOOD).spec.model_dump(by_alias=True)
    with known(), pytest.raises(UserError, match=r"journal.jsonl: unknown setting 'train.gone'"):
        sweep_from_record(record | {"space": {"train.gone": 1}})
    with pytest.raises(UserError, match=r"journal.jsonl: unknown key 'bugdet'"):
        sweep_from_record(record | {"bugdet": 1})


BLOCKS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**40),
        "description": st.text(),
        "searcher": st.fixed_dictionaries(
            {"type": st.sampled_from(["tpe", "random"]), "startup_trials": st.integers(1, 50)}
        ),
        "scheduler": st.fixed_dictionaries(
            {"min": st.integers(1, 3), "max": st.integers(3, 9), "eta": st.integers(2, 4)}
        ),
        "budget": st.fixed_dictionaries({"wall_minutes": st.none() | st.floats(0.1, 1e6)}),
        "confirm": st.fixed_dictionaries({"seeds": st.lists(st.integers(), min_size=1, max_size=4, unique=True)}),
        "space": st.dictionaries(st.text(), st.floats(allow_nan=False) | st.none() | st.lists(st.text()), max_size=3),
    }
)


@given(BLOCKS)
@settings(max_examples=50)
def test_a_spec_survives_the_journal(blocks: dict[str, Any]) -> None:
    spec = SweepSpec.model_validate({"name": "a", "recipe": "toy", "objectives": [{"metric": "loss"}], **blocks})
    assert SweepSpec.model_validate(json.loads(json.dumps(spec.model_dump(by_alias=True)))) == spec
