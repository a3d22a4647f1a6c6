"""Peers that send without end and perhaps never read: the server keeps its memory, and serves everybody else."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.api.proa.v1 import raw_xds_pb2, raw_xds_pb2_grpc
from mesh.snapshot.types import CLUSTER, ROUTE
from tests.mesh.running import patience
from tests.xds.conformance.client import VARIANTS, Connection, Variant
from tests.xds.debug_process import DebugProcess, debug_process
from tests.xds.raw import a_resource

MEGABYTE = 1024 * 1024
NAMES = 1_000
"""In each message."""
MESSAGES = 300
GROWTH = 32 * MEGABYTE
"""Of all the names that are sent, 300,000, each takes about 200 bytes where it is kept: 60 MB."""
ANSWERED_WITHIN = 5.0

DELTA, SOTW = Variant(delta=True, aggregated=True), Variant(delta=False, aggregated=True)


@pytest.fixture
def server() -> Iterator[DebugProcess]:
    with debug_process() as server:
        yield server


def names(number: int) -> list[str]:
    return [f"a name of sixty characters that is not used for anything {number}.{at}" for at in range(NAMES)]


def delta(number: int, type_url: str) -> bytes:
    """Subscribes to new names, and unsubscribes those of the message before."""
    return discovery_pb2.DeltaDiscoveryRequest(
        node=base_pb2.Node(id="flood"),
        type_url=type_url,
        resource_names_subscribe=names(number),
        resource_names_unsubscribe=names(number - 1),
    ).SerializeToString()


def delta_beside_a_wildcard(number: int, type_url: str) -> bytes:
    """The same names at once, which the wildcard may go on to cover: each has to be answered."""
    return discovery_pb2.DeltaDiscoveryRequest(
        node=base_pb2.Node(id="flood"),
        type_url=type_url,
        resource_names_subscribe=[] if number == 0 else ["*", *names(number)],
        resource_names_unsubscribe=[] if number == 0 else names(number),
    ).SerializeToString()


def sotw(number: int, type_url: str) -> bytes:
    """Asks for other names each time."""
    return discovery_pb2.DiscoveryRequest(
        node=base_pb2.Node(id="flood"), type_url=type_url, resource_names=names(number)
    ).SerializeToString()


Message = Callable[[int, str], bytes]

FLOODS = [
    pytest.param(DELTA, delta, ROUTE, id="delta"),
    pytest.param(DELTA, delta_beside_a_wildcard, CLUSTER, id="delta beside a wildcard"),
    pytest.param(SOTW, sotw, ROUTE, id="sotw"),
    pytest.param(SOTW, sotw, CLUSTER, id="sotw, full sets"),
]


@pytest.mark.parametrize(("variant", "message", "type_url"), FLOODS)
@pytest.mark.parametrize("reads", [True, False], ids=["and reads", "and never reads"])
async def test_a_flood_takes_no_memory_and_nobodys_turn(
    server: DebugProcess, variant: Variant, message: Message, type_url: str, reads: bool
) -> None:
    async with grpc.aio.insecure_channel(server.api) as api, grpc.aio.insecure_channel(server.xds) as good:
        stub = raw_xds_pb2_grpc.RawXdsStub(api)
        await stub.Set(raw_xds_pb2.RawXdsSetRequest(node_id="*", resources=[a_resource(CLUSTER, "a", "1")]))
        async with Connection(good, VARIANTS[0], CLUSTER) as connection:
            neighbour = connection.client(CLUSTER)
            await neighbour.ask("a")
            await neighbour.has_heard(1)
            before = peak = server.memory()

            flood = asyncio.create_task(flooded(server.xds, variant, message, type_url, reads))
            answered = []
            while not flood.done():
                asked = time.monotonic()
                version = str(len(answered) + 2)
                await stub.Set(raw_xds_pb2.RawXdsSetRequest(node_id="*", resources=[a_resource(CLUSTER, "a", version)]))
                await neighbour.has_heard(len(answered) + 2)
                answered.append(time.monotonic() - asked)
                peak = max(peak, server.memory())
            await flood

            assert neighbour.held == {"a": str(len(answered) + 1)}
            assert max(answered) < ANSWERED_WITHIN * patience()
            assert peak - before < GROWTH


async def flooded(address: str, variant: Variant, message: Message, type_url: str, reads: bool) -> None:
    """One stream, until the server has taken in all messages, or has had enough of them."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(variant.method(type_url))()
        reading = asyncio.create_task(drained(call)) if reads else None
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for number in range(MESSAGES):
                await call.write(message(number, type_url))
            await call.done_writing()
        if reading:
            await reading
        call.cancel()


async def drained(call: Any) -> None:
    with suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass


async def test_messages_that_are_too_large_do_not_add_up(server: DebugProcess) -> None:
    before = server.memory()
    async with grpc.aio.insecure_channel(server.xds) as channel:
        for _ in range(10):
            call = channel.stream_stream(DELTA.method(CLUSTER))()
            await call.write(bytes(50 * MEGABYTE))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    # gRPC keeps some of what was on its way when it refused; all of it would be ten times 50 MB.
    assert server.memory() - before < 5 * 50 * MEGABYTE
