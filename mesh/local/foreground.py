"""`proa up` from its start to its end: the state folder, the signals, and what becomes of failures."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from mesh.agent.problems import for_people
from mesh.local.race import race
from mesh.local.state import State, held
from mesh.local.supervisor import THIS_MACHINE, Audience, Files, Reach, Supervisor

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SAME_SIGNAL: Final = 0.03
"""Seconds within which a second signal is the first one again: `timeout` sends it to its child and to its group."""


async def run(
    state: State,
    files: Files,
    timeout: timedelta,
    audience: Audience,
    reach: Reach = THIS_MACHINE,
    ca: Path | None = None,
) -> bool:
    """Runs a mesh until somebody ends it. Whether it ended in order: False when a second signal killed it.

    Raises MeshError when the state folder cannot be used, no document can, or not all is ready within `timeout`.
    However it ends, no process and no socket of the mesh is left.
    """
    with for_people(), held(state), _interrupts() as (first, second):
        async with asyncio.TaskGroup() as tasks:
            mesh = Supervisor(state, tasks, audience, reach, ca)
            serving = await race(mesh.serve(files, timeout), first.wait())
            if first.is_set():
                audience.note("ending: calls that run may end first; a second Ctrl-C ends everything at once")
            stopping = await race(mesh.stop(), second.wait())
            if second.is_set():
                await mesh.kill()
        audience.note("ended")
        for done in (serving, stopping):
            done.result()
        return not second.is_set()


@contextmanager
def _interrupts() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Set by the first signal, and by the second."""
    first, second = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    known_since = 0.0

    def received() -> None:
        nonlocal known_since
        if not first.is_set():
            known_since = loop.time()
            first.set()
        elif loop.time() - known_since > SAME_SIGNAL:
            second.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, received)
    try:
        yield first, second
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
