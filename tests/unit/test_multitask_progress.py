"""Which weights of a multi-task trial are kept, when patience ends, and that a checkpoint holds all of it."""

from math import nan
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from raysweep.engine import checkpoint
from trainables.parts.multitask.progress import Progress, restored
from trainables.parts.weights import learning, overlay

SCORES = st.lists(st.one_of(st.just(nan), st.integers(-3, 3).map(float)), min_size=1, max_size=8)


class Net(nn.Module):
    """One number that learns, one that is frozen, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.frozen = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1), requires_grad=False)
        self.register_buffer("place", torch.zeros(1))


def judged(scores: list[float], progress: Progress | None = None) -> Progress:
    """What has come of these scores, the weights of each epoch being its number."""
    progress, net = progress or Progress(), Net()
    for score in scores:
        net.open.data.fill_(progress.epoch)
        progress.judge(score, {"topic": score, "mood": -score}, score / 2, net)
        progress.epoch += 1
    return progress


def best_of(scores: list[float]) -> int:
    """The first of the best ones that are numbers, or of all if none is."""
    return int(np.nanargmax(scores)) if not np.isnan(scores).all() else 0


@given(scores=SCORES)
def test_the_first_of_the_best_weights_are_kept(scores: list[float]) -> None:
    progress, best = judged(scores), best_of(scores)
    assert {name: weight.item() for name, weight in progress.kept.items()} == {"open": best}
    told = [progress.score, progress.scores["topic"], -progress.scores["mood"], 2 * (progress.probe or 0)]
    assert np.array_equal(told, [scores[best]] * 4, equal_nan=True)
    assert progress.waited == len(scores) - 1 - best


@given(scores=SCORES)
def test_each_task_has_its_own_best(scores: list[float]) -> None:
    numbers = [score for score in scores if score == score]
    expected = {"topic": max(numbers), "mood": -min(numbers)} if numbers else {}
    assert judged(scores).best == expected


def test_the_weights_that_are_kept_are_copies() -> None:
    net, progress = Net(), Progress()
    progress.judge(0.5, {"topic": 0.5}, None, net)
    net.open.data.fill_(7)
    assert progress.kept["open"].item() == 0


@pytest.mark.parametrize(
    ("scores", "patience", "over"),
    [
        ([0.5, 0.4], 1, True),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.6], 1, False),
        ([0.5, 0.4], 2, False),
        ([0.5, 0.4, nan], 2, True),
        ([nan, nan, nan], 2, True),
        ([nan, 0.1, nan], 2, False),
        ([0.5, 0.4, 0.3, 0.2], 0, False),
        ([], 1, False),
    ],
)
def test_patience_ends_with_so_many_epochs_without_a_better_score(
    scores: list[float], patience: int, over: bool
) -> None:
    assert judged(scores).over(9, patience) == over


def test_a_trial_is_over_after_its_epochs() -> None:
    assert [judged([0.1] * epochs).over(2, 0) for epochs in range(4)] == [False, False, True, True]
    assert Progress().over(0, 0)


def test_metrics_are_those_of_the_kept_weights_and_the_best_of_each_task() -> None:
    progress = judged([0.5, 0.75, 0.25])
    progress.seconds = 3.0
    told = {"select.score": 0.75, "select.topic.score": 0.75, "select.mood.score": -0.75, "select.probe": 0.375}
    assert progress.metrics() == told | {"best.topic.score": 0.75, "best.mood.score": -0.25, "time.train_seconds": 3.0}
    progress.probe = None
    assert "select.probe" not in progress.metrics()


@settings(deadline=None)
@given(scores=SCORES, cut=st.integers(0, 8))
def test_a_progress_goes_on_from_a_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], cut: int
) -> None:
    file = tmp_path_factory.getbasetemp() / checkpoint.FILE
    checkpoint.save(judged(scores[:cut]).state(), file)
    resumed, whole = judged(scores[cut:], restored(checkpoint.load(file))), judged(scores)
    assert_same(resumed, whole)
    assert (resumed.kept.keys(), resumed.epoch) == (whole.kept.keys(), len(scores))
    assert all(weight.equal(whole.kept[name]) for name, weight in resumed.kept.items())


def assert_same(one: Progress, other: Progress) -> None:
    """All but the weights."""
    for name in ("epoch", "waited", "seconds", "score", "probe", "scores", "best"):
        left, right = (plain(getattr(each, name)) for each in (one, other))
        np.testing.assert_equal(left, right)


def plain(value: Any) -> Any:
    return nan if value is None else value


def test_what_is_frozen_is_in_no_copy() -> None:
    net = Net()
    assert list(learning(net)) == ["open"]
    net.frozen.requires_grad_(True)
    assert list(learning(net)) == ["open", "frozen"]


def test_weights_are_put_back_in_place_and_nothing_else_changes() -> None:
    net = Net()
    net.open.data.fill_(5)
    net.frozen.data.fill_(6)
    taken, target = learning(net), Net()
    places = [weight.data_ptr() for weight in target.parameters()]
    overlay(target, taken)
    assert {name: weight.item() for name, weight in target.state_dict().items()} == {"open": 5, "frozen": 0, "place": 0}
    assert [weight.data_ptr() for weight in target.parameters()] == places
    assert target.open.requires_grad
    assert not target.frozen.requires_grad
    with pytest.raises(KeyError):
        overlay(target, {"unknown": torch.zeros(1)})
