"""Project NEXUS: an encoder, mean pooling and a small adapter that sets the embedding's width and may grow dendrites.

Trained on scored sentence pairs. After each epoch the Spearman correlation on `select` decides which weights are kept,
whether dendrites grow, and whether to end; dendritic and plain trials have the same largest number of epochs.
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

from raysweep.problems import UserError
from raysweep.recipe import DataFacts, RecipeConfig
from raysweep.trial import Evaluation, Report, State, Trial
from trainables.parts import optim
from trainables.parts.adapter import initialise
from trainables.parts.batches import in_parts, length_batches
from trainables.parts.data import DataSettings, data_facts, read_pairs
from trainables.parts.dendrites.growth import Growth, check, kept, start_growth
from trainables.parts.dendrites.settings import DendriteSettings
from trainables.parts.encoders import Encoder, EncoderSettings, check_encoder, count, freeze, load_encoder, train_mode
from trainables.parts.losses import pair_loss
from trainables.parts.pace import hold_memory, products
from trainables.parts.pairs import PairInputs, all_rows, cosines, load_pairs, predict, vectors
from trainables.parts.progress import Progress, fresh, of_now, restored
from trainables.parts.scores import pearson, spearman
from trainables.parts.sentence_model import SentenceModel, export_model, new_adapter, served_latency
from trainables.parts.settings import AdapterSettings, LossSettings, PairTrainSettings

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
    train: PairTrainSettings = Field(PairTrainSettings(), description="how long and how fast")

    @property
    def isolated(self) -> bool:
        return self.dendrites.enabled and self.dendrites.backend == "perforatedai"

    @model_validator(mode="after")
    def _control_is_plain(self) -> Self:
        if self.dendrites.enabled and self.adapter.matched_dendrites:
            raise ValueError("adapter.matched_dendrites is a control without dendrites: set dendrites.enabled to false")
        return self


@dataclass(slots=True)
class Run:
    """A trial in training."""

    trial: Trial
    encoder: Encoder
    model: SentenceModel
    growth: Growth
    optimizer: torch.optim.AdamW
    train: PairInputs
    select: PairInputs
    progress: Progress


def train(trial: Trial) -> Iterator[Report]:
    """A report after each epoch; without epochs one at step 0, of the model as it starts."""
    torch.set_num_threads(trial.threads)
    hold_memory()
    run = begin(trial)
    settings, progress = trial.config.train, run.progress
    if settings.epochs == 0 and trial.restored is None:
        measured = epoch_scores(run)
        progress.kept = of_now(run.growth, measured["epoch.spearman"])
        yield report(run, measured)
    # Patience is for plain trials: where dendrites grow, a plateau means growth, and their own patience counts.
    patience = 0 if trial.config.dendrites.enabled else settings.patience
    while progress.epoch < settings.epochs and not progress.over:
        begun = time.perf_counter()
        measured = {"train.loss": train_epoch(run)}
        measured |= epoch_scores(run)
        progress.epoch += 1
        action = progress.judge(run.growth, measured["epoch.spearman"])
        if action != "go on":
            run.optimizer = optimizer_after_growth(run)
        gap = measured.get("train.gap", 0.0)
        progress.over = action == "done" or progress.enough(patience, gap, settings.max_overfit_gap)
        progress.seconds += time.perf_counter() - begun
        yield report(run, measured)


def begin(trial: Trial) -> Run:
    """Everything that a trial trains with, as it stood if it was restored."""
    encoder = load_encoder(trial.config.encoder, trial.seed)
    fitted, select = load_pairs(trial, encoder, "train"), load_pairs(trial, encoder, "select")
    model, growth = build(trial, encoder)
    progress = fresh(growth)
    if trial.restored:
        growth.restore(trial.restored["growth"])
        progress = restored(trial.restored["progress"])
    optimizer = new_optimizer(trial.config, model, growth)
    if trial.restored:
        optim.restore(optimizer, trial.restored["optimizer"])
    return Run(trial, encoder, model, growth, optimizer, fitted, select, progress)


def build(trial: Trial, encoder: Encoder) -> tuple[SentenceModel, Growth]:
    """The model as it starts, and what grows it. An encoder that rests is left out."""
    config: Config = trial.config
    texts = read_pairs(config.data, "train").first
    adapter = new_adapter(config.adapter, encoder.hidden, len(texts))
    sample = vectors(trial, encoder, texts) if config.adapter.init == "pca" else None
    initialise(adapter, config.adapter.init, trial.seed, sample)
    freeze(encoder, config.encoder)
    model = SentenceModel(None if config.encoder.freeze == "all" else encoder.model, adapter).to(trial.device)
    return model, start_growth(config.dendrites, model, [GROWING], trial.seed, trial.folder)


def train_epoch(run: Run) -> float:
    """One pass over the training pairs; the mean loss.

    Order and dropout come from the trial's seed and the epoch alone: a resumed trial needs no generator's state, and
    no other trial in this process disturbs it. A batch goes through in `accumulate` parts, each weighed by its rows;
    for the cosine loss that is the same step, while cosent then ranks pairs within each part only.
    """
    trial, config, epoch = run.trial, run.trial.config, run.progress.epoch
    rng = np.random.default_rng((trial.seed, epoch))
    torch.manual_seed(int(rng.integers(2**63)))
    train_mode(run.model)
    targets = torch.tensor(run.train.scores, dtype=torch.float32, device=trial.device)
    batches = length_batches(run.train.lengths, config.train.batch_size, rng)
    total = 0.0
    for step, batch in enumerate(batches, start=epoch * len(batches)):
        for rows in in_parts(batch, max(1, config.train.batch_size // trial.accumulate)):
            with products(config.train.products):
                cosine = cosines(run.model, run.train, rows)
                loss = pair_loss(config.loss.kind, cosine, targets[rows], config.loss.scale)
                (loss * (len(rows) / len(batch))).backward()  # type: ignore[no-untyped-call]
            total += loss.item() * len(rows)
        update(run, step, config.train.epochs * len(batches))
    return total / len(targets)


def update(run: Run, step: int, total: int) -> None:
    """Change the weights by the gradients of step `step` (from 0) of `total`."""
    settings: PairTrainSettings = run.trial.config.train
    if settings.grad_clip:
        optim.clip_gradient(run.model, settings.grad_clip)
    optim.set_lr(run.optimizer, settings.lr * optim.lr_factor(step, total, settings.schedule, settings.warmup_ratio))
    run.optimizer.step()
    run.optimizer.zero_grad()


def new_optimizer(config: Config, model: SentenceModel, growth: Growth) -> torch.optim.AdamW:
    """AdamW over all that is trained; dendrites may learn faster."""
    settings, added = config.train, growth.added()

    def multiple(name: str) -> float:
        return config.dendrites.lr_multiplier if name in added else 1.0

    return optim.adamw(model, settings.lr, settings.weight_decay, multiple)


def optimizer_after_growth(run: Run) -> torch.optim.AdamW:
    """An optimizer that knows the new dendrites; the moments of all else are kept, unless it should start afresh."""
    config: Config = run.trial.config
    optimizer = new_optimizer(config, run.model, run.growth)
    if config.dendrites.optimizer == "carry_over":
        optim.carry_over(run.optimizer, optimizer, run.growth.newest())
    return optimizer


def epoch_scores(run: Run) -> dict[str, float]:
    """Spearman of the present weights on select, and on training pairs that are the same in every epoch."""
    size, sample = max(1, PREDICTED // run.trial.accumulate), run.trial.config.train.gap_rows
    select = spearman(predict(run.model, run.select, all_rows(run.select), size), run.select.scores)
    if not sample:
        return {"epoch.spearman": select}
    rows = np.random.default_rng(run.trial.seed).permutation(len(run.train.scores))[:sample]
    fitted = spearman(predict(run.model, run.train, rows, size), run.train.scores[rows])
    return {"epoch.spearman": select, "train.spearman": fitted, "train.gap": fitted - select}


def report(run: Run, measured: dict[str, float]) -> Report:
    """What the engine is told. The state is all that `begin` needs to go on, and `kept_model` to end."""
    progress, encoder = run.progress, count(run.encoder.model)
    whole = progress.kept.parameters + (encoder if run.model.encoder is None else 0)
    metrics = measured | {
        "select.spearman": progress.kept.score,
        "dendrites": progress.kept.dendrites,
        "epoch.dendrites": run.growth.dendrites,
        "size.parameters": whole,
        "size.adapter_parameters": whole - encoder,
        "size.embedding_bytes": 4 * run.model.adapter.out_dim,
        "time.train_seconds": progress.seconds,
    }

    def state() -> State:
        return {"progress": progress.state(), "growth": run.growth.state(), "optimizer": optim.state(run.optimizer)}

    return Report(progress.epoch, {name: float(value) for name, value in metrics.items()}, state)


def kept_model(trial: Trial, state: State, encoder: Encoder) -> SentenceModel:
    """The model whose weights are kept, in plain torch."""
    _, growth = build(trial, encoder)
    model = kept(growth, state["growth"])
    assert isinstance(model, SentenceModel)
    return model


def evaluate(trial: Trial, state: State) -> Evaluation:
    """The kept weights on the report split, and the latency of the exported model."""
    torch.set_num_threads(trial.threads)
    encoder = load_encoder(trial.config.encoder, trial.seed)
    pairs = load_pairs(trial, encoder, "report")
    model = kept_model(trial, state, encoder)
    predictions = predict(model, pairs, all_rows(pairs), PREDICTED)
    served = served_latency(model, encoder, read_pairs(trial.config.data, "select").first, trial.device)
    metrics = {
        "report.spearman": spearman(predictions, pairs.scores),
        "report.pearson": pearson(predictions, pairs.scores),
        "latency.p50_ms": served.p50_ms,
        "latency.p95_ms": served.p95_ms,
    }
    return Evaluation(metrics, predictions, pairs.scores, "spearman")


def export(trial: Trial, state: State, folder: Path) -> dict[str, Any]:
    """Write encoder and adapter; what the registry says of them."""
    encoder = load_encoder(trial.config.encoder, trial.seed)
    return export_model(kept_model(trial, state, encoder), encoder, folder)


def inspect(config: Config) -> DataFacts:
    """Facts about the data. Raises UserError with everything that would keep a trial from starting."""
    problems = [*check_encoder(config.encoder), *check(config.dendrites)]
    try:
        facts = data_facts(config.data)
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError(problems)
    new_adapter(config.adapter, load_encoder(config.encoder, seed=0).hidden, facts.rows["train"])
    return facts
