"""One open stream: carries messages between a peer and its state machine, and reports what it sees."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Generic

from mesh.errors import ProtocolError
from mesh.registry.status import OTHER_TYPES, StreamReport, StreamStatus, TypeStatus
from mesh.snapshot.types import TYPES
from mesh.xds.messages import Answer, Refusal, Response
from mesh.xds.peer import Peer
from mesh.xds.source import Source, State
from mesh.xds.stages import R, Stages
from mesh.xds.wire import Variant

NAMED_IN_REFUSAL: Final = 3
"""Of a response that was refused as a whole; Envoy's own words mostly say which one it is about."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Session(Generic[R]):
    """One task reads and one writes.

    The next response is only made when the one before is on its way, from the state as it is then. So a peer that does
    not read costs one message, and when it reads again it gets the newest state.
    """

    peer: Peer
    variant: Variant[R]
    stream: Stages[R]
    source: Source
    status: StreamStatus
    identifier: str
    # Asked for once: that, and with it asyncio.Event, looks up the process id, a system call, each time.
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _began: datetime = field(init=False)
    _is_due: bool = False
    _waiter: asyncio.Future[None] | None = None
    _bytes_sent: int = 0
    _resources_sent: int = 0

    def __post_init__(self) -> None:
        self._began = datetime.now(UTC) - self._now()
        self.status.look = self.stream.resources
        self.status.report = self._report

    def wake(self) -> None:
        """Something may have to be sent. Any number of calls before `write` comes to it are one."""
        state = self._state()
        if state and self.stream.rests(state):
            self.status.stands(lags=not self.stream.is_quiet(state), refuses=False)
        else:
            self.status.stands(lags=True, refuses=self.status.refuses)
            self._rouse()

    def receive(self, request: R) -> None:
        """Raises ProtocolError or LimitError for what the peer may not ask."""
        if request.HasField("node") and request.node.id not in ("", self.peer.node_id):
            raise ProtocolError(self.peer.node_id, "the node id changed on an open stream", "Open a stream per node")
        if answer := self.stream.receive(request, self._now()):
            self._note(answer)
        self.wake()

    async def read(self, messages: AsyncIterator[bytes]) -> None:
        """Until the peer has said all."""
        async for message in messages:
            self.receive(self.variant.decode(message))
            del message  # else it is kept until the next one comes

    async def write(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Until it is cancelled."""
        while True:
            await self._until_due()
            await self._say(send)

    async def _say(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """All that may be said now. On its own, so that no name keeps the state while there is nothing to say."""
        while (state := self._state()) and (response := self.stream.next_response(state, self._now())):
            # In one expression: a name for the message would keep it until there is another.
            await send(self._encoded(response))
        if state:
            self.status.stands(lags=not self.stream.is_quiet(state), refuses=self.stream.refuses(state))

    def _encoded(self, response: Response) -> bytes:
        self._bytes_sent += response.content.size
        self._resources_sent += len(response.resources)
        message = self.variant.encode(response, self.identifier)
        self.status.tally(_label(response.type_url)).sent(len(message))
        return message

    def _note(self, answer: Answer) -> None:
        tally = self.status.tally(_label(answer.type_url))
        if isinstance(answer, Refusal):
            words = _words(answer)
            log.warning("nack node=%s type=%s error=%s", self.peer.node_id, answer.type_url, words)
            self.status.refused(words)
            tally.nacks += 1
        else:
            tally.acks += 1

    async def _until_due(self) -> None:
        """Until there is a change, or a deadline, which is as good a reason to look."""
        deadline = self.stream.next_deadline()
        timer = self._loop.call_at(deadline.total_seconds(), self._rouse) if deadline else None
        try:
            if not self._is_due:
                self._waiter = self._loop.create_future()
                await self._waiter
        finally:
            self._waiter = None
            if timer:
                timer.cancel()
        self._is_due = False

    def _rouse(self) -> None:
        self._is_due = True
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _now(self) -> timedelta:
        return timedelta(seconds=self._loop.time())

    def _state(self) -> State | None:
        return self.source.state(self.peer.node_id, self.peer.locality)

    def _report(self) -> StreamReport:
        state = self._state() or State()
        waits = self.stream.waits(state)
        return StreamReport(
            types=tuple(map(self._dated, self.stream.types(state, waits))),
            config_version=self.source.version(self.peer.node_id),
            bytes_sent=self._bytes_sent,
            resources_sent=self._resources_sent,
            waits=waits,
        )

    def _dated(self, status: TypeStatus) -> TypeStatus:
        """Each version with the time since when it is the one."""
        at = self.stream.moments(status.type_url)
        sent, acked, nacked = (
            None if moment is None else self._began + moment for moment in (at.sent, at.acked, at.nacked)
        )
        return replace(status, sent_at=sent, acked_at=acked, nacked_at=nacked)


def _label(type_url: str) -> str:
    """Peers may ask for any type, and what is counted by type must not grow with them."""
    return type_url if type_url in TYPES else OTHER_TYPES


def _words(refusal: Refusal) -> str:
    names = [resource.name for resource in refusal.resources[:NAMED_IN_REFUSAL]]
    rest = len(refusal.resources) - len(names)
    return f"{', '.join(names)}{f' and {rest} more' if rest else ''}: {' '.join(refusal.error.split())}"
