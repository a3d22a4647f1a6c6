"""One open stream: carries messages between a peer and its state machine, and reports what it sees."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Generic

from mesh.errors import ProtocolError
from mesh.registry.status import OTHER_TYPES, StreamReport, StreamStatus, TypeStatus
from mesh.snapshot.types import TYPES
from mesh.xds.messages import Answer, Refusal, Response
from mesh.xds.peer import Peer
from mesh.xds.source import Source, State
from mesh.xds.stream import R, Stream
from mesh.xds.wire import Variant

NAMED_IN_REFUSAL: Final = 3
"""Of a response that was refused as a whole; Envoy's own words mostly say which one it is about."""

log = logging.getLogger(__name__)


class Session(Generic[R]):
    """One task reads and one writes.

    The next response is only made when the one before is on its way, from the state as it is then. So a peer that does
    not read costs one message, and when it reads again it gets the newest state.
    """

    def __init__(
        self,
        peer: Peer,
        variant: Variant[R],
        stream: Stream[R],
        source: Source,
        status: StreamStatus,
        identifier: str,
    ) -> None:
        self._peer = peer
        self._variant = variant
        self._stream = stream
        self._source = source
        self._status = status
        self._identifier = identifier
        self._due = asyncio.Event()
        self._bytes_sent = 0
        self._resources_sent = 0
        self._types: dict[str, TypeStatus] = {}
        status.look = stream.resources

    def wake(self) -> None:
        """Something may have to be sent. Any number of calls before `write` comes to it are one."""
        self._status.outdated()
        self._due.set()

    def receive(self, request: R) -> None:
        """Raises ProtocolError or LimitError for what the peer may not ask."""
        if request.node.id not in ("", self._peer.node_id):
            raise ProtocolError(self._peer.node_id, "the node id changed on an open stream", "Open a stream per node")
        if answer := self._stream.receive(request, _now()):
            self._note(answer)
        self.wake()

    async def read(self, messages: AsyncIterator[bytes]) -> None:
        """Until the peer has said all."""
        async for message in messages:
            self.receive(self._variant.decode(message))

    async def write(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Until it is cancelled."""
        while True:
            await self._until_due()
            response = self._next()
            if response is None:
                self._report()
            while response:
                self._bytes_sent += sum(len(resource.value) for resource in response.resources)
                self._resources_sent += len(response.resources)
                self._report()
                message = self._variant.encode(response, self._identifier)
                self._status.tally(_label(response.type_url)).sent(len(message))
                await send(message)
                response = self._next()

    def _note(self, answer: Answer) -> None:
        tally = self._status.tally(_label(answer.type_url))
        if isinstance(answer, Refusal):
            words = _words(answer)
            log.warning("nack node=%s type=%s error=%s", self._peer.node_id, answer.type_url, words)
            self._status.refused(words)
            tally.nacks += 1
        else:
            tally.acks += 1

    async def _until_due(self) -> None:
        deadline = self._stream.next_deadline()
        try:
            async with asyncio.timeout(None if deadline is None else max(0.0, (deadline - _now()).total_seconds())):
                await self._due.wait()
        except TimeoutError:
            pass  # a deadline is as good a reason to look as a change
        self._due.clear()

    def _next(self) -> Response | None:
        state = self._source.state(self._peer.node_id, self._peer.locality)
        return None if state is None else self._stream.next_response(state, _now())

    def _report(self) -> None:
        published = self._source.state(self._peer.node_id, self._peer.locality)
        state = published or State()
        self._status.report(
            StreamReport(
                types=self._stamped(self._stream.types(state)),
                is_quiet=published is not None and self._stream.is_quiet(state),
                config_version=self._source.version(self._peer.node_id),
                bytes_sent=self._bytes_sent,
                resources_sent=self._resources_sent,
                waits=self._stream.waits(state),
            )
        )

    def _stamped(self, types: tuple[TypeStatus, ...]) -> tuple[TypeStatus, ...]:
        """Each version with the time since when it is the one."""
        now = datetime.now(UTC)
        self._types = {
            one.type_url: replace(
                one,
                sent_at=was.sent_at if one.sent == was.sent else now,
                acked_at=was.acked_at if one.acked == was.acked else now,
                nacked_at=was.nacked_at if one.nacked == was.nacked else now,
            )
            for one in types
            for was in [self._types.get(one.type_url, TypeStatus(one.type_url))]
        }
        return tuple(self._types.values())


def _now() -> timedelta:
    return timedelta(seconds=asyncio.get_running_loop().time())


def _label(type_url: str) -> str:
    """Peers may ask for any type, and what is counted by type must not grow with them."""
    return type_url if type_url in TYPES else OTHER_TYPES


def _words(refusal: Refusal) -> str:
    names = [resource.name for resource in refusal.resources[:NAMED_IN_REFUSAL]]
    rest = len(refusal.resources) - len(names)
    return f"{', '.join(names)}{f' and {rest} more' if rest else ''}: {' '.join(refusal.error.split())}"
