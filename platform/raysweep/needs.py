"""What a configuration needs of its machine, compared with what the machine has. Pure, but for `this_machine`.

Every requirement says `by` which settings it is asked for, as a sweep file names them.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

from packaging.version import Version

from raysweep import hardware
from raysweep.hardware import Gpu

BFLOAT16_CAPABILITY = (8, 0)  # since Ampere: NVIDIA, CUDA C++ Programming Guide, "Compute Capabilities"
NO_GPU = "no NVIDIA GPU is seen"
NOT_GIVEN = "a trial gets no GPU ('resources.gpu' is 0)"


@dataclass(frozen=True, slots=True)
class Machine:
    """What requirements are compared with. `versions` gives a package's version, None if it is not installed."""

    gpus: tuple[Gpu, ...]
    memory_gb: float
    processor_bfloat16: bool
    versions: Callable[[str], str | None]

    def no_cuda(self, gpu: float) -> str | None:
        """Why a trial that gets so many GPUs cannot use CUDA, or None."""
        torch = self.versions("torch")
        if not gpu:  # first, for the process of such a trial sees none of the machine's
            return NOT_GIVEN
        if not self.gpus:
            return NO_GPU
        return f"torch {torch} is built without it" if torch and Version(torch).local == "cpu" else None


class Requirement(Protocol):
    """One thing that a configuration needs."""

    @property
    def by(self) -> tuple[str, ...]:
        """The settings that ask for it."""

    def __str__(self) -> str: ...

    def lack(self, machine: Machine, gpu: float) -> str | None:
        """Why a trial that gets `gpu` GPUs of this machine does not have it, or None."""


@dataclass(frozen=True, slots=True)
class Cuda:
    """A GPU that torch can use."""

    by: tuple[str, ...]

    def __str__(self) -> str:
        return "CUDA"

    def lack(self, machine: Machine, gpu: float) -> str | None:
        return machine.no_cuda(gpu)


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """So many GB (10^9 bytes) on one GPU; of a GPU that trials share, each has its part."""

    gb: float
    by: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.gb:g} GB of GPU memory"

    def lack(self, machine: Machine, gpu: float) -> str | None:
        if reason := machine.no_cuda(gpu):
            return reason
        most = max(one.memory_gb for one in machine.gpus) * min(1.0, gpu)
        return None if most >= self.gb else f"a trial's GPU has {most:.1f} GB"


@dataclass(frozen=True, slots=True)
class Memory:
    """So many GB (10^9 bytes) of main memory, for this one trial; what others take beside it is not counted."""

    gb: float
    by: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.gb:g} GB of memory"

    def lack(self, machine: Machine, gpu: float) -> str | None:
        return None if machine.memory_gb >= self.gb else f"this machine has {machine.memory_gb:.1f} GB"


@dataclass(frozen=True, slots=True)
class Library:
    """An installed package, by its name in the registry, of at least a version."""

    name: str
    by: tuple[str, ...]
    at_least: str | None = None

    def __str__(self) -> str:
        return f"the library {self.name}" + (f" {self.at_least} or newer" if self.at_least else "")

    def lack(self, machine: Machine, gpu: float) -> str | None:
        found = machine.versions(self.name)
        if found is None:
            return "it is not installed"
        old = self.at_least is not None and Version(found) < Version(self.at_least)
        return f"{found} is installed" if old else None


@dataclass(frozen=True, slots=True)
class Bfloat16:
    """Arithmetic in bfloat16 where the trial trains: on its GPU, or else on the processor. An emulation is none."""

    by: tuple[str, ...]
    _where: ClassVar = {True: "no GPU here computes in it (compute capability 8.0)", False: "the processor emulates it"}

    def __str__(self) -> str:
        return "bfloat16"

    def lack(self, machine: Machine, gpu: float) -> str | None:
        if gpu and (reason := machine.no_cuda(gpu)):
            return reason
        able = any(one.capability >= BFLOAT16_CAPABILITY for one in machine.gpus) if gpu else machine.processor_bfloat16
        return None if able else self._where[bool(gpu)]


@cache
def this_machine() -> Machine:
    """This machine as it is when first asked."""
    return Machine(hardware.gpus(), hardware.memory_gb(), hardware.processor_has_bfloat16(), hardware.installed)


def lacking(needs: Sequence[Requirement], gpu: float) -> list[tuple[Requirement, str]]:
    """The requirements that a trial with `gpu` GPUs does not have on this machine, each with the reason.

    The machine is looked at only if anything is needed.
    """
    found = ((need, need.lack(this_machine(), gpu)) for need in needs)
    return [(need, reason) for need, reason in found if reason is not None]


def not_here(config: Any, gpu: float) -> list[tuple[Requirement, str]]:
    """What a typed configuration with `needs` lacks on this machine, each in a sentence."""
    return [(need, _sentence(config, need, reason)) for need, reason in lacking(config.needs, gpu)]


def _sentence(config: Any, need: Requirement, reason: str) -> str:
    settings = [f"{name}={json.dumps(_value(config, name), default=str)}" for name in need.by]
    asking = f"{', '.join(settings)} ask{'' if settings[1:] else 's'}" if settings else "the recipe asks"
    return f"not here, because {asking} for {need}, and {reason}"


def _value(config: Any, name: str) -> Any:
    """The setting of this dotted name, the recipe's default included; None within a group that is null."""
    for part in name.split("."):
        if config is None:
            break
        config = config[part] if isinstance(config, dict) else getattr(config, part)
    return config
