"""What tuning an encoder needs of the machine: libraries, number formats, and memory that it cannot do with less of.

Bytes of a weight while it is tuned, without activations and what a library holds beside: at least 4 as float32, 1 as
int8 or 1/2 as nf4 in the linear layers. If it learns, 4 for its gradient, and by optimizer 8 (adamw: two moments), 2
(adamw8bit) or none (adafactor: a matrix' rows and columns). What adapters and the head take is not counted.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import huggingface_hub

from raysweep.needs import Bfloat16, Cuda, GpuMemory, Library, Machine, Memory, Requirement
from raysweep.problems import UserError
from trainables.parts import encoders
from trainables.parts.encoder_files import CONFIG, FRESH, PACKAGE, encoder_folder, stamp
from trainables.parts.encoder_outline import outlined
from trainables.parts.tuning.optimizers import OptimizerName
from trainables.parts.tuning.precision import Precision

BITSANDBYTES = "0.50"  # its layers and its optimizers run on a CPU too
HELD = {"float32": 4.0, "int8": 1.0, "nf4": 0.5}
GRADIENT = 4.0
MOMENTS: dict[OptimizerName, float] = {"adamw": 8.0, "adamw8bit": 2.0, "adafactor": 0.0}


class HeldEncoder(Protocol):
    """The settings of an encoder that count here."""

    @property
    def name(self) -> str: ...
    @property
    def layers(self) -> int | None: ...
    @property
    def load_in(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Weights:
    """Parameters of an encoder as its files have it, of its layers that are kept and all before, and linear ones."""

    whole: int
    kept: int
    linear: int


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """GB (10^9 bytes) on the device that trains, and in main memory, where weights are read first."""

    gb: float
    read_gb: float
    by: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.gb:.2f} GB of memory where it trains, and {self.read_gb:.2f} GB to read the weights"

    def lack(self, machine: Machine, gpu: float) -> str | None:
        if not gpu:
            return Memory(max(self.gb, self.read_gb), self.by).lack(machine, gpu)
        return GpuMemory(self.gb, self.by).lack(machine, gpu) or Memory(self.read_gb, self.by).lack(machine, gpu)


def tuning_needs(
    encoder: HeldEncoder, kind: str, precision: Precision, optimizer: OptimizerName
) -> tuple[Requirement, ...]:
    """The requirements of these settings; memory only where the encoder's files are on this machine."""
    asked: dict[Requirement, bool] = {
        Library("bitsandbytes", ("encoder.load_in",), BITSANDBYTES): encoder.load_in != "float32",
        Library("bitsandbytes", ("train.optimizer",), BITSANDBYTES): optimizer == "adamw8bit",
        Library("peft", ("tuning.kind",)): kind == "lora",
        Cuda(("train.precision",)): precision == "fp16",
        Bfloat16(("train.precision",)): precision == "bf16",
    }
    found = tuple(need for need, is_asked in asked.items() if is_asked)
    weights = weights_of(encoder.name, encoder.layers)
    return found if weights is None else (*found, memory(weights, encoder.load_in, kind, optimizer))


def memory(weights: Weights, load_in: str, kind: str, optimizer: OptimizerName) -> TrainingMemory:
    """The least that weights, gradients and moments take."""
    taken = HELD["float32"] * (weights.kept - weights.linear) + HELD[load_in] * weights.linear
    if kind == "full":
        taken += (GRADIENT + MOMENTS[optimizer]) * weights.kept
    by = ("encoder.name", "encoder.load_in", "tuning.kind", "train.optimizer")
    return TrainingMemory(taken / 1e9, HELD["float32"] * weights.whole / 1e9, by)


def weights_of(name: str, layers: int | None) -> Weights | None:
    """Counted from its config.json; None for one that is not on this machine, or not to be built here."""
    folder = _folder_here(name.removeprefix(FRESH))  # drawn weights are as many
    return None if folder is None else _counted(folder, layers, stamp(folder))


def _folder_here(name: str) -> Path | None:
    """The folder with the config.json, without asking the hub; a wrong name is `check_encoder`'s to tell."""
    if name == "embedded":
        return None  # built, not read, and small
    if name.startswith(PACKAGE) or Path(name).expanduser().is_dir():
        try:
            folder = encoder_folder(name)
        except UserError:
            return None
        return folder if (folder / CONFIG).is_file() else None
    try:
        found = huggingface_hub.try_to_load_from_cache(name, CONFIG)
    except ValueError:  # no name that the hub could have
        return None
    return Path(found).parent if isinstance(found, str) else None


@lru_cache(maxsize=32)
def _counted(folder: Path, layers: int | None, stamp: object) -> Weights | None:
    """Built without memory for weights; `stamp` changes when the files do."""
    try:
        model = outlined(folder)
    except UserError:  # no config of an encoder, which `check_encoder` or loading tells
        return None
    model.pooler = None
    whole = encoders.count(model)
    try:
        if layers is not None:
            encoders.keep_layers(model, layers)
        stack = list(encoders.layers(model).parameters())
    except UserError:  # shared layers: what they hold is not told apart, and all might be in the fewest bytes
        stack = list(model.parameters())
    # The matrices in the layers: a norm's weights are none, and one that is no linear layer only makes this less.
    return Weights(whole, encoders.count(model), sum(weight.numel() for weight in stack if weight.ndim == 2))
