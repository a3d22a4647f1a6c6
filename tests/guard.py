"""Ends whatever a test run has left behind: `python guard.py FOLDER`, with the read end of a pipe as stdin.

All that tests start inherits XDG_RUNTIME_DIR=FOLDER, and is known by that wherever it hangs. When nobody holds the
write end of the pipe any more, pytest has ended, in order or by `kill -9`: then these are killed, and FOLDER removed.
"""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import psutil

VARIABLE = "XDG_RUNTIME_DIR"
ATTEMPTS = 5


def started_within(folder: Path) -> list[psutil.Process]:
    """All processes of the test run, but for this one."""
    return [one for one in psutil.process_iter() if one.pid != os.getpid() and _variable(one) == str(folder)]


def _variable(process: psutil.Process) -> str:
    try:
        return process.environ().get(VARIABLE, "")
    except (psutil.Error, OSError):
        return ""  # it has ended, or is somebody else's


def end(folder: Path) -> None:
    # More than once: some start others.
    for _ in range(ATTEMPTS):
        left = started_within(folder)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    end(Path(sys.argv[1]))
