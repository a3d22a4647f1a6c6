"""Peers that stop reading while much changes: they cost what is on its way to them, and delay nobody."""

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.api.proa.v1 import raw_xds_pb2, raw_xds_pb2_grpc
from mesh.snapshot.types import ROUTE
from tests.mesh.running import patience
from tests.xds.conformance.client import VARIANTS, Connection, Variant
from tests.xds.debug_process import DebugProcess, debug_process

DELTA = Variant(delta=True, aggregated=True)
READERS, CHANGES, SIZE = 20, 40, 200_000
ONE_EACH = READERS * SIZE * 2
"""Bytes, 8 MB; once in the control plane and once on the way. All changes would be 160 MB."""
SOON = 10.0


@pytest.fixture
def server() -> Iterator[DebugProcess]:
    """Each connection is a file at both ends."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    try:
        with debug_process() as server:
            yield server
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def put(stub: Any, version: int) -> None:
    content = AnyMessage(type_url=ROUTE, value=f"a={version}".encode().ljust(SIZE, b" "))
    route = raw_xds_pb2.RawResource(name="a", resource=content, version=str(version))
    await stub.Set(raw_xds_pb2.RawXdsSetRequest(node_id="*", resources=[route]))


async def test_who_stops_reading_costs_one_response_and_delays_nobody(server: DebugProcess) -> None:
    async with grpc.aio.insecure_channel(server.api) as api, grpc.aio.insecure_channel(server.xds) as good:
        stub = raw_xds_pb2_grpc.RawXdsStub(api)
        await put(stub, 1)
        async with Connection(good, VARIANTS[0], ROUTE) as connection, AsyncExitStack() as stack:
            neighbour = connection.client(ROUTE)
            await neighbour.ask("a")
            await neighbour.has_heard(1)
            for _ in range(READERS):
                await stack.enter_async_context(who_never_reads(server.xds))
            before, slowest = server.memory(), 0.0

            for version in range(2, CHANGES + 2):
                changed = time.monotonic()
                await put(stub, version)
                await neighbour.has_heard(version)
                slowest = max(slowest, time.monotonic() - changed)

            assert neighbour.held["a"].rstrip() == str(CHANGES + 1)
            assert slowest < SOON * patience()
            assert server.memory() - before < ONE_EACH


@asynccontextmanager
async def who_never_reads(address: str) -> AsyncIterator[None]:
    """On a connection of its own. What the kernel and gRPC take is less than one response."""
    async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.stream_stream(DELTA.method(ROUTE))()
        request = discovery_pb2.DeltaDiscoveryRequest(
            node=base_pb2.Node(id="slow"), type_url=ROUTE, resource_names_subscribe=["a"]
        )
        await call.write(request.SerializeToString())
        yield
        call.cancel()


async def test_a_thousand_connections_in_one_moment_are_all_accepted(server: DebugProcess) -> None:
    loop = asyncio.get_running_loop()
    host, port = server.xds.rsplit(":", 1)
    connections = [socket.socket() for _ in range(1_000)]
    try:
        for one in connections:
            one.setblocking(False)
            one.connect_ex((host, int(port)))
        async with asyncio.timeout(SOON * patience()):
            for one in connections:
                await loop.sock_sendall(one, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            greetings = [await loop.sock_recv(one, 9) for one in connections]
    finally:
        for one in connections:
            one.close()

    assert all(greeting[3] == 4 for greeting in greetings), "no SETTINGS"
