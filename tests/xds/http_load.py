"""Calls through a proxy that go on while something happens to its configuration."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.mesh.running import patience

WORKERS = 4
REQUEST = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n"


@dataclass
class Load:
    """What was answered so far: how often each text came, and everything that was no answer."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    async def went_on(self, more: int = 50, within: float = 20.0) -> None:
        """Returns after so many more answers."""
        goal = self.answers.total() + more
        async with asyncio.timeout(within * patience()):
            while self.answers.total() < goal:  # noqa: ASYNC110 # nothing tells how many there have been
                await asyncio.sleep(0.005)


@asynccontextmanager
async def load(port: int) -> AsyncIterator[Load]:
    """Asks again and again from several connections, without a pause and without a second try, until the block ends."""
    seen = Load()
    ended = asyncio.Event()

    async def worker() -> None:
        while not ended.is_set():
            try:
                await _ask_on_one_connection(port, seen, ended)
            except (OSError, asyncio.IncompleteReadError) as error:
                seen.failures.append(repr(error))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WORKERS):
            tasks.create_task(worker())
        await seen.went_on()
        yield seen
        await seen.went_on()
        ended.set()


async def _ask_on_one_connection(port: int, seen: Load, ended: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while not ended.is_set():
            writer.write(REQUEST)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = head.partition("content-length: ")[2].partition("\r\n")[0]
            text = (await reader.readexactly(int(length))).decode()
            if head.startswith("http/1.1 200"):
                seen.answers[text] += 1
            else:
                seen.failures.append(head.partition("\r\n")[0] + " " + text)
    finally:
        writer.close()
