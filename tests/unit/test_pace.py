"""Memory that a process has freed stays its own."""

import subprocess
import sys

import pytest

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
