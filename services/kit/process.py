"""The life of a service's process: settings, log, signals, exit code."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from kit import logging, settings
from kit.errors import StartError
from kit.settings import Settings

Main = Callable[[Settings, asyncio.Event], Awaitable[None]]


def run(name: str, main: Main) -> None:
    """Runs `main(settings, stopping)`; SIGTERM and SIGINT set `stopping`.

    Exits 1, with one line that says why, when it cannot start.
    """
    try:
        read = settings.read(os.environ)
        logging.configure(read.log_level, read.log_format)
        asyncio.run(until_signal(main, read))
    except StartError as error:
        sys.exit(f"{name}: {error}")


async def until_signal(main: Main, read: Settings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # A second one does nothing: Ctrl-C reaches a whole group of processes, and a supervisor then sends SIGTERM too.
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await main(read, stopping)
