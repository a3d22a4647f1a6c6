"""What the tests with real processes share."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import psutil
import pytest

Eventually = Callable[[Callable[[], object]], Awaitable[None]]

DEADLINE = 20.0


@pytest.fixture
def eventually() -> Eventually:
    """`await eventually(condition)` returns as soon as the condition holds, and fails when it never does."""

    async def wait(condition: Callable[[], object]) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"not within {DEADLINE} s"
            await asyncio.sleep(0.02)

    return wait


@pytest.fixture
def running() -> Callable[[int], bool]:
    """Whether a process still runs; a zombie does not."""

    def runs(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return runs
