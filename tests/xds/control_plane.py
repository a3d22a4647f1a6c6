"""A control plane with nothing but an authority and xDS, and a client that speaks to it, for tests with sockets."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import grpc
from google.rpc import status_pb2

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from mesh.identity.ca import CertificateAuthority, new_root
from mesh.identity.credentials import server_credentials
from mesh.identity.key import new_key
from mesh.model.address import Address
from mesh.model.names import Identity
from mesh.model.workload import Locality
from mesh.registry.status import StatusBoard
from mesh.snapshot.named import Named
from mesh.snapshot.resource import Resource, digest
from mesh.snapshot.seal import Snapshot
from mesh.snapshot.types import ENDPOINT
from mesh.xds.cache import Cache
from mesh.xds.peer import admit
from mesh.xds.server import OPTIONS, DiscoveryService, discovery_server, listen
from mesh.xds.services import AGGREGATED

now = partial(datetime.now, UTC)

HERE = Locality()
NODE = "shop/orders/orders-0"
ORDERS = Identity("proa.local", "shop", "orders")
STRANGER = Identity("proa.local", "shop", "stranger")


class ControlPlane:
    """`identities` says which nodes there are. It survives a restart of its server, as its state would."""

    def __init__(self) -> None:
        self.authority = CertificateAuthority(*new_root("proa.local", now()))
        self.identities = {NODE: ORDERS.uri}
        self.port = 0
        self.forget()

    def forget(self) -> None:
        """All that is not kept over a restart."""
        self.cache = Cache()
        self.board = StatusBoard(now)

    def publish(self, *resources: Resource, node_id: str = NODE) -> None:
        """The node should have exactly these, endpoints included."""
        by_type: dict[str, dict[str, Resource]] = {}
        for resource in resources:
            by_type.setdefault(resource.type_url, {})[resource.name] = resource
        self.cache.publish_endpoints(HERE, by_type.pop(ENDPOINT, {}))
        version = digest(*(one.version.encode() for named in by_type.values() for one in named.values()))
        self.cache.publish(node_id, Snapshot({url: Named(named) for url, named in by_type.items()}, version))

    def service(self) -> DiscoveryService:
        return DiscoveryService(self.cache, self.board, partial(admit, identity_of=self.identities.get))

    @asynccontextmanager
    async def serving(self, **options: int) -> AsyncIterator[None]:
        """On the same port each time. `options` are of gRPC without their prefix, in place of those of a mesh."""
        changed = {f"grpc.{name}": value for name, value in options.items()}
        server = discovery_server(self.service(), tuple({**dict(OPTIONS), **changed}.items()))
        address = Address("127.0.0.1", self.port)
        self.port = listen(server, address, server_credentials(lambda: self.authority, now))
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)

    def leaf(self, identity: Identity, *hosts: str) -> tuple[str, str]:
        """Key and chain, PEM."""
        key = new_key()
        return key.pem, self.authority.issue(key.csr, identity, hosts, now()).chain_pem

    @asynccontextmanager
    async def channel(
        self, identity: Identity | None = ORDERS, *more_options: tuple[str, int]
    ) -> AsyncIterator[grpc.aio.Channel]:
        """To the server, with a certificate for `identity` or with none."""
        key, chain = self.leaf(identity) if identity else (None, None)
        credentials = grpc.ssl_channel_credentials(
            self.authority.bundle_pem.encode(), key and key.encode(), chain and chain.encode()
        )
        options = [("grpc.ssl_target_name_override", "localhost"), *more_options]
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options) as channel:
            yield channel


class Stream:
    """One delta stream of a client that sends exactly what it is told to."""

    def __init__(self, channel: grpc.aio.Channel, method: str = "DeltaAggregatedResources") -> None:
        self._call = channel.stream_stream(f"/{AGGREGATED.name}/{method}")()

    async def send(self, message: bytes) -> None:
        await self._call.write(message)

    async def ask(
        self,
        type_url: str,
        *names: str,
        node_id: str = "",
        nonce: str = "",
        error: str = "",
        held: Mapping[str, str] | None = None,
    ) -> None:
        request = DeltaDiscoveryRequest(
            node=base_pb2.Node(id=node_id) if node_id else None,
            type_url=type_url,
            resource_names_subscribe=names,
            response_nonce=nonce,
            initial_resource_versions=held or {},
            error_detail=status_pb2.Status(message=error) if error else None,
        )
        await self.send(request.SerializeToString())

    async def ack(self, response: DeltaDiscoveryResponse) -> None:
        await self.ask(response.type_url, nonce=response.nonce)

    async def receive(self) -> DeltaDiscoveryResponse:
        message = await self._call.read()
        assert isinstance(message, bytes), f"the stream has ended: {self._call}"
        return DeltaDiscoveryResponse.FromString(message)

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """The status with which the server ends the stream."""
        try:
            while await self._call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError:
            pass  # which has the same status
        return await self._call.code(), await self._call.details()

    async def done(self) -> None:
        """The client has said all."""
        await self._call.done_writing()

    def cancel(self) -> None:
        self._call.cancel()
