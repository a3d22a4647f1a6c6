"""Waiting for what tells nobody when it comes."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], Awaitable[bool]], *, every: float) -> None:
    """Returns as soon as `holds` does; it is asked again after `every` seconds."""
    while not await holds():  # noqa: ASYNC110 (see above)
        await asyncio.sleep(every)
