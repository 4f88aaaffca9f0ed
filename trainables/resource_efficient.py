"""Resource-efficient models: any encoder or decoder tuned whole, by LoRA or at its head, and what that takes.

After each epoch the score on `select` decides which weights are kept. With `curve.sizes` the training set grows: each
size is trained on from the start, so that a trial is a learning curve and ASHA can stop it at a small size. With
`cross_validation.folds` each fold is held out once. Time, memory and joules are told of training and of serving.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raysweep.recipe import DataFacts
from raysweep.trial import Evaluation, Report, Scored, State, Trial
from trainables.parts import optim
from trainables.parts.batches import Rows, in_parts, length_batches
from trainables.parts.efficient import build, progress
from trainables.parts.efficient.build import Built
from trainables.parts.efficient.costs import RESOURCE_METRICS, Spent, metered
from trainables.parts.efficient.inputs import Inputs, all_logits, logits
from trainables.parts.efficient.progress import Progress, round_of
from trainables.parts.efficient.rounds import Round
from trainables.parts.efficient.settings import EfficientConfig
from trainables.parts.efficient.xnli import mean_over, read_language, xnli_facts
from trainables.parts.encoders import check_encoder, train_mode
from trainables.parts.losses import text_loss
from trainables.parts.pace import hold_memory, let_go_of_memory, products
from trainables.parts.state import tensors
from trainables.parts.task_data import Examples, also_of, read_examples
from trainables.parts.tasks import TASKS
from trainables.parts.text_inputs import EPOCH_METRICS, answered, scores
from trainables.parts.tuning.lora import plain
from trainables.parts.tuning.optimizers import new_optimizer
from trainables.parts.tuning.precision import Scaled
from trainables.parts.weights import learning, overlay

LOADER = "trainables.parts.text_predictor:load"
PREDICTED = 64  # texts that go through the model at a time where nothing is learned
METRICS = EPOCH_METRICS | RESOURCE_METRICS | {
    "select.score": "the task's own score of the weights kept if training ends now, on what this round selects by",
    "curve.*.score": "with curve.sizes: the best score on select of training with so many rows",
    "folds.score": "with cross_validation.folds: the mean of each fold's best score on what it holds out, so far",
    "folds.deviation": "the standard deviation between these folds",
    "train.loss": "mean loss of this epoch",
    "train.rows": "rows that this epoch trained on",
    "size.parameters": "parameters of the exported model",
    "size.trainable": "those that learn: of LoRA the low-rank matrices and the head",
    "size.bytes": "bytes of the exported weights: of ternary layers a quarter of a byte for each",
    "time.examples_per_second": "examples of this epoch by the seconds of its training steps",
    "time.train_seconds": "seconds spent so far in training and scoring",
}  # fmt: skip


class Config(EfficientConfig):
    """One configuration of the resource-efficient recipe."""


@dataclass(slots=True)
class Run:
    """A trial in training. `data` are all training rows, of which each round takes its own."""

    trial: Trial
    built: Built
    optimizer: torch.optim.Optimizer
    scaled: Scaled
    data: Inputs
    select: Inputs
    rounds: tuple[Round, ...]
    progress: Progress
    spent: Spent


def train(trial: Trial) -> Iterator[Report]:
    """A report after each epoch of each round; without epochs one at step 0, of the model as it starts."""
    torch.set_num_threads(trial.threads)
    hold_memory()
    let_go_of_memory()
    run, settings = begin(trial), trial.config.train
    if settings.epochs == 0 and trial.restored is None:
        yield report(run, score_epoch(run, round_of(run.rounds, 0, 0)))
    while not run.progress.over(settings.epochs * len(run.rounds), settings.patience):
        begun, epoch = time.perf_counter(), run.progress.epoch
        if epoch and epoch % settings.epochs == 0:
            start_anew(run)
        present = round_of(run.rounds, epoch, settings.epochs)
        with metered(trial.device) as meter:
            measured = train_epoch(run, present.train, epoch % settings.epochs)
            meter.count(len(present.train))
        run.spent.add(meter.usage)
        measured |= score_epoch(run, present)
        run.progress.epoch += 1
        run.progress.seconds += time.perf_counter() - begun
        yield report(run, measured)


def begin(trial: Trial) -> Run:
    """Everything that a trial trains with, as it stood if it was restored."""
    one, (examples, rounds) = build.built(trial), build.training(trial.config)
    data, select = (build.inputs(trial, one, part) for part in (examples, read_examples(trial.config.data, "select")))
    run = Run(trial, one, optimizer_of(trial, one), scaled_of(trial), data, select, rounds, Progress(), Spent())
    if trial.restored:
        run.progress = progress.restored(trial.restored["progress"])
        run.spent = Spent.restored(trial.restored["spent"])
        overlay(one.model, tensors(trial.restored["weights"]))
        optim.restore(run.optimizer, trial.restored["optimizer"])
        run.scaled.restore(trial.restored["scaled"])
    return run


def optimizer_of(trial: Trial, one: Built) -> torch.optim.Optimizer:
    """Over all that learns."""
    settings = trial.config.train
    multiples = build.multiples(trial.config)
    return new_optimizer(settings.optimizer, one.model, settings.lr, settings.weight_decay, multiples)


def scaled_of(trial: Trial) -> Scaled:
    """The numbers that products are computed in."""
    return Scaled(trial.config.train.precision, trial.device)


def start_anew(run: Run) -> None:
    """The model as it started, for another round."""
    run.built = build.built(run.trial)
    run.optimizer, run.scaled = optimizer_of(run.trial, run.built), scaled_of(run.trial)
    run.progress.waited = 0


def train_epoch(run: Run, rows: Rows, epoch: int) -> dict[str, float]:
    """One pass over the rows of a round: their mean loss, and how many went through in a second.

    Order and dropout come from the trial's seed and the round's epoch alone, so that a size within a curve is trained
    as it is by itself. A batch goes through in parts, each weighed by its rows, which is the same step.
    """
    trial, settings = run.trial, run.trial.config.train
    rng = np.random.default_rng((trial.seed, epoch))
    torch.manual_seed(int(rng.integers(2**63)))
    train_mode(run.built.model)
    batches = length_batches(run.data.texts.lengths[rows], settings.batch_size, rng)
    begun, total = time.perf_counter(), 0.0
    for step, batch in enumerate(batches, start=epoch * len(batches)):
        for part in in_parts(rows[batch], max(1, settings.batch_size // (settings.accumulate * trial.accumulate))):
            with run.scaled.autocast(), products(settings.products):
                loss = loss_of(run, part)
            run.scaled.backward(loss * (len(part) / len(batch)))
            total += loss.item() * len(part)
        update(run, step, settings.epochs * len(batches))
    seconds = time.perf_counter() - begun
    return {
        "train.loss": total / len(rows),
        "train.rows": len(rows),
        "time.examples_per_second": len(rows) / seconds,
    }


def loss_of(run: Run, rows: Rows) -> torch.Tensor:
    """The mean loss of these training rows."""
    texts, smoothing = run.data.texts, run.trial.config.train.label_smoothing
    answers = logits(run.built.model, run.data, rows, run.trial.device)
    return text_loss(texts.task.kind, answers, texts.targets[torch.from_numpy(rows)], None, smoothing)


def update(run: Run, step: int, total: int) -> None:
    """Change the weights by the gradients of step `step` (from 0) of `total`."""
    settings, model = run.trial.config.train, run.built.model
    optim.set_lr(run.optimizer, settings.lr * optim.lr_factor(step, total, settings.schedule, settings.warmup_ratio))

    def clip() -> None:
        if settings.grad_clip:
            optim.clip_gradient(model, settings.grad_clip)

    run.scaled.step(run.optimizer, clip)
    run.optimizer.zero_grad()


def score_epoch(run: Run, present: Round) -> dict[str, float]:
    """The present weights on what the round selects by; they are kept if no earlier ones of it were better."""
    select = run.select if present.held_out is None else run.data.take(present.held_out)
    found = scores(answers_of(run.trial, run.built, select))
    run.progress.judge(present.name, found["score"], run.built.model)
    return {f"epoch.{name}": value for name, value in found.items()}


def answers_of(trial: Trial, one: Built, inputs: Inputs) -> dict[str, Scored]:
    """What a model answers to a split, by what scores it: the task's own score is the first."""
    size = max(1, PREDICTED // trial.accumulate)
    return answered(inputs.texts, all_logits(one.model, inputs, size, trial.device))


def report(run: Run, measured: dict[str, float]) -> Report:
    """What the engine is told. The state is all that `begin` needs to go on, and `kept` to end."""
    metrics = measured | run.progress.metrics() | run.spent.metrics() | build.sized(run.built)
    metrics["time.train_seconds"] = run.progress.seconds

    def state() -> State:
        return {
            "progress": run.progress.state(),
            "spent": run.spent.state(),
            "weights": learning(run.built.model),
            "optimizer": optim.state(run.optimizer),
            "scaled": run.scaled.state(),
        }

    return Report(run.progress.epoch, {name: float(value) for name, value in metrics.items()}, state)


def kept(trial: Trial, state: State) -> Built:
    """The model with the weights that are kept; what never learned is as it was."""
    one = build.built(trial)
    overlay(one.model, progress.restored(state["progress"]).kept)
    return one


def evaluate(trial: Trial, state: State) -> Evaluation:
    """The exported model on the report split, further ones and every language, and what serving it costs."""
    torch.set_num_threads(trial.threads)
    config: Config = trial.config
    one = kept(trial, state)
    costs = build.costs(trial, one)
    served = Built(one.encoder, plain(one.model), one.parameters)  # type: ignore[arg-type]

    def answers(examples: Examples) -> dict[str, Scored]:
        return answers_of(trial, served, build.inputs(trial, served, examples))

    found = {"report": answers(read_examples(config.data, "report"))}
    found |= {split: answers(read_examples(config.data, "report", split)) for split in also_of(config.data)}
    found |= {language_split(name): answers(read_language(config.xnli, name)) for name in config.xnli.codes}
    metrics = {f"{split}.{name}": value for split, each in found.items() for name, value in scores(each).items()}
    return proof(config, found, metrics | costs.metrics())


def language_split(language: str) -> str:
    """What a language's test rows are called beside other splits."""
    return f"language {language}"


def proof(config: Config, found: dict[str, dict[str, Scored]], metrics: dict[str, float]) -> Evaluation:
    """What decides is the report split, or the mean over all languages if there are any; all else stands beside it."""
    task, languages = TASKS[config.data.task], [language_split(name) for name in config.xnli.codes]
    if languages:
        found[task.name] = found.pop("report")
    others = {score_name(split, name, task.score): one for split, each in found.items() for name, one in each.items()}
    first = mean_over({name: others[name] for name in languages}) if languages else others.pop(task.score)
    return Evaluation(metrics, first.predictions, first.targets, first.statistic, others)


def score_name(split: str, name: str, own: str) -> str:
    """What a score is called: a task's own one by its split alone."""
    if split == "report":
        return name
    return split if name == own else f"{split} {name}"


def export(trial: Trial, state: State, folder: Any) -> dict[str, Any]:
    """Write model, tokenizer, labels and resource_usage.yaml; what the registry says of them."""
    return build.export_model(trial, kept(trial, state), Spent.restored(state["spent"]), folder)


def inspect(config: Config) -> DataFacts:
    """Facts about the data. Raises UserError with everything that would keep a trial from starting."""
    facts = xnli_facts(config.data, config.xnli, check_encoder(config.encoder) or build.problems(config))
    build.training(config)
    return facts
