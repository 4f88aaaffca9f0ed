"""DendriticBERT: an encoder with few layers or none, small word tables, and dendrites, for texts with labels.

With no layers the token embeddings of a text are averaged (DSN mode): a bag of vectors without attention or padding.
After each epoch the task's score on `select` decides which weights are kept, whether dendrites grow, and whether to
end; every variant has the same largest number of epochs.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from typing_extensions import Self

from raysweep.recipe import DataFacts
from raysweep.trial import Evaluation, Report, State, Trial
from trainables.parts import optim, text_build
from trainables.parts import text_settings as groups
from trainables.parts.batches import in_parts, length_batches
from trainables.parts.dendrites.growth import Growth, check, kept, start_growth
from trainables.parts.encoders import Encoder, check_encoder, train_mode
from trainables.parts.losses import text_loss
from trainables.parts.pace import hold_memory, products
from trainables.parts.packed import pack
from trainables.parts.progress import Progress, fresh, of_now, restored
from trainables.parts.task_data import also_of, examples_facts, read_examples
from trainables.parts.tasks import TASKS
from trainables.parts.text_inputs import EPOCH_METRICS, TextInputs, scored, scores, text_inputs
from trainables.parts.text_model import TextModel

LOADER = "trainables.parts.text_predictor:load"
METRICS = EPOCH_METRICS | {
    "select.score": "the task's own score on select of the weights kept if training ends now: the best epoch's",
    "train.loss": "mean loss of this epoch",
    "dendrites": "dendrites of each growing layer in the weights that are kept",
    "epoch.dendrites": "dendrites of each growing layer that the next epoch would train",
    "size.parameters": "parameters of the whole model in the weights that are kept",
    "size.without_embeddings": "those behind the embeddings: what is computed with, not looked up",
    "size.bytes": "bytes of all weights in the weights that are kept",
    "size.reduction": "parameters saved, as a share of the whole encoder's with its pooler and a plain classifier",
    "size.bytes_reduction": "the same share of the bytes of all weights",
    "size.reduction_without_embeddings": "the same share of the parameters behind the embeddings",
    "time.latency_ms": "median milliseconds of one text through the model in this process, whatever else runs",
    "time.examples_per_second": "examples of this epoch by the seconds of its training steps",
    "time.train_seconds": "seconds spent so far in training and scoring",
}
PREDICTED = 128  # texts at a time where no gradient is needed


class Config(groups.TextConfig):
    """One configuration of DendriticBERT."""

    dendrites: groups.TargetedDendriteSettings = Field(
        groups.TargetedDendriteSettings(), description="dendrites, and where they grow"
    )

    @property
    def isolated(self) -> bool:
        return self.dendrites.enabled and self.dendrites.backend == "perforatedai"

    @model_validator(mode="after")
    def _groups_agree(self) -> Self:
        if problems := text_build.check_together(self) + text_build.check_growing(self, self.dendrites):
            raise ValueError("; ".join(problems))
        return self


@dataclass(slots=True)
class Run:
    """A trial in training."""

    trial: Trial
    encoder: Encoder
    model: TextModel
    growth: Growth
    optimizer: torch.optim.AdamW
    train: TextInputs
    select: TextInputs
    progress: Progress
    rate: optim.FallingRate
    latencies: dict[int, float]  # milliseconds, by the number of dendrites


def train(trial: Trial) -> Iterator[Report]:
    """A report after each epoch; without epochs one at step 0, of the model as it starts."""
    torch.set_num_threads(trial.threads)
    hold_memory()
    run = begin(trial)
    settings, progress = trial.config.train, run.progress
    if settings.epochs == 0 and trial.restored is None:
        measured = epoch_scores(run)
        progress.kept = of_now(run.growth, measured["epoch.score"])
        yield report(run, measured)
    # Patience is for plain trials: where dendrites grow, a plateau means growth, and their own patience counts.
    patience = 0 if trial.config.dendrites.enabled else settings.patience
    while progress.epoch < settings.epochs and not progress.over:
        begun = time.perf_counter()
        measured = train_epoch(run)
        measured |= epoch_scores(run)
        progress.epoch += 1
        action = progress.judge(run.growth, measured["epoch.score"])
        if action != "go on":
            run.optimizer, run.rate = optimizer_after_growth(run), optim.FallingRate()
        progress.over = action == "done" or progress.enough(patience)
        progress.seconds += time.perf_counter() - begun
        yield report(run, measured)


def begin(trial: Trial) -> Run:
    """Everything that a trial trains with, as it stood if it was restored."""
    encoder = text_build.new_encoder(trial.config, trial.seed)
    fitted, select = load(trial, encoder, "train"), load(trial, encoder, "select")
    model, growth = build(trial, encoder)
    progress, rate, latencies = fresh(growth), optim.FallingRate(), dict[int, float]()
    if trial.restored:
        growth.restore(trial.restored["growth"])
        progress, rate = restored(trial.restored["progress"]), optim.FallingRate(**trial.restored["rate"])
        latencies = dict(trial.restored["latencies"])
    optimizer = new_optimizer(trial.config, model, growth)
    if trial.restored:
        optim.restore(optimizer, trial.restored["optimizer"])
    return Run(trial, encoder, model, growth, optimizer, fitted, select, progress, rate, latencies)


def load(trial: Trial, encoder: Encoder, split: Any, also: str | None = None) -> TextInputs:
    """A split as the model takes it."""
    config: Config = trial.config
    examples = read_examples(config.data, split, also)
    return text_inputs(TASKS[config.data.task], examples, encoder, config.spans.stride, trial.device)


def build(trial: Trial, encoder: Encoder) -> tuple[TextModel, Growth]:
    """The model as it starts, and what grows it."""
    config: Config = trial.config
    model = text_build.new_model(config, encoder, trial.seed).to(trial.device)
    layers = text_build.growing_layers(model, config.dendrites.target)
    return model, start_growth(config.dendrites, model, layers, trial.seed, trial.folder)


def train_epoch(run: Run) -> dict[str, float]:
    """One pass over the training texts: their mean loss, and how many went through in a second.

    Order, word dropout and dropout come from the trial's seed and the epoch alone. A batch goes through in `accumulate`
    parts, each weighed by its rows, which is the same step.
    """
    trial, config, epoch, inputs = run.trial, run.trial.config, run.progress.epoch, run.train
    rng = np.random.default_rng((trial.seed, epoch))
    torch.manual_seed(int(rng.integers(2**63)))
    train_mode(run.model)
    batches = length_batches(inputs.lengths, config.train.batch_size, rng)
    begun, total = time.perf_counter(), 0.0
    for step, batch in enumerate(batches, start=epoch * len(batches)):
        for rows in in_parts(batch, max(1, config.train.batch_size // trial.accumulate)):
            texts = pack(inputs.tokens, rows, trial.device, config.train.word_dropout, rng)
            with products(config.train.products):
                targets, smoothing = inputs.targets[rows], config.train.label_smoothing
                loss = text_loss(inputs.task.kind, run.model(texts), targets, texts, smoothing)
                (loss * (len(rows) / len(batch))).backward()  # type: ignore[no-untyped-call]
            total += loss.item() * len(rows)
        update(run, step, config.train.epochs * len(batches))
    seconds, count = time.perf_counter() - begun, len(inputs.lengths)
    return {"train.loss": total / count, "time.examples_per_second": len(inputs.examples) / seconds}


def update(run: Run, step: int, total: int) -> None:
    """Change the weights by the gradients of step `step` (from 0) of `total`."""
    settings: groups.TextTrainSettings = run.trial.config.train
    if settings.grad_clip:
        optim.clip_gradient(run.model, settings.grad_clip)
    factor = optim.lr_factor(step, total, settings.schedule, settings.warmup_ratio) * run.rate.factor
    optim.set_lr(run.optimizer, settings.lr * factor)
    run.optimizer.step()
    run.optimizer.zero_grad()


def new_optimizer(config: Config, model: TextModel, growth: Growth) -> torch.optim.AdamW:
    """AdamW over all that is trained; embeddings, head and dendrites may learn at rates of their own."""
    multiples = text_build.multiples(config.train, model, growth.added(), config.dendrites.lr_multiplier)
    return optim.adamw(model, config.train.lr, config.train.weight_decay, multiples)


def optimizer_after_growth(run: Run) -> torch.optim.AdamW:
    """An optimizer that knows the new dendrites; the moments of all else are kept, unless it should start afresh."""
    config: Config = run.trial.config
    optimizer = new_optimizer(config, run.model, run.growth)
    if config.dendrites.optimizer == "carry_over":
        optim.carry_over(run.optimizer, optimizer, run.growth.newest())
    return optimizer


def epoch_scores(run: Run) -> dict[str, float]:
    """The present weights on select; under `plateau` the learning rate hears of it."""
    settings, size = run.trial.config.train, max(1, PREDICTED // run.trial.accumulate)
    found = scores(scored(run.model, run.select, size, run.trial.device))
    if settings.schedule == "plateau":
        run.rate.report(found["score"], settings.plateau_patience, settings.plateau_factor, settings.plateau_least)
    if run.growth.dendrites not in run.latencies:
        run.latencies[run.growth.dendrites] = text_build.step_latency(run.model, run.select, run.trial.device)
    return {f"epoch.{name}": value for name, value in found.items()}


def report(run: Run, measured: dict[str, float]) -> Report:
    """What the engine is told. The state is all that `begin` needs to go on, and `kept_model` to end."""
    progress = run.progress
    metrics = measured | text_build.sized(run.model, run.encoder, progress.kept.parameters)
    metrics |= {
        "select.score": progress.kept.score,
        "dendrites": progress.kept.dendrites,
        "epoch.dendrites": run.growth.dendrites,
        "time.latency_ms": run.latencies[progress.kept.dendrites],
        "time.train_seconds": progress.seconds,
    }

    def state() -> State:
        return {
            "progress": progress.state(),
            "growth": run.growth.state(),
            "optimizer": optim.state(run.optimizer),
            "rate": run.rate.state(),
            "latencies": dict(run.latencies),
        }

    return Report(progress.epoch, {name: float(value) for name, value in metrics.items()}, state)


def kept_model(trial: Trial, state: State, encoder: Encoder) -> TextModel:
    """The model whose weights are kept, in plain torch."""
    _, growth = build(trial, encoder)
    model = kept(growth, state["growth"])
    assert isinstance(model, TextModel)
    return model


def evaluate(trial: Trial, state: State) -> Evaluation:
    """The kept weights on the report split and every further one, and the latency of the exported model."""
    torch.set_num_threads(trial.threads)
    config: Config = trial.config
    encoder = text_build.new_encoder(config, trial.seed)
    model = kept_model(trial, state, encoder)
    found = scored(model, load(trial, encoder, "report"), PREDICTED, trial.device)
    metrics = {f"report.{name}": value for name, value in scores(found).items()}
    (own, first), *rest = found.items()
    others = dict(rest)
    for split in also_of(config.data):
        more = scored(model, load(trial, encoder, "report", split), PREDICTED, trial.device)
        metrics |= {f"{split}.{name}": value for name, value in scores(more).items()}
        others |= {split if name == own else f"{split} {name}": one for name, one in more.items()}
    metrics |= text_build.served(config, model, encoder, trial.device)
    return Evaluation(metrics, first.predictions, first.targets, first.statistic, others)


def export(trial: Trial, state: State, folder: Path) -> dict[str, Any]:
    """Write model, tokenizer and labels; what the registry says of them."""
    encoder = text_build.new_encoder(trial.config, trial.seed)
    return text_build.export_model(trial.config, kept_model(trial, state, encoder), encoder, folder)


def inspect(config: Config) -> DataFacts:
    """Facts about the data. Raises UserError with everything that would keep a trial from starting."""
    facts = examples_facts(config.data, [*check_encoder(config.encoder), *check(config.dendrites)])
    text_build.check_model(config)
    return facts
