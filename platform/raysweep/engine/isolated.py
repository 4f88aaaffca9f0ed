"""A `Runner` in a process of its own, for recipes that leave globals behind; the same three calls."""

import multiprocessing
from multiprocessing.connection import Connection

from raysweep.engine.runner import Assignment, Outcome, Runner
from raysweep.recipe import configure, find

SECONDS_TO_CLOSE = 5.0


class ProcessLostError(Exception):
    """The trial's process ended without an answer."""


class IsolatedRunner:
    """Starts one fresh process for each trial and passes the calls on."""

    def begin(self, assignment: Assignment) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, assignment), daemon=True)
        self._process.start()
        theirs.close()

    def step(self) -> Outcome:
        """Train until the next report. Raises ProcessLostError when the process died."""
        try:
            self._ours.send("step")
            outcome = self._ours.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.join(SECONDS_TO_CLOSE)
            raise ProcessLostError(f"the trial's process ended with exit code {self._process.exitcode}") from error
        assert isinstance(outcome, Outcome)
        return outcome

    def close(self) -> None:
        self._ours.close()
        self._process.join(SECONDS_TO_CLOSE)
        if self._process.is_alive():
            self._process.kill()


def _serve(connection: Connection, assignment: Assignment) -> None:
    """The child's loop; it ends when the parent closes its side or is gone."""
    runner = Runner()
    runner.begin(assignment)
    try:
        while True:
            connection.recv()
            connection.send(runner.step())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        runner.close()


def runner_for(assignment: Assignment) -> Runner | IsolatedRunner:
    """The runner that this trial's configuration needs."""
    try:
        isolated = configure(find(assignment.recipe), assignment.config).isolated
    except Exception:  # not lost: the plain runner meets the same error and reports it as the trial's failure
        isolated = False
    return IsolatedRunner() if isolated else Runner()
