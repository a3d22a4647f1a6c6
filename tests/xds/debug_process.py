"""`proa debug xds` as a process of its own, so that its memory can be measured."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from tests.mesh.running import PROA


@dataclass(frozen=True, slots=True)
class DebugProcess:
    process: psutil.Process
    xds: str
    api: str

    def memory(self) -> int:
        """Bytes in RAM."""
        resident: int = self.process.memory_info().rss
        return resident


@contextmanager
def debug_process() -> Iterator[DebugProcess]:
    """One that serves, on free ports."""
    command = [*PROA, "debug", "xds", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            _, _, xds, _, api = process.stdout.readline().split()
            yield DebugProcess(psutil.Process(process.pid), xds, api)
        finally:
            process.kill()
