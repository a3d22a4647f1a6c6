"""The way to the control plane: the socket on its own machine, TCP with mutual TLS from any other."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import grpc

from mesh.agent.server import OPTIONS, connect
from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc, schema_pb2_grpc, tokens_pb2, tokens_pb2_grpc
from mesh.errors import StartError, UsageError
from mesh.identity.private import check_private
from mesh.model.address import Address
from mesh.model.names import CONTROL_PLANE_HOST

TCP_OPTIONS: Final = (
    *((name, value) for name, value in OPTIONS if name != "grpc.default_authority"),
    # Its certificate is looked at for this name, wherever it listens; no workload gets one with a host name.
    ("grpc.ssl_target_name_override", CONTROL_PLANE_HOST),
    # A link that is cut says nothing: one that does not answer within 15 s is another one's turn.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

NEW_TOKEN: Final = "Have a token made where the control plane runs: proa token create"


@dataclass(frozen=True, slots=True)
class Kept:
    """A certificate as it was left by an earlier process, and who was trusted. It may have ended."""

    chain_pem: str
    key_pem: str = field(repr=False)
    bundle_pem: str


@dataclass(frozen=True, slots=True)
class TokenFile:
    """What `proa token create` writes. `roots_pem` are whom the first connection trusts."""

    token: str = field(repr=False)
    roots_pem: str

    @classmethod
    def read(cls, path: Path) -> "TokenFile":
        """Raises UsageError, and StateError for a file that others may read."""
        try:
            match json.loads(path.read_text()):
                case {"token": str(token), "roots": str(roots)}:
                    check_private([path.resolve()])
                    return cls(token, roots)
        except OSError as error:
            raise UsageError(str(path), f"the token cannot be read: {error.strerror}", NEW_TOKEN) from None
        except ValueError:
            pass
        raise UsageError(str(path), "this is no file that `proa token create` has written", NEW_TOKEN)


@dataclass(slots=True)
class Way:
    """`signs` takes who has no certificate yet; the other two are for use when `opened` is set."""

    signs: "agents_pb2_grpc.AgentServiceAsyncStub"
    agents: "agents_pb2_grpc.AgentServiceAsyncStub"
    schemas: "schema_pb2_grpc.SchemaServiceAsyncStub"
    token: Callable[[], Awaitable[str]]
    """Comes with a join token that can be used now. Raises MeshError when there is none, AioRpcError."""
    renewed: Callable[[Kept], None]
    """To be called with each certificate."""
    server: str = ""
    """How this machine sees the control plane, for Envoy: an IP address and a port; "" on its own machine."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)


def way_to(
    server: str, who: agents_pb2.SignCertificateRequest, token: Path | None, kept: Kept | None
) -> AbstractAsyncContextManager[Way]:
    """To `unix:/path` or `host:port`. Raises UsageError for any other, and for a file that holds no token."""
    if server.startswith("unix:"):
        return by_socket(server, who)
    try:
        address = Address.parse(server)
    except ValueError as error:
        raise UsageError("--server", str(error), "Write unix:/path or host:port") from None
    return by_tcp(address, TokenFile.read(token) if token else None, kept)


@asynccontextmanager
async def by_socket(address: str, who: agents_pb2.SignCertificateRequest) -> AsyncIterator[Way]:
    """For whoever may open the socket: he may have any token made, and has one made when he needs one."""
    async with connect(address) as channel:
        tokens: tokens_pb2_grpc.TokenServiceAsyncStub = tokens_pb2_grpc.TokenServiceStub(channel)
        request = tokens_pb2.CreateTokenRequest(
            namespace=who.namespace, workload=who.workload, service_account=who.service_account, note="on the socket"
        )
        request.lifetime.FromSeconds(60)

        async def token() -> str:
            made = await tokens.CreateToken(request, timeout=5, wait_for_ready=True)
            return made.token

        agents: agents_pb2_grpc.AgentServiceAsyncStub = agents_pb2_grpc.AgentServiceStub(channel)
        way = Way(agents, agents, schema_pb2_grpc.SchemaServiceStub(channel), token, lambda _: None)
        way.opened.set()
        yield way


@asynccontextmanager
async def by_tcp(server: Address, file: TokenFile | None, kept: Kept | None) -> AsyncIterator[Way]:
    """From another machine. Raises UsageError with neither a token nor a certificate from before."""
    if not (file or kept):
        raise UsageError("--token", "there is neither a token nor a certificate from before", NEW_TOKEN)
    at = await _resolved(server)
    known = (file.roots_pem if file else "") + (kept.bundle_pem if kept else "")
    first, second = _Exchanged(Address(at.host, at.port + 1)), _Exchanged(at)
    first.exchange(grpc.ssl_channel_credentials(known.encode()))

    async def token() -> str:
        if file is None:
            raise StartError("--token", "the certificate from before is refused, and no token is given", NEW_TOKEN)
        return file.token

    def renewed(now: Kept) -> None:
        bundle = now.bundle_pem.encode()
        first.exchange(grpc.ssl_channel_credentials(bundle))
        second.exchange(grpc.ssl_channel_credentials(bundle, now.key_pem.encode(), now.chain_pem.encode()))
        way.opened.set()

    before, after = cast("tuple[grpc.aio.Channel, grpc.aio.Channel]", (first, second))  # as far as stubs use one
    agents = agents_pb2_grpc.AgentServiceStub
    way = Way(agents(before), agents(after), schema_pb2_grpc.SchemaServiceStub(after), token, renewed, str(at))
    try:
        yield way
    finally:
        await first.close()
        await second.close()


class _Exchanged:
    """A channel that is exchanged: gRPC cannot give one that is there another certificate.

    Calls begin on the newest. The one before lives on for the streams on it, until the next comes; those begin anew.
    """

    def __init__(self, target: Address) -> None:
        self._target = target
        self._channels: list[grpc.aio.Channel] = []
        self._closing: set[asyncio.Task[None]] = set()

    def exchange(self, credentials: grpc.ChannelCredentials) -> None:
        self._channels.append(grpc.aio.secure_channel(str(self._target), credentials, options=TCP_OPTIONS))
        for old in self._channels[:-2]:
            task = asyncio.ensure_future(old.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        del self._channels[:-2]

    def unary_unary(self, *method: Any, **codecs: Any) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            return self._newest.unary_unary(*method, **codecs)(*arguments, **options)

        return call

    def stream_stream(self, *method: Any, **codecs: Any) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            return self._newest.stream_stream(*method, **codecs)(*arguments, **options)

        return call

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    @property
    def _newest(self) -> grpc.aio.Channel:
        return self._channels[-1]


async def _resolved(server: Address) -> Address:
    """By its IP address: Envoy is told no names. Raises UsageError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(server.host, server.port, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(
            str(server), f"this name leads nowhere: {error.strerror}", "Name a host with an IPv4 address"
        ) from None
    return Address(str(found[0][4][0]), server.port)
