"""The discovery services over grpc.aio."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from traceback import clear_frames
from typing import Final, NoReturn

import grpc

from mesh.errors import IdentityError, LimitError, MeshError, ProtocolError, StartError
from mesh.model.address import Address
from mesh.registry.status import StatusBoard
from mesh.xds.by_name import ByName
from mesh.xds.peer import Admit
from mesh.xds.services import SERVICES, Service
from mesh.xds.session import Session
from mesh.xds.source import Source
from mesh.xds.stages import R
from mesh.xds.wire import DELTA, SOTW, Variant

OPTIONS: Final = (
    # gRPC shares a port with whoever else binds it, and half of the proxies would talk to somebody else.
    ("grpc.so_reuseport", 0),
    # Envoy pings an idle stream every 30 s; a default server allows that once in 5 min and hangs up.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # A frozen peer is noticed after 40 s. Without the last of the three, gRPC waits a minute for the pong.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # gRPC measures each connection by a ping for each message that comes, which costs a third of a push. What it finds
    # would only make its window for requests larger, and those are small.
    ("grpc.http2.bdp_probe", 0),
    # Each connection with TLS keeps buffers of this size, 16 KiB by default: a sixth of what a proxy costs.
    ("grpc.tsi.max_frame_size", 4_096),
    # A certificate is only looked at when a connection begins. gRPC spreads the age by 10 %.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    # A node alone has 60 kB, and after a reconnect a proxy lists every resource that it has: 50,000 names are 4 MB. Of
    # empty messages a parser makes forty times as much. What is larger is refused by gRPC before it is taken in. It
    # does not say so, hence nobody counts it; if we did it, it would be in memory.
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
)

REFUSALS: Final[Mapping[type[BaseException], tuple[str, grpc.StatusCode]]] = {
    ProtocolError: ("protocol", grpc.StatusCode.INVALID_ARGUMENT),
    IdentityError: ("identity", grpc.StatusCode.PERMISSION_DENIED),
    LimitError: ("limit", grpc.StatusCode.RESOURCE_EXHAUSTED),
}
"""Why a stream is ended: the reason that it is counted under, and the status that its peer gets."""

Context = grpc.aio.ServicerContext[bytes, bytes]

log = logging.getLogger(__name__)


class DiscoveryService:
    """Serves each node that `admit` lets in what `source` has for it, and tells `board` how that goes.

    A node for which the source has nothing yet waits for it. `identifier` is what Envoy shows as the control plane.
    """

    def __init__(self, source: Source, board: StatusBoard, admit: Admit, identifier: str = "proa") -> None:
        self._source = source
        self._board = board
        self._admit = admit
        self._identifier = identifier

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """One for each service of xDS.

        Without serializers: malformed bytes are ours to refuse, and what is sent is bytes already.
        """
        return tuple(grpc.method_handlers_generic_handler(one.name, self._methods(one)) for one in SERVICES)

    def _methods(self, service: Service) -> "dict[str, grpc.RpcMethodHandler[bytes, bytes]]":
        methods = {
            service.delta: self.method(DELTA, service.type_url),
            service.sotw: self.method(SOTW, service.type_url),
        }
        return {**methods, service.fetch: _unserved(service)} if service.fetch else methods

    def method(self, variant: Variant[R], type_url: str = "") -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Streams of one type alone, or with no `type_url` of all."""

        async def serve(messages: AsyncIterator[bytes], context: Context) -> None:
            refusal: tuple[type[BaseException], str] | None = None
            try:
                await self._serve(variant, type_url, messages, context)
            except* MeshError as group:
                # Not the error itself: it holds the frames that it came through, and the message that was the last.
                refusal = type(group.exceptions[0]), str(group.exceptions[0])
            if refusal:
                kind, words = refusal
                reason, status = REFUSALS[kind]
                self._board.refuse_stream(reason, words)
                log.warning("xds_stream_refused peer=%s reason=%s", context.peer(), words)
                await context.abort(status, words)

        return grpc.stream_stream_rpc_method_handler(serve)

    async def _serve(
        self, variant: Variant[R], type_url: str, messages: AsyncIterator[bytes], context: Context
    ) -> None:
        first = await anext(messages, None)
        if first is None:
            return
        request = variant.decode(first)
        peer = self._admit(request.node, context.auth_context())
        stream = variant.open(secrets.token_hex(4), type_url)
        # Else they go with the first response, and while that is on its way the stream could not be refused.
        await context.send_initial_metadata(())
        with self._board.connected(peer.node_id, peer.identity, peer.envoy_version) as status:
            source = ByName(self._source, stream.asked) if peer.is_client else self._source
            session = Session(peer, variant, stream, source, status, self._identifier)
            with source.watch(peer.node_id, peer.locality, session.wake):
                session.receive(request)
                del first, request  # else they are kept as long as the stream
                await _talk(session, messages, context)


async def _talk(session: Session[R], messages: AsyncIterator[bytes], context: Context) -> None:
    """Until one side has said all, or is not there any more."""
    try:
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(session.write(context.write))
            await session.read(messages)
            writer.cancel()
    except asyncio.CancelledError as end:
        # The TaskGroup of Python 3.11 leaves a circle, and the stream with it, to the garbage collector.
        clear_frames(end.__traceback__)
        raise


def discovery_server(
    service: DiscoveryService,
    options: Sequence[tuple[str, int]] = OPTIONS,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> grpc.aio.Server:
    """A server for proxies alone. It is to be started when the source holds what was true before the last stop."""
    server = grpc.aio.server(options=options, interceptors=interceptors)
    server.add_generic_rpc_handlers(service.handlers())
    return server


def _unserved(service: Service) -> "grpc.RpcMethodHandler[bytes, bytes]":
    async def refuse(message: bytes, context: Context) -> NoReturn:
        words = f"{service.name}: it is not polled here. Open a stream with {service.delta} or {service.sotw}"
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, words)

    return grpc.unary_unary_rpc_method_handler(refuse)


def listen(server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None) -> int:
    """Binds `address`, in plaintext without `credentials`, and returns the port.

    Raises StartError when somebody else has it.
    """
    try:
        if credentials:
            return server.add_secure_port(str(address), credentials)
        return server.add_insecure_port(str(address))
    except RuntimeError as error:
        problem = "nobody can listen there, another process may have the port"
        raise StartError(str(address), problem, "End that process, or choose another port") from error
