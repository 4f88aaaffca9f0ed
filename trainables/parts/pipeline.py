"""A trained model on its way to a small one: pruned, trained again and quantised, in the order that is asked for."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import Tensor

from raysweep.trial import State, Trial
from trainables.parts import compressed
from trainables.parts.batches import in_parts
from trainables.parts.compression import CompressionConfig
from trainables.parts.encoders import Encoder, train_mode
from trainables.parts.losses import text_loss
from trainables.parts.packed import pack
from trainables.parts.pruning.removal import remove
from trainables.parts.pruning.session import Pruning
from trainables.parts.stages import Stage, StageProgress
from trainables.parts.state import arrays, tensors
from trainables.parts.text_inputs import TextInputs, scored, scores
from trainables.parts.text_model import TextModel
from trainables.parts.weights import Weights, overlay, weights_of


@dataclass(slots=True)
class Pipeline:
    """The stages of one model, what each of them left, and what is kept if training ends now.

    `score` tells how good the present weights are on select; `untrained` gives the weights before all training;
    `quantise` measures what is left of the score, and all that the quantised model costs. A stage for which there is
    nothing to do (no pruning, no quantising) passes, but trains its epochs: so does the control.
    """

    model: TextModel
    stages: tuple[Stage, ...]
    score: Callable[[], float]
    pruning: Pruning | None = None
    untrained: Callable[[], Weights] | None = None  # of a lottery ticket
    quantise: Callable[[TextModel], tuple[float, dict[str, float]]] | None = None
    patience: int = 0
    progress: StageProgress = field(default_factory=StageProgress)
    kept: Weights | None = None  # the best of the present stage
    pruned: Weights | None = None  # at the end of the stage that prunes
    finetuned: Weights | None = None  # at the end of fine-tuning, if pruning comes after it
    quantised: dict[str, float] = field(default_factory=dict)

    @property
    def stage(self) -> Stage | None:
        """The present one; None when all are over."""
        return self.stages[self.progress.over] if self.progress.over < len(self.stages) else None

    def begin(self) -> bool:
        """Before the first step: see `trained` for what it tells."""
        self.progress.note("dense", self.score())
        self._enter()
        return self._advance()

    def penalty(self) -> Tensor | None:
        """What pruning adds to the loss."""
        return self.pruning.penalty() if self.pruning and self._prunes() else None

    def before_step(self, step: int, count: int) -> None:
        """Gradients are there, of step `step` (from 0) of `count` in this epoch."""
        if self.pruning and self._prunes():
            self.pruning.before_step(self.progress.within * count + step)
        elif self.pruning:
            self.pruning.mask_gradients()

    def after_step(self) -> None:
        """The weights have changed; what is pruned stays zero."""
        if self.pruning:
            self.pruning.after_step()

    def trained(self, score: float) -> bool:
        """An epoch is over. True if the weights start afresh, so that the optimizer must forget them.

        Fine-tuning keeps its best epoch, the stage that prunes its last.
        """
        tunes = self.stage is not None and self.stage.name == "finetune"
        if self.progress.trained(score) and tunes:
            self.kept = weights_of(self.model)
        self.progress.select = self.progress.best if tunes else score
        return self._advance()

    def earlier(self, dense: Weights) -> dict[str, Weights]:
        """The weights before each stage, whose first began with `dense`; the same names whatever is pruned."""
        last = weights_of(self.model)
        named = {"pruned": self.pruned, "finetuned": self.finetuned}
        return {"dense": dense, **{name: last if weights is None else weights for name, weights in named.items()}}

    def finished(self) -> TextModel:
        """The model of this moment without the heads and neurons that are pruned: a smaller copy, if there are any."""
        kept = self.pruning.kept_units() if self.pruning else {}
        if not kept:
            return self.model
        small = copy.deepcopy(self.model)
        remove(small, small.encoder, kept)
        return small

    @property
    def left_whole(self) -> dict[str, int]:
        """Matrices that two_four leaves whole, and how many inputs they have; empty for other targets."""
        return self.pruning.skipped if self.pruning else {}

    def metrics(self) -> dict[str, float]:
        """What the report of an epoch says of the stages."""
        stages = {f"stage.{name}": score for name, score in self.progress.scores.items()}
        sparsity = self.pruning.report() if self.pruning else {}
        return {"select.score": self.progress.select, **stages, **sparsity}

    def state(self) -> State:
        """For a checkpoint; `restore` goes on from it."""
        return {
            "progress": self.progress.state(),
            "weights": arrays(weights_of(self.model)),
            "pruning": self.pruning.state() if self.pruning else {},
            "pruned": arrays(self.pruned or {}),
            "finetuned": arrays(self.finetuned or {}),
            "kept": arrays(self.kept or {}),
        }

    def restore(self, state: State) -> None:
        self.progress = StageProgress(**state["progress"])
        overlay(self.model, tensors(state["weights"]))
        if self.pruning:
            self.pruning.restore(state["pruning"])
        earlier = (tensors(state[name]) or None for name in ("kept", "pruned", "finetuned"))
        self.kept, self.pruned, self.finetuned = earlier

    def _prunes(self) -> bool:
        return self.stage is not None and self.stage.name == "prune"

    def _advance(self) -> bool:
        """End the present stage if it is over, and every next one that has no epochs."""
        afresh = False
        while self.stage is not None and self.progress.ended(self.stage, self.patience):
            ends = {"prune": self._end_pruning, "finetune": self._end_finetuning, "quantise": self._quantise}
            ends[self.stage.name]()
            afresh |= self._prunes() and self.untrained is not None
            self.progress.next_stage()
            self._enter()
        return afresh

    def _enter(self) -> None:
        if self.pruning and self._prunes():
            self.pruning.start()

    def _end_pruning(self) -> None:
        """From here on the target is met. A lottery ticket starts again as it was before all training."""
        if self.pruning is not None:
            self.pruning.complete()
        self.pruned = weights_of(self.model)
        self.progress.note("pruned", self.score())
        if self.untrained is not None:
            overlay(self.model, self.untrained())
            self.after_step()

    def _end_finetuning(self) -> None:
        """Go on with the best epoch's weights."""
        if self.kept is not None:
            overlay(self.model, self.kept)
            self.progress.note("finetuned", self.progress.best)
            self.kept = None
        if "prune" in [stage.name for stage in self.stages[self.progress.over :]]:
            self.finetuned = weights_of(self.model)
        if self.pruning is not None:
            self.pruning.check_held()

    def _quantise(self) -> None:
        if self.quantise is not None:
            score, self.quantised = self.quantise(self.finished())
            self.progress.note("quantised", score)


