"""Processes below this one, which end with their parents but not at the very same moment."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from psutil import Process

POLL: Final = 0.02
"""Seconds between two looks: nothing tells when somebody else's child has ended."""


def families(heads: Iterable[int]) -> list["Process"]:
    """The processes with these ids, and all below them."""
    import psutil

    found: list[Process] = []
    for pid in heads:
        with suppress(psutil.NoSuchProcess):
            head = psutil.Process(pid)
            found += [head, *head.children(recursive=True)]
    return found


async def gone(processes: Iterable["Process"], within: timedelta) -> None:
    """Returns when none of them runs any more, at the latest after `within`."""
    left = list(processes)
    with suppress(TimeoutError):
        async with asyncio.timeout(within.total_seconds()):
            while left := [process for process in left if _runs(process)]:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(POLL)


def _runs(process: "Process") -> bool:
    import psutil

    with suppress(psutil.NoSuchProcess):
        # Not every init reaps what it inherits; a zombie runs no more.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
