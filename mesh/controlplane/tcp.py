"""The control plane for other machines: the API and xDS behind mutual TLS, and beside them a port for first contact."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Final, NoReturn

import grpc

from mesh.controlplane.access import CertificateDoor, FirstContactDoor, ValidDoor
from mesh.controlplane.api import OPTIONS as API_OPTIONS
from mesh.controlplane.api import Api
from mesh.controlplane.entrance import AccessInterceptor
from mesh.controlplane.limits import FIRST_CONTACTS, age_options, connection_age, connections
from mesh.model.address import Address
from mesh.registry.registry import Registry
from mesh.xds.server import OPTIONS as XDS_OPTIONS
from mesh.xds.server import DiscoveryService, discovery_server, listen

GUARDED: Final = {
    # Whoever can reach a port may connect: it has to say something soon, and not much before it is known.
    "grpc.server_handshake_timeout_ms": 10_000,
    "grpc.http2.settings_timeout": 10_000,
    "grpc.max_metadata_size": 8 * 1024,
    "grpc.absolute_max_metadata_size": 16 * 1024,
    "grpc.max_concurrent_streams": 100,
}

XDS: Final = {**dict(XDS_OPTIONS), **GUARDED}

FOR_ALL: Final = {
    **XDS,
    **dict(API_OPTIONS),
    # A machine whose link is cut says nothing: its agent is gone after 15 s, and its term begins.
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.http2.ping_timeout_ms": 5_000,
}

FIRST_CONTACT: Final = {
    **GUARDED,
    "grpc.so_reuseport": 0,
    # Whoever can reach the port may ask: for little, not often at a time, and not for long.
    "grpc.max_allowed_incoming_connections": FIRST_CONTACTS,
    "grpc.max_receive_message_length": 128 * 1024,
    "grpc.max_concurrent_streams": 4,
    "grpc.max_connection_idle_ms": 5_000,
    "grpc.max_connection_age_ms": 60_000,
    "grpc.max_connection_age_grace_ms": 5_000,
}

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
    others: Sequence[Address],
) -> NoReturn:
    """Serves xDS at `xds`, and for other machines the API, too, until it is cancelled.

    A connection ends before the certificate does by which it was let in: all begin anew when the lifetime of leaves
    changes. `trust` makes credentials, `mutual` or not. Raises StartError when somebody else has one of the ports.
    """
    most = connections(1 + len(others), first_contacts=len(others))

    def servers(age: timedelta) -> Iterator[tuple[grpc.aio.Server, Address, bool]]:
        """Each with its address, and whether its clients need a certificate."""
        bounded = {"grpc.max_allowed_incoming_connections": most, **age_options(age)}
        door = AccessInterceptor(ValidDoor(registry), api.refused)
        yield discovery_server(discovery, tuple({**XDS, **bounded}.items()), [door]), xds, True
        for address in others:
            for_all = api.behind(CertificateDoor(registry), tuple({**FOR_ALL, **bounded}.items()))
            for_all.add_generic_rpc_handlers(discovery.handlers())
            yield for_all, address, True
            yield api.behind(FirstContactDoor(), tuple(FIRST_CONTACT.items())), first_contact(address), False

    while True:
        seen, age = registry.changed.number, connection_age(registry.leaf_lifetime())
        async with AsyncExitStack() as stack:
            made = tuple(servers(age))
            for server, address, is_mutual in made:
                stack.push_async_callback(server.stop, grace=None)
                listen(server, address, trust(mutual=is_mutual))
            for server, address, is_mutual in made:
                await server.start()
                log.info("serving tcp=%s mutual=%s connections=%d", address, is_mutual, most)
            while connection_age(registry.leaf_lifetime()) == age:
                seen = await registry.changed.after(seen)
        log.info("serving_anew connection_age=%s", connection_age(registry.leaf_lifetime()))
