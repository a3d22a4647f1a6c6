"""`proa down`: end a mesh from elsewhere."""

import os
import signal
import sys
import time
from contextlib import suppress

from mesh.cli.connection import state_of
from mesh.cli.options import Format, OutputOption, ServerOption, StateOption, TimeoutOption, duration_of
from mesh.cli.output import write
from mesh.errors import StartError
from mesh.local.state import State, holder

POLL = 0.05
"""Seconds between two looks at the lock of the state folder, which its holder leaves last."""


def down(
    state: StateOption = None,
    server: ServerOption = None,
    timeout: TimeoutOption = "60s",
    output: OutputOption = Format.TABLE,
) -> None:
    """End a mesh as Ctrl-C does, and wait for it."""
    patience = duration_of(timeout).total_seconds()
    mesh = state_of(state, server)
    pid = holder(mesh)
    if pid is not None:
        _say(f"ending the mesh of process {pid}, state folder {mesh.folder}")
        started = time.monotonic()
        _end(mesh, pid, patience)
        _say(f"ended after {time.monotonic() - started:.1f} s")
    elif output is Format.TABLE:
        print(f"no mesh runs on {mesh.folder}")
    if output is not Format.TABLE:
        write({"ended": pid is not None, "pid": pid, "state": str(mesh.folder)}, output)


def _end(mesh: State, pid: int, patience: float) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while holder(mesh) == pid:
        if time.monotonic() > deadline:
            remedy = f"Wait longer with --timeout, or end it at once with `kill -KILL {pid}`"
            raise StartError(str(mesh.folder), f"process {pid} has not ended after {patience:g} s", remedy)
        time.sleep(POLL)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
