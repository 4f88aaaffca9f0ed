"""perforatedai 3.2.9 as a library: no prompts, nothing printed, no files outside one folder.

The package keeps its settings and its one tracker in globals of its own, also between forward and backward. A session
puts its own there whenever it is used and leaves them there, so sessions may take turns in a process but not run in
two threads. Importing this module imports the package (0.9 s; it sets matplotlib's backend to Agg).
"""

import builtins
import io
import math
import os
import pdb  # noqa: T100  replaced while perforatedai runs, because it opens the debugger on its errors
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from trainables.parts.dendrites.layer import ACTIVATIONS
from trainables.parts.dendrites.settings import DendriteSettings
from trainables.parts.state import arrays, tensors

with redirect_stdout(io.StringIO()):
    from perforatedai import globals_perforatedai as GPA
    from perforatedai import utils_perforatedai as UPA

TRACKER = "tracker_string"  # a buffer that perforatedai adds for its files


class PerforatedError(RuntimeError):
    """perforatedai gave up: it called for its debugger, for input, or for the end of the process."""


class Session:
    """The layers that one trial perforates, held in `head` under the names layer0, layer1, ..."""

    def __init__(self, settings: DendriteSettings, layers: Sequence[nn.Linear], seed: int, folder: Path) -> None:
        self._seed, self._reports = seed, 0
        self._folder = folder.absolute() / "perforatedai"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._settings = _configured(settings, layers)
        self._tracker: Any = []  # as perforatedai itself has it before its first model
        self.head = nn.Module()
        for index, layer in enumerate(layers):
            self.head.add_module(f"layer{index}", layer)
        with self._guarded():
            # A save_name with a slash is refused here, but works once it is set afterwards.
            UPA.perforate_model(self.head, save_name="perforatedai", maximizing_score=True, making_graphs=False)
            self._settings.set_save_name(str(self._folder))

    @property
    def modules(self) -> list[Any]:
        """The perforated layers, in the order given."""
        return list(self.head.children())

    @property
    def best_file(self) -> Path:
        return self._folder / "best_model.pt"

    def install(self) -> None:
        """Make perforatedai's globals this session's; its modules read them whenever they compute."""
        GPA.pc, GPA.pai_tracker = self._settings, self._tracker

    def report(self, score: float) -> tuple[bool, bool]:
        """Whether the head was changed (put back at its best, then perhaps grown), and whether that was the end."""
        self._reports += 1
        score = score if math.isfinite(score) else -1e30  # a single NaN would spoil its running score
        score = score or 1e-12  # 0 means "no score yet" to it
        with self._guarded():
            # It reads the learning rate of an optimizer for its own record; ours needs no entry there.
            self._tracker.set_optimizer_instance(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.0))
            _, changed, done = self._tracker.add_validation_score(score, self.head)
        return bool(changed), bool(done)

    def rewind(self) -> None:
        """Put the head and the tracker back at their best."""
        with self._guarded():
            UPA.load_system(self.head, str(self._folder), "best_model", switch_call=True)

    def state(self) -> dict[str, Any]:
        """Weights, tracker, and the file of the best weights, which perforatedai itself reads back."""
        with self._guarded():
            tracker = self._tracker.to_string()
        weights = {name: value for name, value in self.head.state_dict().items() if name != TRACKER}
        best = np.frombuffer(self.best_file.read_bytes(), np.uint8) if self.best_file.exists() else None
        return {"reports": self._reports, "weights": arrays(weights), "tracker": tracker, "best": best}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`, whatever dendrites the head has now."""
        self._reports = state["reports"]
        if state["best"] is not None:
            self.best_file.write_bytes(state["best"].tobytes())
        weights = tensors(state["weights"])
        with self._guarded():
            if any(name.endswith("dendrite_storage_shape") for name in weights):
                UPA.load_net_from_dict(self.head, weights | {TRACKER: UPA.string_to_tensor(state["tracker"])})
                self._tracker.reset_module_vector(self.head, load_from_restart=False)
            else:  # nothing has been trained yet
                self.head.load_state_dict(weights, strict=False)
            self._tracker.from_string(state["tracker"])
            self._tracker.saved_time, self._tracker.loaded = time.time(), True

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Run perforatedai with this session's globals, and turn its ways of giving up into exceptions."""
        rank = os.environ.pop("RANK", None)  # a rank above 0 would write no files, yet read them
        with ExitStack() as stack:
            said = stack.enter_context(redirect_stdout(io.StringIO()))
            stack.enter_context(_replaced(pdb, "set_trace", _refuse))
            stack.enter_context(_replaced(builtins, "input", _refuse))
            stack.enter_context(torch.random.fork_rng(devices=[]))
            seed = np.random.SeedSequence((self._seed, self._reports)).generate_state(1)[0]
            torch.default_generator.manual_seed(int(seed))  # new dendrites are drawn from it, on the CPU
            self.install()
            try:
                yield
            except (SystemExit, PerforatedError) as error:
                raise PerforatedError(f"perforatedai gave up: {said.getvalue()}") from error
            finally:
                self._tracker = GPA.pai_tracker
                if rank is not None:
                    os.environ["RANK"] = rank


def _configured(settings: DendriteSettings, layers: Sequence[nn.Linear]) -> Any:
    """perforatedai's settings object for `settings`."""
    chosen = GPA.PAIConfig()
    chosen.get_run_config_path = lambda: None  # else settings of an earlier run in the current folder come back
    relative = settings.threshold_mode == "relative"
    values = {
        "configuration_confirmed": True,  # else a menu in the terminal
        "unwrapped_modules_confirmed": True,
        "testing_dendrite_capacity": False,  # else a dendrite after every step
        "silent": True,
        "test_saves": False,
        "find_best_lr": False,
        "dashboard_events_enabled": False,
        "perforated_backpropagation": False,  # the method that needs a licence
        "device": layers[0].weight.device,
        "d_type": layers[0].weight.dtype,
        "module_ids_to_perforate": [f".layer{index}" for index in range(len(layers))],
        "switch_mode": chosen.DOING_HISTORY if settings.switch == "history" else chosen.DOING_FIXED_SWITCH,
        "n_epochs_to_switch": settings.patience,
        "fixed_switch_num": settings.every,
        "max_dendrites": settings.max_dendrites,
        "max_dendrite_tries": settings.max_tries,
        "improvement_threshold": settings.threshold if relative else 0.0,
        "improvement_threshold_raw": 0.0 if relative else settings.threshold,
        "candidate_weight_initialization_multiplier": settings.init_scale,
        "pai_forward_function": ACTIVATIONS[settings.activation],
    }
    for name, value in values.items():
        assert hasattr(chosen, f"_{name}"), name  # a setter for a name that is not there does nothing
        getattr(chosen, f"set_{name}")(value)
    return chosen


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise PerforatedError


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
