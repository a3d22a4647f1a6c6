"""`proa debug xds`: the xDS server without a mesh, which tells its clients what is set through `RawXds`."""

import asyncio
import ipaddress
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mesh.api.proa.v1 import raw_xds_pb2, raw_xds_pb2_grpc
from mesh.controlplane.errors import ErrorInterceptor
from mesh.controlplane.memory import settle
from mesh.controlplane.raw_service import RawService
from mesh.errors import UsageError
from mesh.model.address import Address
from mesh.registry.status import StatusBoard
from mesh.xds.peer import admit_anyone
from mesh.xds.raw import RawStore
from mesh.xds.server import DiscoveryService, discovery_server, listen

SERVICE: Final = raw_xds_pb2.DESCRIPTOR.services_by_name["RawXds"].full_name

OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    # All resources of a benchmark may come in one call.
    ("grpc.max_receive_message_length", 256 * 1024 * 1024),
)

GRACE: Final = 0.5
"""Seconds for calls to end."""


async def run(xds: Address, api: Address, ready: Callable[[Address, Address], None]) -> None:
    """Serves both in plaintext until SIGINT or SIGTERM; calls `ready` with the addresses as soon as it does.

    Raises UsageError for an address that others could reach, StartError for one that cannot be listened at.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(RawStore(), xds, api) as (xds, api):
        settle()
        ready(xds, api)
        await stop.wait()


@asynccontextmanager
async def serving(
    store: RawStore, xds: Address, api: Address, board: StatusBoard | None = None
) -> AsyncIterator[tuple[Address, Address]]:
    """Both servers, for as long as the block runs, at the addresses that it gets; port 0 becomes a free one.

    Who is connected, and how far, is on the `board`.
    """
    for address in (xds, api):
        _check_loopback(address)
    discovery = discovery_server(DiscoveryService(store, board or StatusBoard(_now), admit_anyone))
    control = await _control(store)
    bound = tuple(
        Address(address.host, listen(server, address, None)) for server, address in ((discovery, xds), (control, api))
    )
    await discovery.start()
    await control.start()
    try:
        yield bound[0], bound[1]
    finally:
        await control.stop(GRACE)
        await discovery.stop(None)


async def _control(store: RawStore) -> grpc.aio.Server:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=OPTIONS)
    raw_xds_pb2_grpc.add_RawXdsServicer_to_server(RawService(store), server)
    servicer = health.aio.HealthServicer()
    for name in ("", SERVICE):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server


def _check_loopback(address: Address) -> None:
    """There is neither encryption nor a question who asks."""
    try:
        is_loopback = ipaddress.ip_address(address.host.strip("[]")).is_loopback
    except ValueError:
        is_loopback = address.host == "localhost"
    if not is_loopback:
        raise UsageError(str(address), "this is no loopback address", "Write for example 127.0.0.1:0")


def _now() -> datetime:
    return datetime.now(UTC)
