"""Small random text models, batches and training steps, as the tests of pruning use them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.text_models import moved, random_model
from trainables.parts import optim, synthetic
from trainables.parts.batches import Tokenised
from trainables.parts.packed import Packed, pack
from trainables.parts.pruning.importance import Losses
from trainables.parts.pruning.masks import unpacked
from trainables.parts.pruning.session import Pruning
from trainables.parts.pruning.settings import PruningSettings, RegulariserSettings
from trainables.parts.text_model import Shape, TextModel, start_head

LENGTHS = [3, 7, 5, 4]
RISING = {"epochs": 1, "schedule": "cubic", "every": 2, "begin": 0.1, "end": 0.8}
TOTAL = 8  # steps of the stage that prunes, where it trains


def text_model(kind: str = "bert", **changes: Any) -> TextModel:
    """Two layers of four heads and 24 neurons, on states of 16 numbers, in eval mode."""
    inner = {"distilbert": "hidden_dim", "gpt2": "n_inner"}.get(kind, "intermediate_size")
    encoder = random_model(kind, synthetic.tokenizer(), **{"num_attention_heads": 4, inner: 24} | changes)
    model = TextModel(encoder, Shape(3))
    start_head(model, 0, None)
    moved(model, 0.2)
    return model.eval()


def texts(seed: int = 0) -> Packed:
    """Four texts of different lengths."""
    lengths = np.array(LENGTHS)
    ids = np.random.default_rng(seed).integers(5, 40, lengths.sum())
    return pack(Tokenised(ids, np.cumsum(lengths) - lengths, lengths, 0, None), np.arange(len(lengths)))


def loss_of(model: TextModel, seed: int = 0) -> Tensor:
    return torch.nn.functional.cross_entropy(model(texts(seed)), torch.tensor([0, 1, 2, seed % 3]))


def losses_of(model: TextModel, batches: int = 2) -> Losses:
    """The calibration of a model that is left as it is."""

    def losses() -> Iterator[Tensor]:
        training = model.training
        model.eval()
        for seed in range(batches):
            yield loss_of(model, seed)
        model.train(training)

    return losses


class Session:
    """A model that is pruned while AdamW trains it, with momentum, weight decay and dropout."""

    def __init__(
        self, settings: PruningSettings, total: int, kind: str = "bert", regulariser: str = "none", **changes: Any
    ) -> None:
        self.model, self.total = text_model(kind, **changes), total
        self.optimizer = optim.adamw(self.model, 3e-3, weight_decay=0.1)
        chosen = RegulariserSettings.model_validate({"kind": regulariser})
        self.pruning = Pruning(settings, chosen, self.model, total, 7, losses_of(self.model))

    def run(self) -> "Session":
        """The whole stage that prunes."""
        self.pruning.start()
        for step in range(self.total):
            self.step(step)
        self.pruning.complete()
        return self

    def step(self, step: int) -> None:
        """One step of the stage that prunes."""
        penalty = self._backward(step, self.pruning.penalty())
        assert penalty is None or bool(penalty >= 0)
        self.pruning.before_step(step)
        self._update()

    def finetune(self, steps: int) -> None:
        """Steps of a later stage."""
        for step in range(steps):
            self._backward(100 + step, None)
            self.pruning.mask_gradients()
            self._update()

    def _backward(self, step: int, penalty: Tensor | None) -> Tensor | None:
        torch.manual_seed(step)
        self.model.train()
        loss = loss_of(self.model, step)
        (loss if penalty is None else loss + penalty).backward()  # type: ignore[no-untyped-call]
        return penalty

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.pruning.after_step()

    def state(self) -> dict[str, Any]:
        """Of model, optimizer and pruning, as a checkpoint has it."""
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        return {"weights": weights, "optimizer": optim.state(self.optimizer), "pruning": self.pruning.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["weights"])
        optim.restore(self.optimizer, state["optimizer"])
        self.pruning.restore(state["pruning"])


def kept_weights(model: TextModel, pruning: Pruning) -> dict[str, Tensor]:
    """The single weights that stay, as a checkpoint has them: bool by the name of their matrix."""
    return unpacked(pruning.state()["kept"]["weights"], dict(model.named_parameters()))


def given_settings(target: str, **changes: Any) -> PruningSettings:
    return PruningSettings.model_validate({"target": target, **changes})


def at_once(chosen: PruningSettings, kind: str = "bert", **changes: Any) -> tuple[TextModel, Pruning]:
    """A model pruned without training."""
    model = text_model(kind, **changes)
    pruning = Pruning(chosen, RegulariserSettings(), model, 0, 3, losses_of(model))
    pruning.start()
    pruning.complete()
    return model, pruning
