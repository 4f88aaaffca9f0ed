"""A small model that grows dendrites in a loop such as a recipe has, over scores that are given.

`python -m tests.growing BACKEND FOLDER` goes on from FOLDER/state in a process of its own, into FOLDER/result.
"""

import pickle
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from raysweep.trial import State
from trainables.parts import optim
from trainables.parts.dendrites.growth import Growth, start_growth
from trainables.parts.dendrites.settings import DendriteSettings
from trainables.parts.state import arrays, random_state, set_random_state

# With patience 2, two dendrites and two tries: grows after 5, 9 and, because the second dendrite did not help, 13; the
# best are the models of epochs 3, 7, 7 and, at the end after 17, 15. No first score of a growth is the best after it,
# so perforatedai, which leaves those out, does the same.
SCORES = [1, 2, 3, 3, 3, 2, 4, 4, 4, 1, 2, 2, 2, 1, 5, 5, 5]
GROWN = {5: 1, 9: 2, 13: 2}
BEST = {5: 3, 9: 7, 13: 7, 17: 15}


def chosen(**given):
    return DendriteSettings.model_validate({"enabled": True, "patience": 2} | given)


class Net(nn.Module):
    """An encoder with statistics and dropout, and a head that grows."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.1))
        self.head = nn.ModuleDict({"linear": nn.Linear(5, 3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head["linear"](self.encoder(x))
        return y


class Training:
    """A loop as a recipe has it, but with `SCORES`. `trace` keeps what each epoch did."""

    def __init__(self, backend: str, folder: Path, seed: int = 0, **given: object) -> None:
        self.model = Net(seed)
        settings = chosen(backend=backend, init_scale=0.3, **given)
        self.growth: Growth = start_growth(settings, self.model, ["head.linear"], 5, folder)
        self.optimizer, self.epoch, self.trace = self.fresh(), 0, []
        rng = np.random.default_rng(0)
        self.x = torch.from_numpy(rng.normal(size=(48, 6)).astype(np.float32))
        self.y = torch.from_numpy(rng.integers(0, 3, 48))

    def fresh(self) -> torch.optim.Optimizer:
        added = self.growth.added()
        return optim.adamw(self.model, 0.03, 0.01, lambda name: 2.0 if name in added else 1.0)

    def run_epoch(self) -> str:
        for rows in torch.randperm(48).split(16):
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(self.x[rows]), self.y[rows]).backward()
            self.optimizer.step()
        loss = nn.functional.cross_entropy(self.outputs(), self.y).item()
        action = self.growth.report(SCORES[self.epoch])
        self.epoch += 1
        if action == "grown":
            old, self.optimizer = self.optimizer, self.fresh()
            optim.carry_over(old, self.optimizer, self.growth.newest())
        self.trace.append((loss, action, self.growth.dendrites, self.growth.parameters()))
        return action

    @torch.no_grad()
    def outputs(self) -> torch.Tensor:
        self.model.eval()
        y: torch.Tensor = self.model(self.x)
        self.model.train()
        return y

    def run(self, epochs: int = len(SCORES)) -> "Training":
        while self.epoch < epochs:
            self.run_epoch()
        return self

    def state(self) -> State:
        state = {"growth": self.growth.state(), "optimizer": optim.state(self.optimizer), "random": random_state()}
        stored: State = pickle.loads(pickle.dumps(arrays(state)))
        return stored | {"epoch": self.epoch}

    def restore(self, state: State) -> "Training":
        self.growth.restore(state["growth"])
        self.optimizer = self.fresh()
        optim.restore(self.optimizer, state["optimizer"])
        self.epoch = state["epoch"]
        set_random_state(state["random"])
        return self


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def main(backend: str, folder: Path) -> None:
    torch.set_num_threads(1)
    again = Training(backend, folder / "again", seed=99).restore(pickle.loads((folder / "state").read_bytes())).run()
    (folder / "result").write_bytes(pickle.dumps((again.trace, weights(again.growth.plain()))))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
