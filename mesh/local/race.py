"""Several things at once, of which the first to end counts."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def race(*contenders: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Runs them side by side until one has ended; the others are cancelled and have ended, too, on return.

    Of several that end together, the first one named. Whatever it raised is in the task.
    """
    tasks = [asyncio.ensure_future(contender) for contender in contenders]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done())
    finally:
        late = [task for task in tasks if task.cancel()]
        if late:
            await asyncio.wait(late)
