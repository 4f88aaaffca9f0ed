"""Dense weights of a sweep: made once, shared between processes, whole whatever is killed or left behind."""

import multiprocessing
import os
import signal
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainables.parts.dense_cache import stored_weights

FORK = multiprocessing.get_context("fork")
KEY = {"encoder": "abc", "train": {"lr": 2e-5, "epochs": 3}, "seed": 1}


def weights(value: float = 1.0) -> dict[str, Tensor]:
    return {"layer.weight": torch.full((3, 2), value), "count": torch.tensor(7), "odd": torch.tensor([-0.0, torch.nan])}


def never() -> dict[str, Tensor]:
    raise AssertionError("there are weights of this key")


def trial(shared: Path, seconds: float, told: "Queue[str]") -> None:
    """A trial that takes its time to train the dense model."""

    def make() -> dict[str, Tensor]:
        told.put("begun")
        time.sleep(seconds)
        return weights(os.getpid())

    told.put(f"read {stored_weights(shared, KEY, make)['layer.weight'][0, 0]:g}")


def start(shared: Path, seconds: float) -> tuple[Any, "Queue[str]"]:
    told: Queue[str] = FORK.Queue()
    process = FORK.Process(target=trial, args=(shared, seconds, told), daemon=True)
    process.start()
    return process, told


def test_weights_are_made_once_and_come_back(tmp_path: Path) -> None:
    first = stored_weights(tmp_path / "shared", KEY, weights)
    for found in (first, stored_weights(tmp_path / "shared", KEY, never)):
        assert {name: tensor.dtype for name, tensor in found.items()} == {
            "layer.weight": torch.float32, "count": torch.int64, "odd": torch.float32
        }  # fmt: skip
        assert found["layer.weight"].tolist() == [[1, 1]] * 3
        assert found["count"].item() == 7
        assert torch.equal(found["odd"].view(torch.int32), weights()["odd"].view(torch.int32))


def test_other_keys_have_weights_of_their_own_and_order_does_not_matter(tmp_path: Path) -> None:
    others = [KEY, KEY | {"seed": 2}, KEY | {"seed": "1"}, KEY | {"train": {"lr": 3e-5, "epochs": 3}}]
    for value, key in enumerate(others):
        stored_weights(tmp_path, key, lambda: weights(value))  # noqa: B023
    found = [stored_weights(tmp_path, dict(reversed(key.items())), never)["layer.weight"][0, 0] for key in others]
    assert found == [0, 1, 2, 3]
    assert not list(tmp_path.glob("*.part"))


def test_a_file_tells_whose_weights_it_holds(tmp_path: Path) -> None:
    stored_weights(tmp_path, {"seed": 1, "lr": 0.5}, weights)
    (file,) = tmp_path.glob("dense-*.safetensors")
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"key": '{"lr": 0.5, "seed": 1}'}


def test_a_trial_cannot_change_them(tmp_path: Path) -> None:
    stored_weights(tmp_path, KEY, weights)["layer.weight"].zero_()
    assert stored_weights(tmp_path, KEY, never)["layer.weight"].sum() == 6


def test_weights_that_still_learn_or_lie_crosswise_are_stored_too(tmp_path: Path) -> None:
    learnt = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    found = stored_weights(tmp_path, KEY, lambda: {"a": learnt, "b": learnt.detach().clone().T})
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert not found["a"].requires_grad


def test_a_training_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> dict[str, Tensor]:
        raise MemoryError

    with pytest.raises(MemoryError):
        stored_weights(tmp_path, KEY, failing)
    assert stored_weights(tmp_path, KEY, weights)["count"] == 7


@pytest.mark.parametrize("left", [b"half", b"\xff" * 100_000], ids=["short", "long"])
def test_what_a_killed_process_left_is_written_over(tmp_path: Path, left: bytes) -> None:
    stored_weights(tmp_path, KEY, weights)
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    file.unlink()
    file.with_suffix(".part").write_bytes(left)
    stored_weights(tmp_path, KEY, weights)
    assert file.read_bytes() == whole
    assert not file.with_suffix(".part").exists()


def test_half_of_a_file_is_never_read(tmp_path: Path) -> None:
    """While one trial writes, another one asks."""
    seen = []

    def make() -> dict[str, Tensor]:
        seen.append([path.suffix for path in tmp_path.iterdir()])
        return weights()

    stored_weights(tmp_path, KEY, make)
    assert seen == [[".lock"]]
    (file,) = tmp_path.glob("*.safetensors")
    save_file(weights(5.0), file.with_suffix(".part"))
    assert stored_weights(tmp_path, KEY, never)["layer.weight"][0, 0] == 1


def test_one_process_is_killed_at_work_and_the_other_one_finishes(tmp_path: Path) -> None:
    killed, at_work = start(tmp_path, 600)
    assert at_work.get(timeout=60) == "begun"
    waiting, finished = start(tmp_path, 0)
    time.sleep(0.2)  # lets it come to the lock; the outcome is the same if it does not
    assert finished.empty()
    assert not list(tmp_path.glob("*.safetensors"))
    os.kill(killed.pid, signal.SIGKILL)
    assert [finished.get(timeout=60), finished.get(timeout=60)] == ["begun", f"read {waiting.pid}"]
    waiting.join(timeout=60)
    killed.join(timeout=60)
    assert stored_weights(tmp_path, KEY, never)["layer.weight"][0, 0] == waiting.pid


def test_processes_at_once_train_once(tmp_path: Path) -> None:
    started = [start(tmp_path, 0.2) for _ in range(3)]
    for process, _ in started:
        process.join(timeout=60)
    said = sorted(told.get(timeout=60) for _, told in started)
    assert said[0] == "begun"
    assert len(set(said[1:])) == 1
    assert int(said[1].removeprefix("read ")) in [process.pid for process, _ in started]
