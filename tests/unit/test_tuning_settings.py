"""What was given and has no effect is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from trainables.parts.tuning.settings import TuningSettings

GIVEN: dict[str, Any] = {"rank": 8, "scale": 1.0, "dropout": 0.0, "targets": "all"}


@pytest.mark.parametrize("kind", ["full", "head_only"])
@pytest.mark.parametrize("name", GIVEN)
def test_what_is_of_lora_alone_is_refused_for_others_even_as_its_default(kind: Any, name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} has no effect with kind '{kind}'"):
        TuningSettings(kind=kind, **{name: GIVEN[name]})
    assert TuningSettings(kind="lora", **{name: GIVEN[name]}).kind == "lora"


def test_all_of_them_are_named_at_once() -> None:
    with pytest.raises(ValidationError, match="rank, scale, dropout, targets have no effect with kind 'full'"):
        TuningSettings(**GIVEN)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"rank": 257}, {"scale": 0}, {"dropout": 1}, {"targets": "heads"}])
def test_values_beyond_their_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TuningSettings(kind="lora", **wrong)
