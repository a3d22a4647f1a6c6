"""How long to wait before the next try."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

SETTLED: Final = timedelta(seconds=30)
"""What lived so long has started well: its end is a first one."""


@dataclass(slots=True)
class Backoff:
    """Doubles from `first` to `longest`; starts over after something that lived for SETTLED.

    With `at_once` there is no wait after the first end, and only then `first`.
    """

    first: timedelta
    longest: timedelta
    tries: int = 0
    at_once: bool = False

    def after(self, lived: timedelta) -> timedelta:
        """How long to wait, after something that lived so long has ended."""
        self.tries = 0 if lived >= SETTLED else self.tries
        self.tries += 1
        waits = self.tries - self.at_once
        return min(self.longest, self.first * (1 << min(waits - 1, 16))) if waits else timedelta()


def restarts(*, at_once: bool = False) -> Backoff:
    """For processes. The first wait is not zero, so that a program that cannot start leaves room for the others.

    But for the one that all others wait for: that is started again `at_once`.
    """
    return Backoff(first=timedelta(seconds=0.5), longest=timedelta(seconds=10), at_once=at_once)


def reconnects() -> Backoff:
    """For the control plane, which starts again within a second or two."""
    return Backoff(first=timedelta(seconds=0.1), longest=timedelta(seconds=1))


def jittered(wait: timedelta, chance: Callable[[], float] = random.random) -> timedelta:
    """Half of it to all of it, so that a thousand agents do not come back at once."""
    return wait * (0.5 + chance() / 2)
