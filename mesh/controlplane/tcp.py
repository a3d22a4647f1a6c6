"""The control plane for other machines: the API and xDS behind mutual TLS, and beside them a port for first contact."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, NoReturn

import grpc

from mesh.controlplane.access import AccessInterceptor, CertificateDoor, FirstContactDoor, ValidDoor
from mesh.controlplane.api import OPTIONS as API_OPTIONS
from mesh.controlplane.api import Api
from mesh.model.topology import Address
from mesh.registry.registry import Registry
from mesh.xds.server import OPTIONS as XDS_OPTIONS
from mesh.xds.server import DiscoveryService, discovery_server, listen

OPTIONS: Final = tuple(
    {
        **dict(XDS_OPTIONS),
        **dict(API_OPTIONS),
        # A machine whose link is cut says nothing: its agent is gone after 15 s, and its term begins.
        "grpc.keepalive_time_ms": 10_000,
        "grpc.keepalive_timeout_ms": 5_000,
        "grpc.http2.ping_timeout_ms": 5_000,
    }.items()
)

FIRST_CONTACT_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    # Whoever can reach the port may ask: for little, not often at a time, and not for long.
    ("grpc.max_receive_message_length", 128 * 1024),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
    ("grpc.max_metadata_size", 8 * 1024),
)

log = logging.getLogger(__name__)


def first_contact(address: Address) -> Address:
    """Where whoever has no certificate yet asks for one: the port above."""
    return replace(address, port=address.port + 1)


async def serve_tcp(
    api: Api,
    discovery: DiscoveryService,
    registry: Registry,
    trust: Callable[..., grpc.ServerCredentials],
    xds: Address,
    others: Iterable[Address],
) -> NoReturn:
    """Serves xDS at `xds`, and for other machines the API, too, until it is cancelled.

    `trust` makes credentials, `mutual` or not. Raises StartError when somebody else has one of the ports.
    """
    servers: list[grpc.aio.Server] = []

    def serve(server: grpc.aio.Server, address: Address, *, mutual: bool) -> None:
        servers.append(server)
        listen(server, address, trust(mutual=mutual))

    try:
        serve(discovery_server(discovery, interceptors=[AccessInterceptor(ValidDoor(registry))]), xds, mutual=True)
        for address in others:
            for_all = api.behind(CertificateDoor(registry), OPTIONS)
            for_all.add_generic_rpc_handlers(discovery.handlers())
            serve(for_all, address, mutual=True)
            serve(api.behind(FirstContactDoor(), FIRST_CONTACT_OPTIONS), first_contact(address), mutual=False)
            log.info("serving tcp=%s first_contact=%s", address, first_contact(address))
        for server in servers:
            await server.start()
        log.info("serving xds=%s", xds)
        await asyncio.get_running_loop().create_future()
    finally:
        for server in servers:
            await server.stop(grace=None)
    raise AssertionError("it only ends by being cancelled")
