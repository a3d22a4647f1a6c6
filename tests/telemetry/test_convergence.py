"""What is timed, from when, and until when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from mesh.registry.changes import Changes
from mesh.registry.status import Tally
from mesh.telemetry.convergence import Convergence


@dataclass
class Mesh:
    """The rest of a control plane, which does at once what a test says; `timed` is what was observed."""

    seconds: float = 100.0
    timed: list[float] = field(default_factory=list)
    sent: int = 0
    changed: Changes = field(default_factory=Changes)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    waits: int = 0

    async def publish(self) -> None:
        pass

    def totals(self) -> dict[str, Tally]:
        return {"Cluster": Tally(responses=self.sent)}

    async def wait_synced(self, timeout: timedelta) -> bool:
        """Gives up at once, and is asked again."""
        self.waits += 1
        await asyncio.sleep(0)
        return self.answered.is_set()

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[Convergence]:
        clock = {"uptime": lambda: timedelta(seconds=self.seconds), "observe": self.timed.append}
        convergence = Convergence(self.changed, self.publish, self, **clock)
        task = asyncio.create_task(convergence.run())
        try:
            yield convergence
        finally:
            task.cancel()


async def turns(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_change_is_timed_from_when_it_happens_until_everybody_has_answered():
    mesh = Mesh()
    async with mesh.measured() as convergence:
        await turns()
        mesh.changed.notify()
        mesh.seconds += 2  # whoever compiles was woken first
        await turns(2)
        mesh.sent += 1
        mesh.seconds += 3
        assert convergence.pending() == timedelta(seconds=5)
        assert mesh.timed == []

        mesh.answered.set()
        await turns()

        assert mesh.timed == [5.0]
        assert convergence.pending() == timedelta()
        assert mesh.waits > 1, "whoever waits too long waits on"


async def test_changes_before_the_last_answer_are_one_and_the_next_begins_with_its_first():
    mesh = Mesh()
    async with mesh.measured() as convergence:
        await turns()
        for _ in range(3):
            mesh.changed.notify()
            await turns()
            mesh.sent += 1
            mesh.seconds += 1
        mesh.answered.set()
        await turns()
        assert mesh.timed == [3.0]

        mesh.answered.clear()
        mesh.seconds += 100
        for _ in range(2):
            mesh.changed.notify()
            mesh.seconds += 1
        assert convergence.pending() == timedelta(seconds=2)
        await turns()
        mesh.sent += 1
        mesh.answered.set()
        await turns()
        assert mesh.timed == [3.0, 2.0]


async def test_a_change_for_which_nothing_is_sent_is_not_timed():
    mesh = Mesh()
    mesh.answered.set()
    async with mesh.measured() as convergence:
        await turns()
        mesh.changed.notify()
        await turns()

        assert mesh.timed == []
        assert convergence.pending() == timedelta()


async def test_what_changed_before_is_not_timed():
    mesh = Mesh()
    mesh.changed.notify()
    mesh.answered.set()
    async with mesh.measured():
        mesh.sent += 1
        await turns()

        assert mesh.timed == []
