"""Runs the real command in a process of its own, on the toy recipe."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from raysweep.journal import FILE, Record, records

ROOT = Path(__file__).parents[2]
QUIET = ["--set", "tracking.mlflow.enabled=false", "--set", "tracking.wandb.mode=disabled"]
TOY = """
name: toy
recipe: toy
seed: 5
space:
  quality: {uniform: [0.0, 1.0]}
  seconds: 0.05
objectives: [{metric: score}]
budget: {trials: 10}
references: {low: {quality: 0.1}}
confirm: {seeds: [1, 2]}
resources: {max_parallel: 2}
"""


def toy_file(folder: Path, text: str = TOY) -> Path:
    path = folder / "toy.yaml"
    path.write_text(text)
    return path


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """The command in a session of its own, so that a signal meets nobody else."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/recipes"), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "raysweep.cli", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run(*arguments: object, cwd: Path, timeout: float = 120) -> tuple[int, str]:
    """Exit code and output of the command."""
    process = start(*arguments, cwd=cwd)
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def answer(code: str, *arguments: object, cwd: Path) -> str:
    """The last line that Python code prints in a fresh process, which no other test has pointed at a registry."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    quickly = "import atexit, gc; gc.disable(); atexit.register(gc.freeze)\n"  # searches for garbage take seconds
    command = [sys.executable, "-c", quickly + code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def wait_for(folder: Path, enough: Callable[[list[Record]], bool], process: subprocess.Popen[str]) -> list[Record]:
    """The journal as soon as it holds enough. Fails when the process ends before, with what it said."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        found = records(folder / FILE) if (folder / FILE).exists() else []
        if enough(found):
            return found
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        time.sleep(0.02)
    raise AssertionError(f"the journal of {folder} never held enough")


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal; the process may be gone by then."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
