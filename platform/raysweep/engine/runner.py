"""`Runner` drives one trial's recipe where it trains, one step at a call. It knows neither Ray nor the sweep.

Each call gives an `Outcome`: what happened, as journal records without time and trial, and whether the trial is over.
What goes wrong inside a recipe is an outcome too, so the process stays warm for the next trial.
"""

import gc
import math
import os
import socket
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.engine import checkpoint
from raysweep.needs import not_here
from raysweep.predictions import journalled, save_predictions
from raysweep.problems import UserError
from raysweep.recipe import Recipe, configure, find
from raysweep.trial import Report, State, Trial

MODEL, PREDICTIONS, TRACEBACK = "model", "predictions.npz", "error.txt"
MOST_ACCUMULATION = 64  # a batch in 64 parts that still does not fit will not fit in 128


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a process needs to train one trial; plain data, so that it travels."""

    trial: str
    recipe: str
    config: dict[str, Any]
    seed: int
    sweep_folder: str
    steps: int  # the trial is complete after so many
    every: int  # steps between checkpoints
    threads: int = 1
    device: str = "cpu"
    gpu: float = 0.0  # GPUs that the trial gets; a fraction shares one
    prove: bool = False  # evaluate on the report split and export the model at the end

    @property
    def folder(self) -> Path:
        return Path(self.sweep_folder) / "trials" / self.trial


@dataclass(slots=True)
class Outcome:
    """What one call brought about: events in order, and whether the trial is over."""

    events: list[dict[str, Any]] = field(default_factory=list)
    over: bool = False

    def add(self, kind: str, **fields: Any) -> None:
        self.events.append({"kind": kind, **fields})


class Runner:
    """One process that trains trials, one after another."""

    def __init__(self) -> None:
        self._reports: Iterator[Report] | None = None

    def begin(self, assignment: Assignment) -> None:
        """Take up a trial; nothing is trained yet, so nothing can fail here but the disk."""
        self.close()
        self.assignment = assignment
        assignment.folder.mkdir(parents=True, exist_ok=True)
        self._accumulate, self._begun = 1, False
        self._last: Report | None = None

    def close(self) -> None:
        """Give the trial up; the recipe's `finally` runs."""
        if self._reports is not None:
            self._reports.close()  # type: ignore[attr-defined]
        self._reports = None

    def step(self) -> Outcome:
        """Train until the next report, or to the end of the trial."""
        outcome = Outcome()
        try:
            if not self._begun:
                return self._first_step(outcome)
            return self._next_step(outcome)
        except MemoryError as error:
            return self._shrink(error, outcome)
        except Exception as error:
            if out_of_memory(error):
                return self._shrink(error, outcome)
            return self._fail("exception", error, outcome)

    def _first_step(self, outcome: Outcome) -> Outcome:
        """Say at once that the trial began: an epoch may take minutes. A checkpoint's report is told again, for the
        driver may have died without hearing it.
        """
        self._begun = True
        self._recipe: Recipe = find(self.assignment.recipe)
        if lacks := self._lacks():
            outcome.add("started", process=os.getpid(), node=socket.gethostname(), step=0)
            return self._fail("not here", lacks, outcome)
        saved = self._restore()
        outcome.add("started", process=os.getpid(), node=socket.gethostname(), step=saved["step"] if saved else 0)
        if saved is not None:
            outcome.add("reported", step=saved["step"], metrics=saved["metrics"], seconds=saved["seconds"])
        return outcome

    def _lacks(self) -> str:
        """What this machine does not have of what the configuration needs; empty when it has all."""
        config = configure(self._recipe, self.assignment.config)
        return "; ".join(words for _, words in not_here(config, self.assignment.gpu))

    def _next_step(self, outcome: Outcome) -> Outcome:
        assert self._reports is not None
        if self._last is not None and self._last.step >= self.assignment.steps:
            return self._finish(outcome)
        begun = time.perf_counter()
        report = next(self._reports, None)
        if report is None:
            return self._finish(outcome)
        self._last, seconds = report, round(time.perf_counter() - begun, 3)
        if broken := [name for name, value in report.metrics.items() if not math.isfinite(value)]:
            return self._fail(
                "infeasible", f"{broken[0]} is {report.metrics[broken[0]]} at step {report.step}", outcome
            )
        outcome.add("reported", step=report.step, metrics=dict(report.metrics), seconds=seconds)
        complete = report.step >= self.assignment.steps
        if complete and not self.assignment.prove:
            return self._finish(outcome)
        if complete or report.step % self.assignment.every == 0:
            self._save(report, seconds)
            outcome.add("saved", step=report.step)
        return outcome

    def _finish(self, outcome: Outcome) -> Outcome:
        if self.assignment.prove:
            proof = self._prove()
            if proof is None:
                return self._fail("infeasible", "a prediction on the report split is not finite", outcome)
            outcome.events += proof
        outcome.add("finished", outcome="complete")
        outcome.over = True
        self.close()
        return outcome

    def _prove(self) -> list[dict[str, Any]] | None:
        """Open the report split and write the model that the last report holds; None when it predicts no numbers."""
        assert self._last is not None, "a recipe yields at least one report"
        state, folder = self._last.state(), self.assignment.folder
        self.close()  # frees the training state first
        trial = self._trial(state)
        evaluation = self._recipe.evaluate(trial, state)
        given = [evaluation.predictions, *(scored.predictions for scored in evaluation.others.values())]
        if not all(np.isfinite(predictions).all() for predictions in given):
            return None
        save_predictions(evaluation, folder / PREDICTIONS)
        card = self._recipe.export(trial, state, folder / MODEL)
        place = Path("trials") / self.assignment.trial
        return [
            {"kind": "opened", "split": "report"},
            {
                "kind": "evaluated",
                "metrics": dict(evaluation.metrics),
                "predictions": str(place / PREDICTIONS),
                "statistic": journalled(evaluation.statistic),
                "others": {name: journalled(scored.statistic) for name, scored in evaluation.others.items()},
                "model": str(place / MODEL),
                "card": card,
            },
        ]

    def _trial(self, restored: State | None) -> Trial:
        assignment = self.assignment
        return Trial(
            id=assignment.trial,
            config=configure(self._recipe, assignment.config),
            seed=assignment.seed,
            folder=assignment.folder,
            shared=Path(assignment.sweep_folder) / "shared",
            device=assignment.device,
            threads=assignment.threads,
            accumulate=self._accumulate,
            restored=restored,
        )

    def _save(self, report: Report, seconds: float) -> None:
        content = {
            "step": report.step,
            "metrics": report.metrics,
            "seconds": seconds,
            "accumulate": self._accumulate,
            "state": report.state(),
        }
        checkpoint.save(content, self.assignment.folder / checkpoint.FILE)

    def _restore(self) -> State | None:
        """Start the recipe's generator, from the trial's checkpoint if there is one; the checkpoint's content."""
        path = self.assignment.folder / checkpoint.FILE
        saved = checkpoint.load(path) if path.exists() else None
        state = None
        if saved:
            state, self._accumulate = saved["state"], max(self._accumulate, saved["accumulate"])
            self._last = Report(saved["step"], saved["metrics"], lambda: saved["state"])
        self._reports = self._recipe.train(self._trial(state))
        return saved

    def _shrink(self, error: BaseException, outcome: Outcome) -> Outcome:
        """Memory ran out: half the micro-batch, twice the accumulation, on from the last checkpoint."""
        if self._accumulate >= MOST_ACCUMULATION:
            return self._fail("memory", error, outcome)
        self.close()
        gc.collect()
        self._accumulate *= 2
        self._last = None
        outcome.add("adapted", accumulate=self._accumulate, reason=last_line(error))
        self._restore()
        return outcome

    def _fail(self, cause: str, error: BaseException | str, outcome: Outcome) -> Outcome:
        text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        (self.assignment.folder / TRACEBACK).write_text(text)
        outcome.add("failed", cause=cause, error=error if isinstance(error, str) else last_line(error), again=False)
        outcome.add("finished", outcome="infeasible" if cause in ("infeasible", "not here") else "failed")
        outcome.over = True
        self.close()
        return outcome


def out_of_memory(error: BaseException) -> bool:
    """Whether an accelerator or the host ran out of memory; by name, for the engine knows no torch."""
    text = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or "out of memory" in text or "can't allocate memory" in text


def last_line(error: BaseException) -> str:
    """The line that a traceback ends with, for tables; of a message of several lines, their beginning."""
    if isinstance(error, UserError):
        return str(error.problems[0])
    lines = traceback.format_exception_only(error)[-1].strip().splitlines()
    return " ".join(line.strip() for line in lines[:3])[:500]
