"""What trackers are told of a proof: scores, further scores, comparisons with the remaining error."""

from typing import Any

from raysweep.track.pages import comparison, confirmed_page
from raysweep.track.updates import Story

OTHER = {"statistic": "accuracy", "mean": 0.7, "low": 0.6, "high": 0.8, "per_seed": [0.7]}
ROW = {"arm": "finalist-1", "against": "plain", "difference": 0.02, "low": -0.01, "high": 0.05, "p_holm": 0.3}


def confirmed(**changes: Any) -> dict[str, Any]:
    arm = {"arm": "finalist-1", "mean": 0.8, "low": 0.7, "high": 0.9, "seeds": [1, 2], "metric": "f1", **changes}
    return {"kind": "confirmed", "arms": [arm], "comparisons": [], "winner": "finalist-1"}


def test_a_comparison_tells_the_remaining_error_where_there_is_one() -> None:
    error = {"value": 0.1, "low": -0.05, "high": 0.25}
    said = comparison({**ROW, "verdict": "not distinguishable", "error_reduction": error})
    assert "remaining error -10 % (-25 to +5 %)" in said
    for row in ({**ROW, "error_reduction": None}, ROW):
        assert "remaining error" not in comparison({**row, "verdict": "better"})


def test_further_scores_have_a_table_and_are_logged() -> None:
    record = confirmed(others={"validation_mismatched": OTHER})
    assert "| finalist-1 | validation_mismatched: accuracy | 0.7 | 0.6 to 0.8 |" in confirmed_page(record)
    assert "further score" not in confirmed_page(confirmed())
    story = Story()
    story.sweep = {"name": "s", "recipe": "toy", "spec": {}}
    (update,) = story._confirmed(record, 1.0)
    values = {point.name: point.value for point in update.summary}
    assert values["confirmed/finalist-1/mean"] == 0.8
    assert values["confirmed/finalist-1/validation_mismatched/high"] == 0.8
