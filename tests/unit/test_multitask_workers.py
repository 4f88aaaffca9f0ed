"""Two real processes that train one multi-task trial end with the weights that one process finds."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from raysweep.trial import World
from tests.multitask_runs import TURNS, Flat, Watched, flat_of, precise, prepare, trial_of, weights_of
from trainables import multitask

# Of 17 rows in batches of 8, one process of two has none of the last batch.
TASKS = ("mood", "sense", "likeness")
CASES: dict[str, Flat] = {
    "fixed": {"train.grad_clip": 0.5, "tasks.mood.weight": 2.0, "sampling.kind": "sqrt"},
    "pcgrad": TURNS | {"balance.kind": "pcgrad"},
    "gradnorm": TURNS | {"balance.kind": "gradnorm"},
    "uncertainty": {"balance.kind": "uncertainty", "sharing": "none"},
    "gradual": {"freezing.kind": "gradual", "train.schedule": "linear"},
    "gradual pcgrad": TURNS | {"balance.kind": "pcgrad", "freezing.kind": "gradual", "freezing.keep_bottom": 1},
}


def trained(case: str, place: Path, folder: Path, world: World) -> dict[str, Any]:
    """The weights after each epoch, and what was told of it."""
    with pytest.MonkeyPatch.context() as patch:
        precise(patch)
        watched, weights, told = Watched(patch), [], []
        for report in multitask.train(trial_of(folder, flat_of(place, *TASKS) | CASES[case], world=world)):
            weights.append(weights_of(watched.runs[0]))
            told.append({name: number for name, number in report.metrics.items() if not name.startswith("time.")})
    return {"weights": weights, "told": told, "start": watched.starts[0]}


def work(rank: int, place: Path, folder: Path) -> dict[str, Any]:
    """One of two processes, from its entry into the group to its leave: what it trained."""
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(minutes=2))
    try:
        return {case: trained(case, place, folder, World(rank, 2)) for case in CASES}
    finally:
        distributed.destroy_process_group()


def other(_: int, place: Path, folder: Path) -> None:
    """The process beside this one."""
    torch.save(work(1, place, folder), folder / "other.pt")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("workers")
    prepare(path)
    return path


@pytest.fixture(scope="module")
def pair(place: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found, this one and one beside it."""
    folder = tmp_path_factory.mktemp("pair")
    beside = torch.multiprocessing.spawn(other, (place, folder), nprocs=1, join=False)  # type: ignore[no-untyped-call]
    try:
        here = work(0, place, folder)
    finally:
        beside.join()  # which tells what went wrong there
    return [here, torch.load(folder / "other.pt")]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_the_weights_that_one_trains(
    pair: list[dict[str, Any]], case: str, place: Path, tmp_path: Path
) -> None:
    alone = trained(case, place, tmp_path, World())
    for found in pair:
        torch.testing.assert_close(found[case]["weights"], alone["weights"], rtol=0, atol=1e-9)
        for told, expected in zip(found[case]["told"], alone["told"], strict=True):
            assert told == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert len(alone["weights"]) == 3
    moved = [name for name, weight in alone["weights"][-1].items() if not weight.equal(alone["start"][name])]
    assert any(name.startswith("towers.") for name in moved)
    assert any(name.startswith("heads.") for name in moved)


@pytest.mark.parametrize("case", CASES)
def test_both_processes_hold_the_same_model(pair: list[dict[str, Any]], case: str) -> None:
    one, other = (found[case] for found in pair)
    torch.testing.assert_close(one["weights"], other["weights"], rtol=0, atol=0)
    assert one["told"] == other["told"]
