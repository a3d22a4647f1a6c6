"""What a first configuration is written in is used again for the next one: measured in a process of its own."""

import ctypes
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from mesh.controlplane.memory import settle

if sys.argv[1] == "settled":
    settle()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    [b"x" * 800_000 for _ in range(4)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """How many pages the kernel had to give while buffers of a first configuration were filled, a few at a time."""
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no such choice")
def test_large_buffers_are_kept_for_the_next() -> None:
    assert faults("settled") * 10 < faults("as it began")
