"""The open streams of agents, one per instance."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from mesh.model.names import InstanceId

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Attachment:
    """One stream. It is `replaced` when a newer one of the same instance has taken its place."""

    instance: InstanceId
    replaced: bool = False
    drained: bool = False
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """There is something to say to the agent."""
        self._woken.set()

    def replace(self) -> None:
        self.replaced = True
        self.wake()

    async def until_replaced(self, messages: AsyncIterator[T]) -> AsyncIterator[T | None]:
        """The messages of the stream, until it ends or is replaced, and None after each `wake`."""
        woken = asyncio.ensure_future(self._woken.wait())
        message = asyncio.ensure_future(anext(messages, None))
        try:
            while True:
                await asyncio.wait((message, woken), return_when=asyncio.FIRST_COMPLETED)
                if self.replaced:
                    return
                if self._woken.is_set():
                    self._woken.clear()
                    woken = asyncio.ensure_future(self._woken.wait())
                    yield None
                if message.done():
                    if (received := message.result()) is None:
                        return
                    message = asyncio.ensure_future(anext(messages, None))
                    yield received
        finally:
            message.cancel()
            woken.cancel()


class Attachments:
    def __init__(self) -> None:
        self._open: dict[InstanceId, Attachment] = {}

    def open(self, instance: InstanceId) -> Attachment:
        """A new stream of the instance, in place of the one that may still be open."""
        if before := self._open.get(instance):
            before.replace()
        self._open[instance] = Attachment(instance)
        return self._open[instance]

    def wake(self) -> None:
        """There is something to say to every agent."""
        for attachment in self._open.values():
            attachment.wake()

    def end(self, which: Callable[[InstanceId], bool]) -> None:
        """Ends the streams of these instances, as if others had taken their place."""
        for instance, attachment in self._open.items():
            if which(instance):
                attachment.replace()

    def close(self, attachment: Attachment) -> bool:
        """The stream has ended; says whether the instance is without one now."""
        if self._open.get(attachment.instance) is not attachment:
            return False
        del self._open[attachment.instance]
        return True
