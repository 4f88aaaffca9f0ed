"""What a machine has, from a driver's tool, a processor's flags and a container's limits as they are written."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep import hardware
from raysweep.hardware import Gpu, gpus, installed, memory_gb, processor_has_bfloat16, visible

TOLD = """\
0, GPU-aaaa, Model A, 81920, 9.0
1, GPU-bbbb, Model B, 16384, 7.5
2, GPU-bbcc, Model C, [N/A], [N/A]
"""
A = Gpu(0, "GPU-aaaa", "Model A", 85.89934592, (9, 0))


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the driver's tool, with three GPUs."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "told").write_text(TOLD)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\n[ "$1" = --query-gpu={hardware.QUERY} ] && cat {tmp_path}/told\n')
    tool.chmod(0o755)
    return tool


def test_gpus_are_what_the_driver_tells(tool: Path) -> None:
    assert gpus() == (
        A,
        Gpu(1, "GPU-bbbb", "Model B", 17.179869184, (7, 5)),
        Gpu(2, "GPU-bbcc", "Model C", 0.0, (0, 0)),
    )


def test_without_driver_or_answer_there_are_none(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool.write_text("#!/bin/sh\necho 'no devices were found'\n")
    assert gpus() == ()
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpus() == ()
    monkeypatch.setenv("PATH", "")
    assert gpus() == ()


@dataclass
class Named:
    index: int
    uuid: str


FOUND = [Named(0, "GPU-aaaa"), Named(1, "GPU-bbbb"), Named(2, "GPU-bbcc")]


@pytest.mark.parametrize(
    ("allowed", "left"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("0,7,1", [0]),  # CUDA stops at the first that it does not know
        ("GPU-bbc", [2]),
        ("NoDevFiles", []),
    ],
)
def test_the_environment_hides_gpus(allowed: str | None, left: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert [gpu.index for gpu in visible(FOUND)] == left


def test_a_hidden_gpu_is_none_of_this_processes(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpus() == (A,)


def test_memory_is_the_machines_or_less_in_a_container(tmp_path: Path) -> None:
    whole = memory_gb(limits=())
    assert whole > 0
    limit = tmp_path / "memory.max"
    for text, expected in (("max\n", whole), ("1500000000\n", 1.5), (f"{10**18}\n", whole)):
        limit.write_text(text)
        assert memory_gb([tmp_path / "absent", limit]) == pytest.approx(expected)


@given(st.sets(st.sampled_from(["fpu", "avx512f", "avx512_bf16", "amx_bf16", "bf16", "bf16x", "asimd"])))
def test_a_processor_tells_bfloat16_by_its_flags(tmp_path_factory: pytest.TempPathFactory, flags: set[str]) -> None:
    cpuinfo = tmp_path_factory.mktemp("proc") / "cpuinfo"
    for name in ("flags", "Features"):  # x86, Arm
        cpuinfo.write_text(f"processor\t: 0\n{name}\t\t: {' '.join(sorted(flags))}\n")
        assert processor_has_bfloat16(cpuinfo) == bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    assert not processor_has_bfloat16(cpuinfo.parent / "absent")


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert installed("no-such-package-here") is None
    assert installed("pytest") == pytest.__version__
