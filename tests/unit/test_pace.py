"""Memory that a process has freed stays its own; coarser products end with their block."""

import subprocess
import sys

import pytest
import torch

from trainables.parts.pace import products

PROGRAM = """
import resource
from trainables.parts.pace import hold_memory

assert hold_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    before = faults()
    bytes(bytearray(64 << 20))
    return faults() - before
use()
print(use())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_memory_that_was_used_once_is_used_again_without_page_faults() -> None:
    printed = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert int(printed) < 100  # 2 x 16384 pages of 4 KiB otherwise


def test_coarser_products_stay_close_and_end_with_the_block() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(64, 64, generator=generator), torch.randn(64, 64, generator=generator)
    exact = one @ other
    with products("bfloat16"):
        coarse = one @ other
    # bfloat16 keeps 8 bits: each of 64 terms is off by at most 2^-8 of itself, twice
    assert ((coarse - exact).abs() <= 2 * 2**-8 * (one.abs() @ other.abs())).all()
    assert torch.equal(one @ other, exact)


RELEASE = """
from pathlib import Path
from trainables.parts.pace import hold_memory, let_go_of_memory

def held():
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) // 1024

assert hold_memory()
bytes(bytearray(64 << 20))
before = held()
assert let_go_of_memory()
print(before - held())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's function")
def test_what_is_held_beyond_need_can_be_given_back() -> None:
    printed = subprocess.run([sys.executable, "-c", RELEASE], capture_output=True, text=True, check=True).stdout
    assert int(printed) > 100  # MiB: the array of bytes and its copy
