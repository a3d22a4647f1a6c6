"""One notification for any number of readers."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta


class Changes:
    """Counts changes and wakes whoever waits for them.

    Each reader remembers the number that it has seen, so a burst costs it one wake-up, a slow reader finds the
    newest state instead of a backlog, and nobody can miss a change that came while it was busy.
    """

    def __init__(self) -> None:
        self._number = 0
        self._next: asyncio.Event | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def number(self) -> int:
        """How many changes there have been."""
        return self._number

    def notify(self) -> None:
        self._number += 1
        if self._next:
            self._next.set()
            self._next = None
        for listener in self._listeners:
            listener()

    def also(self, listener: Callable[[], None]) -> None:
        """Calls `listener` at each change from now on, in the middle of it: it must not block, nor look at anything."""
        self._listeners.append(listener)

    async def after(self, seen: int, within: timedelta | None = None) -> int:
        """The present number, as soon as it is higher than `seen`, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if within is None else within.total_seconds()):
                while self._number <= seen:
                    self._next = self._next or asyncio.Event()
                    await self._next.wait()
        return self._number
