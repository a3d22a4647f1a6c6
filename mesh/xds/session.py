"""One open stream: carries messages between a peer and its state machine, and reports what it sees."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from mesh.errors import ProtocolError
from mesh.registry.status import StreamReport, StreamStatus
from mesh.xds.cache import Cache
from mesh.xds.peer import Peer
from mesh.xds.stream import DeltaStream
from mesh.xds.subscription import Refusal, Response
from mesh.xds.wire import decode, encode

NAMED_IN_REFUSAL: Final = 3
"""Of a response that was refused as a whole; Envoy's own words mostly say which one it is about."""

log = logging.getLogger(__name__)


class Session:
    """One task reads and one writes.

    The next response is only made when the one before is on its way, from the state as it is then. So a peer that does
    not read costs one message, and when it reads again it gets the newest state.
    """

    def __init__(self, peer: Peer, stream: DeltaStream, cache: Cache, status: StreamStatus, identifier: str) -> None:
        self._peer = peer
        self._stream = stream
        self._cache = cache
        self._status = status
        self._identifier = identifier
        self._due = asyncio.Event()
        self._bytes_sent = 0
        self._resources_sent = 0

    def wake(self) -> None:
        """Something may have to be sent. Any number of calls before `write` comes to it are one."""
        self._status.outdated()
        self._due.set()

    def receive(self, request: DeltaDiscoveryRequest) -> None:
        """Raises ProtocolError or LimitError for what the peer may not ask."""
        if request.node.id not in ("", self._peer.node_id):
            raise ProtocolError(self._peer.node_id, "the node id changed on an open stream", "Open a stream per node")
        if refusal := self._stream.receive(request):
            words = _words(refusal)
            log.warning("nack node=%s type=%s error=%s", self._peer.node_id, refusal.type_url, words)
            self._status.refused(words)
        self.wake()

    async def read(self, messages: AsyncIterator[bytes]) -> None:
        """Until the peer has said all."""
        async for message in messages:
            self.receive(decode(message))

    async def write(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Until it is cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            while response := self._next():
                self._bytes_sent += sum(len(resource.value) for resource in response.delta.resources)
                self._resources_sent += len(response.delta.resources)
                self._report()
                await send(encode(response, self._identifier))
            self._report()

    def _next(self) -> Response | None:
        state = self._cache.state(self._peer.node_id, self._peer.locality)
        return None if state is None else self._stream.next_response(state)

    def _report(self) -> None:
        state = self._cache.state(self._peer.node_id, self._peer.locality)
        self._status.report(
            StreamReport(
                types=self._stream.types(state or {}),
                is_quiet=state is not None and self._stream.is_quiet(state),
                config_version=self._cache.version(self._peer.node_id),
                bytes_sent=self._bytes_sent,
                resources_sent=self._resources_sent,
            )
        )


def _words(refusal: Refusal) -> str:
    names = [resource.name for resource in refusal.resources[:NAMED_IN_REFUSAL]]
    rest = len(refusal.resources) - len(names)
    return f"{', '.join(names)}{f' and {rest} more' if rest else ''}: {refusal.error}"
