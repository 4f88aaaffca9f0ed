"""Project NEXUS: an encoder, mean pooling and a small adapter that sets the embedding's width and may grow dendrites.

Trained on scored sentence pairs. After each epoch the Spearman correlation on `select` decides which weights are kept,
whether dendrites grow, and whether to end; dendritic and plain trials have the same largest number of epochs.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from raysweep.problems import Problem, UserError
from raysweep.recipe import DataFacts, RecipeConfig
from raysweep.trial import Evaluation, Report, State, Trial
from typing_extensions import Self

from trainables.parts import optim
from trainables.parts.adapter import Adapter, initialise, matched_width, output_width
from trainables.parts.data import DataSettings, Pairs, data_facts, read_pairs
from trainables.parts.dendrites.growth import Action, Growth, check, start_growth
from trainables.parts.dendrites.settings import DendriteSettings
from trainables.parts.embedder import save_model
from trainables.parts.encoders import Encoder, EncoderSettings, check_encoder, freeze, load_encoder
from trainables.parts.losses import pair_loss
from trainables.parts.pairs import PairInputs, Rows, SentenceModel, cosines, predict
from trainables.parts.scores import pearson, spearman
from trainables.parts.settings import AdapterSettings, LossSettings, TrainSettings

LOADER = "trainables.parts.embedder:load"
METRICS = {
    "select.spearman": "Spearman on select of the weights that are kept if training ends now: the best epoch's so far",
    "epoch.spearman": "Spearman on select of this epoch's weights",
    "train.loss": "mean loss of this epoch",
    "train.spearman": "Spearman of this epoch's weights on a fixed sample of training pairs",
    "train.gap": "train.spearman less epoch.spearman",
    "dendrites": "dendrites of the adapter in the weights that are kept",
    "epoch.dendrites": "dendrites of the adapter that the next epoch would train",
    "size.parameters": "parameters of the whole model in the weights that are kept",
    "size.adapter_parameters": "parameters of the adapter in the weights that are kept, dendrites included",
    "size.embedding_bytes": "bytes of one stored embedding, 4 for each dimension",
    "time.train_seconds": "seconds spent so far in training and scoring",
}
GROWING = "adapter.linear"  # the layer that grows dendrites
PREDICTED = 64  # pairs at a time where no gradient is needed


class Config(RecipeConfig):
    """One configuration of NEXUS."""

    data: DataSettings = Field(DataSettings(), description="sentence pairs and their scores")
    encoder: EncoderSettings = Field(EncoderSettings(), description="the sentence encoder")
    adapter: AdapterSettings = Field(AdapterSettings(), description="the layer behind mean pooling")
    dendrites: DendriteSettings = Field(DendriteSettings(), description="dendrites of the adapter")
    loss: LossSettings = Field(LossSettings(), description="what training makes small")
    train: TrainSettings = Field(TrainSettings(), description="how long and how fast")

    @property
    def isolated(self) -> bool:
        return self.dendrites.enabled and self.dendrites.backend == "perforatedai"

    @model_validator(mode="after")
    def _control_is_plain(self) -> Self:
        if self.dendrites.enabled and self.adapter.matched_dendrites:
            raise ValueError("adapter.matched_dendrites is the control without dendrites: set dendrites.enabled to false")
        return self


@dataclass(slots=True)
class Progress:
    """How far a trial is, and what is kept if it ends now."""

    epoch: int = 0
    seconds: float = 0.0
    score: float = nan
    dendrites: int = 0
    parameters: int = 0
    waited: int = 0  # epochs since the kept score rose
    over: bool = False


@dataclass(slots=True)
class Run:
    """A trial in training."""

    trial: Trial
    encoder: Encoder
    model: SentenceModel
    growth: Growth
    optimizer: torch.optim.AdamW
    fitted: PairInputs
    select: PairInputs
    progress: Progress


def train(trial: Trial) -> Iterator[Report]:
    """A report after each epoch; without epochs one at step 0, of the model as it starts."""
    torch.set_num_threads(trial.threads)
    run = begin(trial)
    settings, progress = trial.config.train, run.progress
    if settings.epochs == 0 and trial.restored is None:
        measured = epoch_scores(run)
        keep(progress, measured["epoch.spearman"], run.growth.dendrites, run.growth.parameters())
        yield report(run, measured)
    while progress.epoch < settings.epochs and not progress.over:
        begun = time.perf_counter()
        loss = train_epoch(run)
        progress.epoch += 1
        measured = {"train.loss": loss, **epoch_scores(run)}
        action = judge(run, measured["epoch.spearman"])
        if action == "grown":
            run.optimizer = optimizer_after_growth(run)
        progress.over = action == "done" or enough(run, measured)
        progress.seconds += time.perf_counter() - begun
        yield report(run, measured)


def begin(trial: Trial) -> Run:
    """Everything a trial trains with, as it stood if it was restored."""
    config: Config = trial.config
    encoder = load_encoder(config.encoder, trial.seed)
    fitted, select = (load_pairs(trial, encoder, split) for split in ("train", "select"))
    model, growth = build(trial, encoder)
    progress = Progress()
    if trial.restored:
        growth.restore(trial.restored["growth"])
        progress = Progress(**trial.restored["progress"])
    optimizer = new_optimizer(config, model, growth)
    if trial.restored:
        optim.restore(optimizer, trial.restored["optimizer"])
    return Run(trial, encoder, model, growth, optimizer, fitted, select, progress)


def train_epoch(run: Run) -> float:
    """One pass over the training pairs; the mean loss.

    Order and dropout are drawn from the trial's seed and the epoch alone, so a resumed trial needs no generator's state
    and no other trial in this process can disturb it. A batch goes through in `accumulate` parts, each weighed by its
    rows: for the cosine loss that is the same step; cosent then ranks pairs within the parts only.
    """
    trial, config, epoch = run.trial, run.trial.config, run.progress.epoch
    torch.manual_seed(draw(trial.seed, epoch))
    batches = run.fitted.batches(config.train.batch_size, np.random.default_rng((trial.seed, epoch)))
    run.model.train()
    total = 0.0
    for index, batch in enumerate(batches, start=epoch * len(batches)):
        for rows in parts(batch, config.train.batch_size // trial.accumulate):
            loss = pair_loss(config.loss.kind, cosines(run.model, run.fitted, rows), run.fitted.scores[rows], config.loss.scale)
            (loss * len(rows) / len(batch)).backward()
            total += loss.item() * len(rows)
        step(run, index, config.train.epochs * len(batches))
    return total / len(run.fitted.scores)


def step(run: Run, index: int, total: int) -> None:
    """Update the weights by the gradients of step `index` (from 0) of `total`."""
    settings: TrainSettings = run.trial.config.train
    if settings.grad_clip:
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), settings.grad_clip)
    factor = optim.lr_factor(index, total, settings.schedule, settings.warmup_ratio)
    optim.set_lr(run.optimizer, settings.lr * factor)
    run.optimizer.step()
    run.optimizer.zero_grad()


def epoch_scores(run: Run) -> dict[str, float]:
    """Spearman of the present weights on select and on a sample of training pairs, the same one in every epoch."""
    score = spearman(predict(run.model, run.select, PREDICTED), run.select.numbers)
    if not run.watched.size:
        ...
    return {"epoch.spearman": score, "train.spearman": fitted, "train.gap": fitted - score}


def judge(run: Run, score: float) -> Action:
    """Hand the epoch's score to the growth, which keeps the best weights; note what it keeps."""
    growth, progress = run.growth, run.progress
    before, dendrites, parameters = growth.best, growth.dendrites, growth.parameters()
    action = growth.report(score)
    if growth.best == before:
        progress.waited += 1
    else:
        keep(progress, score, dendrites, parameters)
    return action


def keep(progress: Progress, score: float, dendrites: int, parameters: int) -> None:
    """Note which weights are kept from now on."""
    progress.score, progress.dendrites, progress.parameters, progress.waited = score, dendrites, parameters, 0
