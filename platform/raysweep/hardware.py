"""What this machine has: GPUs that a process may use, memory, number formats, and the versions of libraries.

The driver's own tool is asked for GPUs, as asking torch would start CUDA in this process.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol, TypeVar

QUERY = "index,uuid,name,memory.total,compute_cap"
CPUINFO = Path("/proc/cpuinfo")
# The limits of a control group, versions 2 and 1: a container may have less memory than its machine.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 twice, then Arm; without them the processor emulates it


class Numbered(Protocol):
    """A GPU as the driver counts and names it."""

    @property
    def index(self) -> int: ...

    @property
    def uuid(self) -> str: ...


AnyGpu = TypeVar("AnyGpu", bound=Numbered)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU; memory in GB of 10^9 bytes, `capability` as (8, 0)."""

    index: int
    uuid: str
    name: str
    memory_gb: float
    capability: tuple[int, int]


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process may use; none where there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return ()
    told = answer_of(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"])
    rows = [[cell.strip() for cell in line.split(",")] for line in (told or "").splitlines()]
    return tuple(visible([_gpu(*row) for row in rows if len(row) == len(QUERY.split(","))]))


def _gpu(index: str, uuid: str, name: str, mebibytes: str, capability: str) -> Gpu:
    major, _, minor = capability.partition(".")
    return Gpu(int(index), uuid, name, _number(mebibytes) * 2**20 / 1e9, (int(_number(major)), int(_number(minor))))


def _number(text: str) -> float:
    """Zero for what the driver does not know, such as "[N/A]"."""
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def visible(found: Sequence[AnyGpu]) -> list[AnyGpu]:
    """Those that CUDA_VISIBLE_DEVICES leaves, by index or by the beginning of a UUID, up to the first unknown one.

    Indices count in the driver's order, which is CUDA's where the GPUs are alike.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return list(found)
    left: list[AnyGpu] = []
    for name in map(str.strip, allowed.split(",")):
        match = next((gpu for gpu in found if name and (str(gpu.index) == name or gpu.uuid.startswith(name))), None)
        if match is None:
            break
        left.append(match)
    return left


def memory_gb(limits: Sequence[Path] = MEMORY_LIMITS) -> float:
    """The most memory a process can have, in GB of 10^9 bytes: the machine's, or its container's if that is less."""
    least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in limits:
        text = limit.read_text().strip() if limit.is_file() else ""
        least = min(least, int(text)) if text.isdigit() else least
    return least / 1e9


def processor_has_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor computes in bfloat16 itself; False where it does not say."""
    if not cpuinfo.is_file():
        return False
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    flags = next((told for name, _, told in lines if name.strip().lower() in ("flags", "features")), "")
    return bool(BFLOAT16_FLAGS & set(flags.split()))


def installed(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def answer_of(command: list[str]) -> str | None:
    """What a command prints, or None when it fails or takes more than 20 seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
