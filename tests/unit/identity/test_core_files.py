"""Nothing that a process holds in memory gets into a file by its end."""

import subprocess
import sys

import pytest

SAYS = """
import os, resource
from mesh.identity import core_files
core_files.forbid()
os.setuid(65534) if os.getuid() == 0 else None
core_files.forbid()  # another user id makes a process as it was before
print(resource.getrlimit(resource.RLIMIT_CORE))
open("/proc/self/mem", "rb")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hides the memory of a process from its owner")
def test_a_process_writes_no_core_file_and_its_memory_is_not_for_its_owner() -> None:
    done = subprocess.run([sys.executable, "-c", SAYS], capture_output=True, text=True, check=False)

    assert done.stdout == f"{(0, 0)}\n", done.stderr
    assert "PermissionError" in done.stderr
