"""Requirements beside machines: what is lacking, and in which words."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep import needs
from raysweep.hardware import Gpu
from raysweep.needs import Bfloat16, Cuda, GpuMemory, Library, Machine, Memory, Requirement, lacking, not_here

BY = ("quant",)
OLD, NEW = Gpu(0, "GPU-a", "old", 16.0, (7, 5)), Gpu(1, "GPU-b", "new", 80.0, (9, 0))


def machine(*gpus: Gpu, torch: str | None = "2.13.0+cu128", bfloat16: bool = False, **packages: str) -> Machine:
    versions: dict[str, str | None] = {"torch": torch, **packages}
    return Machine(gpus, memory_gb=32.0, processor_bfloat16=bfloat16, versions=versions.get)


@pytest.mark.parametrize(
    ("need", "has", "gpu", "lack"),
    [
        (Cuda(BY), machine(OLD), 1, None),
        (Cuda(BY), machine(OLD), 0.5, None),
        (Cuda(BY), machine(), 1, "no NVIDIA GPU is seen"),
        (Cuda(BY), machine(OLD, torch="2.13.0+cpu"), 1, "torch 2.13.0+cpu is built without it"),
        (Cuda(BY), machine(OLD, torch="2.13.0"), 1, None),
        (Cuda(BY), machine(OLD), 0, "a trial gets no GPU ('resources.gpu' is 0)"),
        (Cuda(BY), machine(), 0, "a trial gets no GPU ('resources.gpu' is 0)"),
        (GpuMemory(80, BY), machine(OLD, NEW), 1, None),
        (GpuMemory(80, BY), machine(OLD, NEW), 4, None),
        (GpuMemory(80.5, BY), machine(OLD, NEW), 4, "a trial's GPU has 80.0 GB"),
        (GpuMemory(41, BY), machine(NEW), 0.5, "a trial's GPU has 40.0 GB"),
        (GpuMemory(1, BY), machine(), 1, "no NVIDIA GPU is seen"),
        (Memory(32, BY), machine(), 0, None),
        (Memory(32.1, BY), machine(), 0, "this machine has 32.0 GB"),
        (Library("peft", BY), machine(peft="0.1"), 0, None),
        (Library("peft", BY), machine(), 0, "it is not installed"),
        (Library("peft", BY, "0.9"), machine(peft="0.10.1"), 0, None),  # not as text
        (Library("peft", BY, "0.10"), machine(peft="0.9"), 0, "0.9 is installed"),
        (Library("peft", BY, "0.10"), machine(peft="0.10.0rc1"), 0, "0.10.0rc1 is installed"),
        (Bfloat16(BY), machine(bfloat16=True), 0, None),
        (Bfloat16(BY), machine(NEW), 0, "the processor emulates it"),
        (Bfloat16(BY), machine(OLD, NEW), 1, None),
        (Bfloat16(BY), machine(OLD, bfloat16=True), 1, "no GPU here computes in it (compute capability 8.0)"),
        (Bfloat16(BY), machine(bfloat16=True), 1, "no NVIDIA GPU is seen"),
    ],
)
def test_what_a_machine_lacks(need: Requirement, has: Machine, gpu: float, lack: str | None) -> None:
    assert need.lack(has, gpu) == lack


@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_more_memory_never_lacks_where_less_does_not(small: float, large: float) -> None:
    small, large = sorted((small, large))
    if Memory(large, BY).lack(machine(), 0) is None:
        assert Memory(small, BY).lack(machine(), 0) is None


def test_the_words_name_the_settings_that_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "this_machine", machine)
    asked = (Cuda(("quant",)), Library("peft", ("tuning.kind", "quant"), "0.9"), GpuMemory(6, ()), Memory(1, BY))
    tasks = {"topic": SimpleNamespace(weight=2)}
    config = SimpleNamespace(quant="int8", tuning=SimpleNamespace(kind="lora"), needs=asked, tasks=tasks, cut=None)
    assert [words for _, words in not_here(config, 1)] == [
        'not here, because quant="int8" asks for CUDA, and no NVIDIA GPU is seen',
        'not here, because tuning.kind="lora", quant="int8" ask for the library peft 0.9 or newer,'
        " and it is not installed",
        "not here, because the recipe asks for 6 GB of GPU memory, and no NVIDIA GPU is seen",
    ]
    config.needs = (Bfloat16(("tasks.topic.weight", "cut.depth")),)  # an entry of a mapping; a group that is null
    ((_, words),) = not_here(config, 0)
    assert words.startswith("not here, because tasks.topic.weight=2, cut.depth=null ask for bfloat16, and")


def test_the_machine_is_looked_at_only_for_a_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(needs, "this_machine")
    assert lacking((), gpu=1) == []
    with pytest.raises(NameError):
        lacking((Cuda(BY),), gpu=1)


def test_this_machine_has_memory_and_libraries() -> None:
    here = needs.this_machine()
    assert Memory(0.1, BY).lack(here, 0) is None
    assert Library("pytest", BY, "1.0").lack(here, 0) is None
    assert Library("no-such-library", BY).lack(here, 0) == "it is not installed"
