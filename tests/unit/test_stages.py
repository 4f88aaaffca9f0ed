"""The order of stages, and how far a trial is in them."""

import json
from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.parts.stages import Stage, StageProgress, check_order, stages_of


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("prune tune", "has tune; expected some of: prune finetune quantise"),
        ("", "must name at least one stage"),
        ("prune finetune prune", "each only once"),
        ("quantise finetune", "quantise must come last, for int8 weights are not trained or pruned"),
    ],
)
def test_an_order_that_cannot_be_is_refused_in_words(order: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_order(order)


@pytest.mark.parametrize("order", ["prune finetune quantise", "finetune prune quantise", "finetune", "quantise"])
def test_an_order_that_can_be_is_kept(order: str) -> None:
    assert check_order(order) == order
    assert " ".join(stage.name for stage in stages_of(order, 1, 1)) == order


def test_each_stage_has_its_own_epochs_and_quantising_none() -> None:
    wanted = (Stage("finetune", 3), Stage("prune", 2), Stage("quantise", 0))
    assert stages_of("finetune prune quantise", 2, 3) == wanted
    assert stages_of("prune", 2, 3) == (Stage("prune", 2),)


@given(score=st.lists(st.floats(0, 1), min_size=1, max_size=12), prune=st.integers(0, 5), finetune=st.integers(0, 5))
def test_without_patience_all_epochs_are_trained(score: list[float], prune: int, finetune: int) -> None:
    progress, found = StageProgress(), {"prune": 0, "finetune": 0}
    for stage in stages_of("prune finetune", prune, finetune):
        while not progress.ended(stage, patience=0):
            progress.trained(score[progress.epoch % len(score)])
            found[stage.name] += 1
        progress.next_stage()
    assert found == {"prune": prune, "finetune": finetune}
    assert (progress.epoch, progress.over, progress.within) == (prune + finetune, 2, 0)


def test_patience_counts_epochs_without_a_better_score_while_fine_tuning_alone() -> None:
    progress = StageProgress()
    assert [progress.trained(score) for score in (0.5, 0.5, 0.6, 0.4)] == [True, False, True, False]
    assert progress.best == 0.6
    assert not progress.ended(Stage("finetune", 9), patience=2)
    progress.trained(0.3)
    assert progress.ended(Stage("finetune", 9), patience=2)
    assert not progress.ended(Stage("finetune", 9), patience=0)
    assert not progress.ended(Stage("prune", 9), patience=2)


def test_what_was_best_in_one_stage_is_nothing_in_the_next() -> None:
    progress = StageProgress()
    progress.trained(0.9)
    progress.trained(0.1)
    progress.next_stage()
    assert isnan(progress.best)
    assert progress.trained(0.2)
    assert (progress.best, progress.waited, progress.within, progress.epoch) == (0.2, 0, 1, 3)


def test_a_note_is_the_score_of_what_is_kept_and_all_goes_into_a_checkpoint() -> None:
    progress = StageProgress()
    progress.note("dense", 0.8)
    progress.note("pruned", 0.6)
    progress.trained(0.7)
    assert progress.scores == {"dense": 0.8, "pruned": 0.6}
    assert progress.select == 0.6
    assert StageProgress(**json.loads(json.dumps(progress.state()))) == progress
