"""What the programs of this room share: how they are told to end."""

import asyncio
import resource
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from mesh.agent.departure import Departure

DEPARTURES: Final = {
    signal.SIGTERM: Departure.LEAVES,
    signal.SIGINT: Departure.LEAVES,
    signal.SIGUSR1: Departure.MESH_ENDS,
}

Result = TypeVar("Result")


def departure_on_signals() -> asyncio.Future[Departure]:
    """Comes with the first signal. The second one cancels the calling task."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    departure: asyncio.Future[Departure] = loop.create_future()

    def take(number: signal.Signals) -> None:
        if not departure.done():
            departure.set_result(DEPARTURES[number])
        elif task:
            task.cancel()

    for number in DEPARTURES:
        loop.add_signal_handler(number, take, number)
    return departure


def leave_no_core_file() -> None:
    """For this process, and for those it starts unless they raise their limit: keys are in its memory and in Envoy's.

    One byte is too small for a core file. On Linux it also keeps the kernel from giving one to a program, which it does
    with a limit of 0 (fs/coredump.c).
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (1 if most == resource.RLIM_INFINITY else min(1, most), most))


async def unless(departure: asyncio.Future[Departure], work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of `work`; None when the departure comes first, and then `work` is cancelled."""
    task = asyncio.ensure_future(work)
    either: set[asyncio.Future[Any]] = {task, departure}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