def new_pipeline(
    trial: Trial,
    encoder: Encoder,
    model: TextModel,
    train: TextInputs,
    select: TextInputs,
    untrained: Callable[[], Weights],
) -> Pipeline:
    """What shall become of `model`, which has the dense weights."""
    config: CompressionConfig = trial.config
    pruning = quantise = None
    if config.pruning.on:
        epochs = sum(stage.epochs for stage in config.plan if stage.name == "prune")
        steps = epochs * -(-len(train.lengths) // config.train.batch_size)
        losses = partial(calibration_losses, trial, model, train)
        pruning = Pruning(config.pruning, config.regulariser, model, steps, trial.seed, losses)
    if config.quantise.kind != "none":
        quantise = partial(quantised, trial, encoder, train, select)

    def score() -> float:
        return scores(scored(model, select, compressed.PREDICTED, trial.device))["score"]

    rewound = untrained if config.pruning.rewind else None
    return Pipeline(model, config.plan, score, pruning, rewound, quantise, config.train.patience)


def calibration_losses(trial: Trial, model: TextModel, train: TextInputs) -> Iterator[Tensor]:
    """The loss of each batch of the texts that importance looks at, the same ones at all times; in eval mode."""
    config: CompressionConfig = trial.config
    count = min(config.pruning.calibration_rows, len(train.lengths))
    chosen = np.random.default_rng(trial.seed).choice(len(train.lengths), count, replace=False)
    model.eval()
    for rows in in_parts(chosen, max(1, config.train.batch_size // trial.accumulate)):
        texts = pack(train.tokens, rows, trial.device)
        yield text_loss(train.task.kind, model(texts), train.targets[rows], texts)
    train_mode(model)


def quantised(
    trial: Trial, encoder: Encoder, train: TextInputs, select: TextInputs, model: TextModel
) -> tuple[float, dict[str, float]]:
    """The score on select of a model in fewer bits, and what that model costs."""
    with TemporaryDirectory() as place:
        folder = Path(place, "model")
        compressed.save(trial, model, encoder, train, folder)
        found = compressed.answers(trial, model, folder, select)
        return scores(found)["score"], compressed.quantised_costs(model, encoder, folder, select, trial.threads)
