"""Multi-task sentence transformer: one encoder, a sentence vector, and a head for each task, trained together.

Each text is encoded alone; a task of pairs compares two sentence vectors. A batch carries one task. After each epoch
the mean of the tasks' scores on `select`, each from 0 for guessing to 1, decides which weights are kept.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysweep.recipe import DataFacts
from raysweep.trial import Evaluation, Report, Scored, State, Trial
from trainables.parts import optim
from trainables.parts.batches import Rows, in_parts
from trainables.parts.data import Split
from trainables.parts.encoders import Encoder, check_encoder, load_encoder, train_mode
from trainables.parts.multitask import build, freezing, progress
from trainables.parts.multitask.balance import Balance, taken
from trainables.parts.multitask.facts import multitask_facts
from trainables.parts.multitask.freezing import Open
from trainables.parts.multitask.inputs import Inputs, TaskInputs, all_inputs, batch_vectors, load_inputs, rested
from trainables.parts.multitask.model import MultitaskModel, task_loss
from trainables.parts.multitask.probe import probe_score
from trainables.parts.multitask.progress import Progress
from trainables.parts.multitask.sampling import Step, epoch_steps
from trainables.parts.multitask.scoring import joint, joint_value, predict_all, task_scores
from trainables.parts.multitask.settings import MultitaskConfig
from trainables.parts.pace import hold_memory, products
from trainables.parts.state import tensors
from trainables.parts.task_data import also_of
from trainables.parts.text_inputs import scores, value
from trainables.parts.weights import learning, overlay
from trainables.parts.workers import share, sum_gradients, sum_numbers

LOADER = "trainables.parts.multitask.predictor:load"
PREDICTED = 64  # texts that go through the model at a time where nothing is learned
METRICS = {
    "select.score": "mean of the tasks' scores on select of the weights kept if it ends now: 0 guesses, 1 is best",
    "select.*.score": "a task's own score on select of those weights: accuracy, F1, a correlation",
    "select.probe": "with probe.each_epoch: rank correlation of cosines and scores of pairs that are not trained on",
    "epoch.score": "as select.score, of this epoch's weights",
    "epoch.*.score": "a task's own score on select of this epoch's weights",
    "epoch.*.accuracy": "share of right labels",
    "epoch.*.macro_f1": "mean over labels of their F1",
    "epoch.*.f1": "F1 of the positive label",
    "epoch.*.matthews": "Matthews correlation of labels",
    "epoch.*.spearman": "rank correlation of numbers",
    "epoch.*.pearson": "linear correlation of numbers",
    "best.*.score": "the best score on select that a task had in any epoch, though other weights may be kept",
    "train.loss": "mean over the examples of this epoch of their tasks' losses, without weights",
    "train.*.loss": "mean loss of a task in this epoch, without its weight",
    "balance.*.weight": "what a task's loss counts with at the end of this epoch",
    "open.layers": "layers of the encoder that learned in this epoch, from the top",
    "open.parameters": "parameters that learned in this epoch",
    "size.parameters": "parameters of encoder and heads",
    "size.encoder": "those of the encoder, or of all encoders",
    "size.heads": "those behind the encoder",
    "size.bytes": "bytes of all weights",
    "time.examples_per_second": "examples of this epoch by the seconds of its training steps",
    "time.train_seconds": "seconds spent so far in training and scoring",
}


class Config(MultitaskConfig):
    """One configuration of the multi-task sentence transformer."""


@dataclass(slots=True)
class Run:
    """A trial in training, with what learns in this epoch."""

    trial: Trial
    encoder: Encoder
    model: MultitaskModel
    balance: Balance
    inputs: dict[Split, Inputs]
    progress: Progress
    opened: Open
    optimizer: torch.optim.AdamW


def train(trial: Trial) -> Iterator[Report]:
    """A report after each epoch; where nothing is to learn, one at step 0 of the model as it starts."""
    torch.set_num_threads(trial.threads)
    hold_memory()
    run, epochs = begin(trial), epochs_of(trial.config)
    if not epochs and trial.restored is None:
        yield report(run, epoch_scores(run))
    while not run.progress.over(epochs, trial.config.train.patience):
        begun = time.perf_counter()
        open_for(run, run.progress.epoch)
        measured = train_epoch(run)
        measured |= epoch_scores(run)
        run.progress.epoch += 1
        run.progress.seconds += time.perf_counter() - begun
        yield report(run, measured)


def epochs_of(config: Config) -> int:
    """No epochs where everything is frozen."""
    return 0 if config.freezing.kind == "all" else config.train.epochs


def begin(trial: Trial) -> Run:
    """Everything that a trial trains with, as it stood if it was restored."""
    config: Config = trial.config
    encoder, model = built(trial)
    balance = Balance(config.balance, config.tasks).to(trial.device)
    done = progress.restored(trial.restored["progress"]) if trial.restored else Progress()
    opened = opened_at(config, model, max(done.epoch - 1, 0))
    optimizer = build.new_optimizer(config, model, balance)
    inputs: dict[Split, Inputs] = {split: all_inputs(trial, encoder, split) for split in ("train", "select")}
    run = Run(trial, encoder, model, balance, inputs, done, opened, optimizer)
    rest(run)
    if trial.restored:
        overlay(model, tensors(trial.restored["weights"]))
        balance.restore(trial.restored["balance"])
        optim.restore(optimizer, trial.restored["optimizer"])
    return run


def built(trial: Trial) -> tuple[Encoder, MultitaskModel]:
    """The encoder as it was loaded, and the model as it starts, around the same weights."""
    encoder = load_encoder(trial.config.encoder, trial.seed)
    return encoder, build.new_model(trial.config, encoder, trial.seed).to(trial.device)


def opened_at(config: Config, model: MultitaskModel, epoch: int) -> Open:
    """Let learn what does in this epoch, and that alone."""
    opened = freezing.open_at(config.freezing, epoch, build.depth(model), config.tasks)
    freezing.apply(model, opened)
    return opened


def open_for(run: Run, epoch: int) -> None:
    """Thaw what begins to learn in this epoch; what learned before keeps its moments in the optimizer."""
    before, run.opened = run.opened, opened_at(run.trial.config, run.model, epoch)
    if run.opened != before:
        optimizer = build.new_optimizer(run.trial.config, run.model, run.balance)
        optim.carry_over(run.optimizer, optimizer)
        run.optimizer = optimizer
    rest(run)


def rest(run: Run) -> None:
    """Take the pooled states of an encoder that learns nothing yet from the store, and of one that does no more."""
    resting = freezing.encoder_rests(run.opened)
    run.inputs = {split: rested(run.trial, run.encoder, one, resting) for split, one in run.inputs.items()}


def train_epoch(run: Run) -> dict[str, float]:
    """One pass over the batches of all tasks: their mean losses, and how many examples went through in a second.

    Order and dropout come from the trial's seed and the epoch alone.
    """
    config, epoch = run.trial.config, run.progress.epoch
    rng = np.random.default_rng((run.trial.seed, epoch))
    torch.manual_seed(int(rng.integers(2**62)) + run.trial.world.rank)  # of dropout, which no two processes share
    train_mode(run.model)
    lengths = {name: one.lengths for name, one in run.inputs["train"].items()}
    steps = epoch_steps(lengths, config.train.batch_size, config.sampling, rng)
    begun, sums, counts = time.perf_counter(), dict.fromkeys(config.tasks, 0.0), dict.fromkeys(config.tasks, 0)
    for number, step in enumerate(steps, start=epoch * len(steps)):
        losses = gradients(run, step, rng)
        update(run, number, config.train.epochs * len(steps))
        for task, rows in step.items():
            sums[task] += losses[task] * len(rows)
            counts[task] += len(rows)
    seconds, examples = time.perf_counter() - begun, sum(counts.values())
    found = {f"train.{task}.loss": sums[task] / counts[task] for task in counts}
    return found | {"train.loss": sum(sums.values()) / examples, "time.examples_per_second": examples / seconds}


def gradients(run: Run, step: Step, rng: np.random.Generator) -> dict[str, float]:
    """Give the model the gradient of a step, a batch of one task or of each; the losses without weights."""
    world, losses, apart = run.trial.world, {}, {}
    for task, rows in step.items():
        [losses[task]] = sum_numbers([backward(run, task, rows)], world, run.trial.device)
        if run.balance.apart:
            sum_gradients(run.model.parameters(), world)
            apart[task] = taken(run.model)
    if run.balance.apart:
        run.balance.combine(run.model, apart, losses, build.shared(run.model), rng)
    else:
        sum_gradients([*run.model.parameters(), *run.balance.parameters()], world)
    return losses


def backward(run: Run, task: str, batch: Rows) -> float:
    """Add the gradient of a task's weighted loss on this process's share of a batch; what that adds to the mean loss.

    The share goes through in `accumulate` parts, each weighed by its rows, which is the same gradient.
    """
    trial, inputs, total = run.trial, run.inputs["train"][task], 0.0
    size = max(1, trial.config.train.batch_size // (trial.world.size * trial.accumulate))
    for rows in in_parts(share(batch, trial.world), size):
        with products(trial.config.train.products):
            answers = run.model.answer(task, *batch_vectors(run.model, inputs, rows, trial.device))
            loss = task_loss(inputs.settings.loss_name, answers, inputs.targets[rows])
            weighted = run.balance.weighted(task, loss) * (len(rows) / len(batch))
            if weighted.requires_grad:  # not where a task has nothing that learns yet
                weighted.backward()  # type: ignore[no-untyped-call]
        total += loss.item() * len(rows) / len(batch)
    return total


def update(run: Run, step: int, total: int) -> None:
    """Change the weights by the gradients of step `step` (from 0) of `total`."""
    settings = run.trial.config.train
    if settings.grad_clip:
        optim.clip_gradient(run.model, settings.grad_clip)
    optim.set_lr(run.optimizer, settings.lr * optim.lr_factor(step, total, settings.schedule, settings.warmup_ratio))
    run.optimizer.step()
    run.optimizer.zero_grad()


def epoch_scores(run: Run) -> dict[str, float]:
    """The present weights on select; they are kept if no earlier ones were better."""
    trial, config = run.trial, run.trial.config
    found = {name: scores(answered(trial, run.model, one)) for name, one in run.inputs["select"].items()}
    own = {name: values["score"] for name, values in found.items()}
    joined = joint_value(own, config.tasks)
    probed = None
    if config.probe.each_epoch:
        probed = value(probe_score(config.probe, run.model, run.encoder, "select", trial.device))
    run.progress.judge(joined, own, probed, run.model)
    values = {f"epoch.{name}.{what}": value for name, each in found.items() for what, value in each.items()}
    return values | {"epoch.score": joined}


def answered(trial: Trial, model: MultitaskModel, inputs: TaskInputs) -> dict[str, Scored]:
    """What the model answers to a split of a task, by what scores it: the task's own score is the first."""
    return task_scores(inputs, predict_all(model, inputs, max(1, PREDICTED // trial.accumulate), trial.device))


def report(run: Run, measured: dict[str, float]) -> Report:
    """What the engine is told. The state is all that `begin` needs to go on, and `kept_model` to end."""
    trained = sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad)
    metrics = measured | run.progress.metrics() | build.sized(run.model)
    metrics |= {"open.layers": run.opened.layers, "open.parameters": trained}
    metrics |= {f"balance.{name}.weight": value for name, value in run.balance.weights().items()}

    def state() -> State:
        return {
            "progress": run.progress.state(),
            "weights": learning(run.model),
            "balance": run.balance.state(),
            "optimizer": optim.state(run.optimizer),
        }

    return Report(run.progress.epoch, {name: float(value) for name, value in metrics.items()}, state)


def kept_model(trial: Trial, state: State) -> tuple[Encoder, MultitaskModel]:
    """The encoder's tokenizer and the model with the weights that are kept; what never learned is as it was."""
    encoder, model = built(trial)
    overlay(model, progress.restored(state["progress"]).kept)
    return encoder, model


def evaluate(trial: Trial, state: State) -> Evaluation:
    """The kept weights on every task's report split and further ones, the vectors by themselves, and what all costs."""
    torch.set_num_threads(trial.threads)
    config: Config = trial.config
    encoder, model = kept_model(trial, state)
    inputs = rested(trial, encoder, all_inputs(trial, encoder, "report"), config.freezing.rests)
    found = {name: answered(trial, model, one) for name, one in inputs.items()}
    joined, own = joint(found, config.tasks), {name: scores(each)["score"] for name, each in found.items()}
    for name, split in [(name, split) for name, task in config.tasks.items() for split in also_of(task.data)]:
        more = load_inputs(config, name, "report", encoder, trial.device, split)
        found[f"{split} {name}"] = answered(trial, model, more)
    others = {f"{name} {statistic}": one for name, each in found.items() for statistic, one in each.items()}
    if config.probe.enabled:
        others["probe spearman"] = probe_score(config.probe, model, encoder, "report", trial.device)
    metrics = {"report.score": joint_value(own, config.tasks)} | {
        f"report.{n}": value(one) for n, one in others.items()
    }
    metrics |= build.served_costs(config, model, encoder, trial.threads)
    return Evaluation(metrics, joined.predictions, joined.targets, joined.statistic, others)


def export(trial: Trial, state: State, folder: Path) -> dict[str, Any]:
    """Write model, tokenizer and labels; what the registry says of them."""
    encoder, model = kept_model(trial, state)
    return build.export_model(trial.config, model, encoder, folder, build.sample(trial.config))


def inspect(config: Config) -> DataFacts:
    """Facts about the data. Raises UserError with everything that would keep a trial from starting."""
    return multitask_facts(config, check_encoder(config.encoder) or build.problems(config))
