"""A registry on a real state file, with clocks that a test moves."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mesh.registry.registry import Registry
from mesh.registry.store import Store
from tests.unit.registry.builders import NOON


@dataclass
class Clock:
    """`uptime` is moved by `advance`; the time of day stands still."""

    seconds: float = 0.0

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def uptime(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    def now(self) -> datetime:
        return NOON


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


Open = Callable[[], Awaitable[Registry]]


@pytest.fixture
async def opened(path: Path, clock: Clock) -> AsyncIterator[Open]:
    """`await opened()` is the registry as a control plane that has just started finds it."""
    async with AsyncExitStack() as stack:

        async def open_registry() -> Registry:
            store = await Store.open(path)
            registry, problems = await Registry.load(store, now=clock.now, uptime=clock.uptime)
            stack.push_async_callback(registry.close)
            assert problems == ()
            return registry

        yield open_registry


@pytest.fixture
async def registry(opened: Open) -> Registry:
    return await opened()
