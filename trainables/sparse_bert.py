"""SparseBERT: heads, neurons and weights of a fine-tuned text model are pruned, what is left recovers and is quantised.

The dense model is fine-tuned first, once for all trials that share its seed. Then come the stages of `stages`, in that
order. A trial that prunes nothing trains for as many epochs: it is the control.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysweep.recipe import DataFacts
from raysweep.trial import Evaluation, Report, State, Trial
from trainables.parts import compressed, optim, text_build
from trainables.parts.batches import Rows, in_parts, length_batches
from trainables.parts.compression import CompressionConfig
from trainables.parts.dense_cache import stored_weights
from trainables.parts.distill import Teacher, new_teacher
from trainables.parts.encoders import Encoder, check_encoder, train_mode
from trainables.parts.losses import text_loss
from trainables.parts.pace import hold_memory, products
from trainables.parts.packed import Packed, pack
from trainables.parts.pipeline import Pipeline, new_pipeline
from trainables.parts.task_data import also_of, examples_facts, read_examples
from trainables.parts.tasks import TASKS
from trainables.parts.text_inputs import EPOCH_METRICS, TextInputs, scored, scores, text_inputs
from trainables.parts.text_model import TextModel
from trainables.parts.weights import Weights, overlay, weights_of

LOADER = "trainables.parts.sparse_predictor:load"
METRICS = EPOCH_METRICS | {
    "select.score": "the task's own score on select of the weights kept if training ends now",
    "train.loss": "mean loss of this epoch, with the dense model's part and penalties",
    "stage.dense": "score on select of the dense model that all begins with",
    "stage.pruned": "score on select at the end of the stage that prunes",
    "stage.finetuned": "score on select after fine-tuning",
    "stage.quantised": "score on select after quantising",
    "sparsity.weights": "zeros among the weights that can be pruned, those of removed heads and neurons with them",
    "sparsity.heads": "share of attention heads that are pruned",
    "sparsity.neurons": "share of feed-forward neurons that are pruned",
    "size.parameters": "parameters of the model without the heads and neurons that are pruned",
    "size.nonzero": "those that are not zero",
    "size.bytes": "bytes of the weights as they are computed with: zeros count, for a mask saves no memory",
    "size.file_bytes": "bytes of the weights as stored: zeros as a bit each, or the quantised file",
    "size.reduction": "parameters saved, as a share of the whole encoder's with its pooler and a plain classifier",
    "time.latency_ms": "median milliseconds of one text through the model in this process, whatever else runs",
    "time.examples_per_second": "examples of this epoch by the seconds of its training steps",
    "time.train_seconds": "seconds spent so far in training and scoring, the dense model's not counted",
}


class Config(CompressionConfig):
    """One configuration of SparseBERT."""


@dataclass(slots=True)
class Run:
    """A model in training: the dense one, or, with a pipeline, the one that is made small."""

    trial: Trial
    seed: int  # of order and dropout
    encoder: Encoder
    model: TextModel
    train: TextInputs
    optimizer: torch.optim.AdamW
    lr: float
    epochs: int
    epoch: int = 0
    teacher: Teacher | None = None
    pipeline: Pipeline | None = None


def train(trial: Trial) -> Iterator[Report]:
    """A report after each epoch; without epochs one at step 0, when all stages are over."""
    torch.set_num_threads(trial.threads)
    hold_memory()
    run, pipeline, select = begin(trial)
    seconds = trial.restored["seconds"] if trial.restored else 0.0
    if trial.restored is None:
        forget_if(run, pipeline.begin())
        if pipeline.stage is None:
            yield report(run, pipeline, select, {}, seconds)
    while pipeline.stage is not None:
        begun = time.perf_counter()
        measured = train_epoch(run)
        found = scores(scored(run.model, select, compressed.PREDICTED, trial.device))
        run.epoch += 1
        forget_if(run, pipeline.trained(found["score"]))
        seconds += time.perf_counter() - begun
        measured |= {f"epoch.{name}": value for name, value in found.items()}
        yield report(run, pipeline, select, measured, seconds)


def begin(trial: Trial) -> tuple[Run, Pipeline, TextInputs]:
    """Everything that a trial trains with, as it stood if it was restored."""
    config: Config = trial.config
    run = new_run(trial, trial.seed, config.train.lr, sum(stage.epochs for stage in config.plan))
    overlay(run.model, dense_weights(trial))
    select = load(trial, run.encoder, "select")
    if trial.restored is None or trial.restored["epoch"] < run.epochs:
        run.teacher = new_teacher(config.distill, run.model, run.train, compressed.PREDICTED, trial.device)
    rewound = partial(untrained, trial)
    pipeline = run.pipeline = new_pipeline(trial, run.encoder, run.model, run.train, select, rewound)
    if trial.restored:
        run.epoch = trial.restored["epoch"]
        pipeline.restore(trial.restored["pipeline"])
        optim.restore(run.optimizer, trial.restored["optimizer"])
    return run, pipeline, select


def new_run(trial: Trial, seed: int, lr: float, epochs: int) -> Run:
    """A run on the model as it is before any training."""
    encoder, model = build(trial)
    return Run(trial, seed, encoder, model, load(trial, encoder, "train"), new_optimizer(trial, model, lr), lr, epochs)


def build(trial: Trial) -> tuple[Encoder, TextModel]:
    """The encoder as it was loaded, and the classifier as it was drawn for the dense model of this trial."""
    seed = trial.config.dense_seed(trial.seed)
    encoder = text_build.new_encoder(trial.config, seed)
    return encoder, text_build.new_model(trial.config, encoder, seed).to(trial.device)


def untrained(trial: Trial) -> Weights:
    """What a lottery ticket goes back to."""
    return weights_of(build(trial)[1])


def dense_weights(trial: Trial) -> Weights:
    """The weights of the dense model: the first trial of the sweep that needs them trains it."""
    config: Config = trial.config
    seed = config.dense_seed(trial.seed)

    def make() -> Weights:
        run = new_run(trial, seed, config.dense.lr or config.train.lr, config.dense.epochs)
        for epoch in range(run.epochs):
            run.epoch = epoch
            train_epoch(run)
        return weights_of(run.model)

    return stored_weights(trial.shared, config.dense_key(seed), make)


def load(trial: Trial, encoder: Encoder, split: Any, also: str | None = None) -> TextInputs:
    """A split as the model takes it."""
    config: Config = trial.config
    examples = read_examples(config.data, split, also)
    return text_inputs(TASKS[config.data.task], examples, encoder, config.spans.stride, trial.device)


def train_epoch(run: Run) -> dict[str, float]:
    """One pass over the training texts: their mean loss, and how many went through in a second.

    Order, word dropout and dropout come from seed and epoch alone. A batch goes through in `accumulate` parts, each
    weighed by its rows, which is the same step.
    """
    trial, config, inputs = run.trial, run.trial.config, run.train
    rng = np.random.default_rng((run.seed, run.epoch))
    torch.manual_seed(int(rng.integers(2**63)))
    train_mode(run.model)
    batches = length_batches(inputs.lengths, config.train.batch_size, rng)
    begun, total = time.perf_counter(), 0.0
    for step, batch in enumerate(batches):
        for rows in in_parts(batch, max(1, config.train.batch_size // trial.accumulate)):
            texts = pack(inputs.tokens, rows, trial.device, config.train.word_dropout, rng)
            with products(config.train.products):
                loss = batch_loss(run, texts, rows)
                (loss * (len(rows) / len(batch))).backward()  # type: ignore[no-untyped-call]
            total += loss.item() * len(rows)
        update(run, step, len(batches))
    seconds, count = time.perf_counter() - begun, len(inputs.lengths)
    return {"train.loss": total / count, "time.examples_per_second": len(inputs.examples) / seconds}


def batch_loss(run: Run, texts: Packed, rows: Rows) -> Tensor:
    """The loss of these rows, with what the dense model would answer and what pruning adds."""

    def hard(logits: Tensor) -> Tensor:
        smoothing = run.trial.config.train.label_smoothing
        return text_loss(run.train.task.kind, logits, run.train.targets[rows], texts, smoothing)

    loss = run.teacher.loss(run.model, texts, rows, hard) if run.teacher else hard(run.model(texts))
    penalty = run.pipeline.penalty() if run.pipeline else None
    return loss if penalty is None else loss + penalty


def update(run: Run, step: int, count: int) -> None:
    """Change the weights by the gradients of step `step` (from 0) of `count` in this epoch; what is pruned stays so."""
    settings = run.trial.config.train
    if run.pipeline:
        run.pipeline.before_step(step, count)
    if settings.grad_clip:
        optim.clip_gradient(run.model, settings.grad_clip)
    done, total = run.epoch * count + step, run.epochs * count
    optim.set_lr(run.optimizer, run.lr * optim.lr_factor(done, total, settings.schedule, settings.warmup_ratio))
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.pipeline:
        run.pipeline.after_step()


def forget_if(run: Run, afresh: bool) -> None:
    """A new optimizer for weights that start afresh."""
    if afresh:
        run.optimizer = new_optimizer(run.trial, run.model, run.lr)


def new_optimizer(trial: Trial, model: TextModel, lr: float) -> torch.optim.AdamW:
    """AdamW over all that is trained; embeddings and head may learn at rates of their own."""
    settings = trial.config.train
    return optim.adamw(model, lr, settings.weight_decay, text_build.multiples(settings, model))


def report(run: Run, pipeline: Pipeline, select: TextInputs, measured: dict[str, float], seconds: float) -> Report:
    """What the engine is told. The state is all that `begin` needs to go on, and to end."""
    metrics = measured | pipeline.metrics() | {"time.train_seconds": seconds}
    metrics |= pipeline.quantised or compressed.costs(pipeline.finished(), run.encoder, select, run.trial.device)

    def state() -> State:
        going = pipeline.stage is not None
        optimizer = optim.state(run.optimizer) if going else {}
        return {"epoch": run.epoch, "seconds": seconds, "pipeline": pipeline.state(), "optimizer": optimizer}

    return Report(run.epoch, {name: float(value) for name, value in metrics.items()}, state)


def evaluate(trial: Trial, state: State) -> Evaluation:
    """The finished model on the report split and every further one, the models before each stage, and what all cost."""
    torch.set_num_threads(trial.threads)
    config: Config = trial.config
    run, pipeline, select = begin(replace(trial, restored=state))
    finished, report_split = pipeline.finished(), load(trial, run.encoder, "report")
    with TemporaryDirectory() as place:
        small, whole = Path(place, "small"), Path(place, "whole")
        compressed.save(trial, finished, run.encoder, run.train, small)
        found = compressed.answers(trial, finished, small, report_split)
        metrics = {f"report.{name}": value for name, value in scores(found).items()}
        metrics |= compressed.removal_difference(trial, run.model, finished, select)
        (own, first), *rest = found.items()
        others = dict(rest)
        for split in also_of(config.data):
            more = compressed.answers(trial, finished, small, load(trial, run.encoder, "report", split))
            metrics |= {f"{split}.{name}": value for name, value in scores(more).items()}
            others |= {split if name == own else f"{split} {name}": one for name, one in more.items()}
        metrics |= compressed.two_four_costs(trial, finished, select)  # before it may get others' weights
        dense = dense_weights(trial)
        others |= compressed.before(trial, run.model, pipeline.earlier(dense), report_split)
        overlay(run.model, dense)
        compressed.save_plain(trial, run.model, run.encoder, whole)
        metrics |= compressed.costs_beside(trial, small, whole, select.examples.texts[:160])
    return Evaluation(metrics, first.predictions, first.targets, first.statistic, others)


def export(trial: Trial, state: State, folder: Path) -> dict[str, Any]:
    """Write model, tokenizer and labels; what the registry says of it."""
    run, pipeline, _ = begin(replace(trial, restored=state))
    finished = pipeline.finished()
    card = compressed.save(trial, finished, run.encoder, run.train, folder)
    return card | compressed.two_four_told(trial, finished, pipeline.left_whole)


def inspect(config: Config) -> DataFacts:
    """Facts about the data. Raises UserError with everything that would keep a trial from starting."""
    facts = examples_facts(config.data, check_encoder(config.encoder))
    text_build.check_model(config)
    compressed.check_model(config)
    return facts
