"""The open streams of agents, one per instance."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TypeVar

from mesh.model.names import InstanceId

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Attachment:
    """One stream. `replaced` is set when a newer one of the same instance takes its place."""

    instance: InstanceId
    replaced: asyncio.Event = field(default_factory=asyncio.Event)
    drained: bool = False

    async def until_replaced(self, messages: AsyncIterator[T]) -> AsyncIterator[T]:
        """The messages of the stream, until it ends or is replaced."""
        replaced = asyncio.ensure_future(self.replaced.wait())
        try:
            while not self.replaced.is_set():
                message = asyncio.ensure_future(anext(messages, None))
                try:
                    await asyncio.wait((message, replaced), return_when=asyncio.FIRST_COMPLETED)
                    if not message.done() or (received := message.result()) is None:
                        return
                finally:
                    message.cancel()
                yield received
        finally:
            replaced.cancel()


class Attachments:
    def __init__(self) -> None:
        self._open: dict[InstanceId, Attachment] = {}

    def open(self, instance: InstanceId) -> Attachment:
        """A new stream of the instance, in place of the one that may still be open."""
        if before := self._open.get(instance):
            before.replaced.set()
        self._open[instance] = Attachment(instance)
        return self._open[instance]

    def close(self, attachment: Attachment) -> bool:
        """The stream has ended; says whether the instance is without one now."""
        if self._open.get(attachment.instance) is not attachment:
            return False
        del self._open[attachment.instance]
        return True
