"""Whatever a peer sends: a clear status, a count, bounded memory, and nobody else notices."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import grpc
import pytest

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from mesh.model.names import Identity
from mesh.registry.status import ProxyState
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import CLUSTER, ROUTE
from mesh.xds.services import AGGREGATED
from mesh.xds.stages import MAX_NAMES, MAX_TYPES
from tests.xds.control_plane import NODE, ORDERS, STRANGER, ControlPlane, Stream

SECONDS = 20
MEGABYTE = 1024 * 1024
NEIGHBOUR = "shop/neighbour/neighbour-0"
ELSEWHERE = Identity("elsewhere.local", "shop", "orders")


def a_cluster(name: str, version: str = "1") -> Resource:
    return Resource(name, CLUSTER, version.encode(), version)


@dataclass(frozen=True, slots=True)
class Refused:
    """How a stream should end: its status, what its peer is told, and under which reason it is counted."""

    status: grpc.StatusCode
    words: str
    reason: str


PROTOCOL, IDENTITY, LIMIT = "protocol", "identity", "limit"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
DENIED = grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED

Misbehaviour = Callable[[Stream], Awaitable[None]]


async def sends_garbage(stream: Stream) -> None:
    await stream.send(b"\xff\xff\xff\xff")


async def sends_garbage_later(stream: Stream) -> None:
    await stream.ask(CLUSTER, node_id=NODE)
    await stream.send(b"\x0a\xff")


async def sends_nothing_in_a_message(stream: Stream) -> None:
    await stream.send(b"")


async def has_no_node(stream: Stream) -> None:
    await stream.ask(CLUSTER)


async def has_a_long_name(stream: Stream) -> None:
    await stream.ask(CLUSTER, node_id="x" * 1_000_000)


async def has_no_type(stream: Stream) -> None:
    await stream.ask("", node_id=NODE)


async def becomes_another(stream: Stream) -> None:
    await stream.ask(CLUSTER, node_id=NODE)
    await stream.ask(CLUSTER, node_id=NEIGHBOUR)


async def is_another(stream: Stream) -> None:
    await stream.ask(CLUSTER, node_id=NEIGHBOUR)


async def is_nobody(stream: Stream) -> None:
    await stream.ask(CLUSTER, node_id="shop/orders/orders-9")


async def is_itself(stream: Stream) -> None:
    await stream.ask(CLUSTER, node_id=NODE)


async def asks_for_100_000_names(stream: Stream) -> None:
    await stream.ask(ROUTE, *(f"route {number}" for number in range(100_000)), node_id=NODE)


async def asks_for_too_many_names_bit_by_bit(stream: Stream) -> None:
    for start in range(0, MAX_NAMES, 5_000):
        await stream.ask(ROUTE, *(f"route {number}" for number in range(start, start + 5_000)), node_id=NODE)
    await stream.ask(CLUSTER, "one more")


async def leaves_too_many_names_beside_a_wildcard(stream: Stream) -> None:
    """It is owed an answer about each of them, and does not take even the first one."""
    await stream.ask(CLUSTER, node_id=NODE)
    for start in range(0, MAX_NAMES + 5_000, 5_000):
        names = [f"cluster {number}" for number in range(start, start + 5_000)]
        request = DeltaDiscoveryRequest(
            type_url=CLUSTER, resource_names_subscribe=names, resource_names_unsubscribe=names
        )
        await stream.send(request.SerializeToString())


async def asks_for_a_long_name(stream: Stream) -> None:
    await stream.ask(ROUTE, "x" * 5_000, node_id=NODE)


async def asks_for_a_long_name_later(stream: Stream) -> None:
    await stream.ask(ROUTE, "x", node_id=NODE)
    await stream.ask(ROUTE, "x" * 5_000)


async def brings_a_long_version(stream: Stream) -> None:
    await stream.ask(CLUSTER, node_id=NODE, held={"cluster": "x" * 5_000})


async def asks_for_a_long_type(stream: Stream) -> None:
    await stream.ask("type.googleapis.com/" + "x" * 5_000, node_id=NODE)


async def brings_100_000_versions(stream: Stream) -> None:
    await stream.ask(CLUSTER, node_id=NODE, held={f"cluster {number}": "1" for number in range(100_000)})


async def asks_for_too_many_types(stream: Stream) -> None:
    for number in range(MAX_TYPES + 1):
        await stream.ask(f"type.googleapis.com/type.number.{number}", "a", node_id=NODE)


REFUSALS = [
    (sends_garbage, ORDERS, Refused(INVALID, "a message is not a", PROTOCOL)),
    (sends_garbage_later, ORDERS, Refused(INVALID, "a message is not a", PROTOCOL)),
    (sends_nothing_in_a_message, ORDERS, Refused(INVALID, "no node id", PROTOCOL)),
    (has_no_node, ORDERS, Refused(INVALID, "no node id", PROTOCOL)),
    (has_a_long_name, ORDERS, Refused(INVALID, "the node id is longer than 800", PROTOCOL)),
    (has_no_type, ORDERS, Refused(INVALID, "no type_url", PROTOCOL)),
    (becomes_another, ORDERS, Refused(INVALID, "the node id changed", PROTOCOL)),
    (is_another, ORDERS, Refused(DENIED, "its certificate says", IDENTITY)),
    (is_nobody, ORDERS, Refused(DENIED, "no agent has attached", IDENTITY)),
    (is_itself, STRANGER, Refused(DENIED, "its certificate says", IDENTITY)),
    (is_itself, ELSEWHERE, Refused(DENIED, "spiffe://elsewhere.local/", IDENTITY)),
    (asks_for_100_000_names, ORDERS, Refused(EXHAUSTED, "more than", LIMIT)),
    (asks_for_too_many_names_bit_by_bit, ORDERS, Refused(EXHAUSTED, "more than", LIMIT)),
    (leaves_too_many_names_beside_a_wildcard, ORDERS, Refused(EXHAUSTED, "more than", LIMIT)),
    (asks_for_a_long_name, ORDERS, Refused(EXHAUSTED, "more than 2048 characters", LIMIT)),
    (asks_for_a_long_name_later, ORDERS, Refused(EXHAUSTED, "more than 2048 characters", LIMIT)),
    (asks_for_a_long_type, ORDERS, Refused(EXHAUSTED, "more than 2048 characters", LIMIT)),
    (brings_a_long_version, ORDERS, Refused(EXHAUSTED, "more than 2048 characters", LIMIT)),
    (brings_100_000_versions, ORDERS, Refused(EXHAUSTED, "more than", LIMIT)),
    (asks_for_too_many_types, ORDERS, Refused(EXHAUSTED, "more than", LIMIT)),
]


def delta() -> bytes:
    return DeltaDiscoveryRequest(node=base_pb2.Node(id=NODE), type_url=ROUTE).SerializeToString()


def sotw(*names: str, type_url: str = ROUTE) -> bytes:
    return DiscoveryRequest(node=base_pb2.Node(id=NODE), type_url=type_url, resource_names=names).SerializeToString()


SOTW_REFUSALS = [
    pytest.param([b"\xff\xff"], Refused(INVALID, "not a DiscoveryRequest", PROTOCOL), id="garbage"),
    pytest.param([sotw(), b"\x0a\xff"], Refused(INVALID, "not a DiscoveryRequest", PROTOCOL), id="garbage later"),
    pytest.param([sotw(type_url="")], Refused(INVALID, "no type_url", PROTOCOL), id="no type"),
    pytest.param([b""], Refused(INVALID, "no node id", PROTOCOL), id="an empty message"),
    pytest.param([sotw(*map(str, range(100_000)))], Refused(EXHAUSTED, "more than", LIMIT), id="100,000 names"),
    pytest.param([sotw("a"), sotw(*map(str, range(100_000)))], Refused(EXHAUSTED, "more than", LIMIT), id="and later"),
]


@asynccontextmanager
async def undisturbed(control_plane: ControlPlane) -> AsyncIterator[None]:
    """A proxy that keeps the rules: whatever happens in the block, its stream goes on."""
    control_plane.identities[NEIGHBOUR] = STRANGER.uri
    control_plane.publish(a_cluster("a"), node_id=NEIGHBOUR)
    async with control_plane.channel(STRANGER) as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=NEIGHBOUR)
        await stream.ack(await stream.receive())
        yield
        control_plane.publish(a_cluster("a", "2"), node_id=NEIGHBOUR)
        changed = await stream.receive()
        assert [(one.name, one.version) for one in changed.resources] == [("a", "2")]


@pytest.mark.parametrize(
    ("misbehave", "identity", "refused"),
    REFUSALS,
    ids=[f"{identity.trust_domain}-{identity.service_account}-{how.__name__}" for how, identity, _ in REFUSALS],
)
async def test_a_stream_that_cannot_go_on_ends_with_a_status_and_is_counted(
    control_plane: ControlPlane, misbehave: Misbehaviour, identity: Identity, refused: Refused
) -> None:
    control_plane.publish(a_cluster("a"))
    async with undisturbed(control_plane):
        # Whatever a certificate says: it is the authority of the mesh that has signed it.
        control_plane.authority.trust_domain = identity.trust_domain
        async with control_plane.channel(identity) as channel:
            stream = Stream(channel)
            await misbehave(stream)
            async with asyncio.timeout(SECONDS):
                status, words = await stream.end()

        assert (status, refused.words in words) == (refused.status, True), words
        (counted,) = control_plane.board.refused_streams()
        assert (counted.reason, counted.count, counted.last) == (refused.reason, 1, words)


@pytest.mark.parametrize(("messages", "refused"), SOTW_REFUSALS)
async def test_so_does_one_of_the_state_of_the_world_variant(
    control_plane: ControlPlane, messages: list[bytes], refused: Refused
) -> None:
    control_plane.publish(a_cluster("a"))
    async with undisturbed(control_plane):
        async with control_plane.channel() as channel:
            stream = Stream(channel, AGGREGATED.sotw)
            for message in messages:
                await stream.send(message)
            async with asyncio.timeout(SECONDS):
                status, words = await stream.end()

        assert (status, refused.words in words) == (refused.status, True), words
        (counted,) = control_plane.board.refused_streams()
        assert (counted.reason, counted.count, counted.last) == (refused.reason, 1, words)


async def test_a_type_that_nobody_knows_is_answered_and_the_stream_goes_on(control_plane: ControlPlane) -> None:
    control_plane.publish(a_cluster("a"))
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask("type.googleapis.com/nobody.knows.This", "x", node_id=NODE)
        unknown = await stream.receive()
        assert (list(unknown.removed_resources), list(unknown.resources)) == (["x"], [])

        await stream.ask(CLUSTER)
        assert [one.name for one in (await stream.receive()).resources] == ["a"]


async def test_a_nonce_of_another_stream_is_no_answer(control_plane: ControlPlane) -> None:
    control_plane.publish(a_cluster("a"))
    async with control_plane.channel() as channel:
        one, other = Stream(channel), Stream(channel)
        for stream in (one, other):
            await stream.ask(CLUSTER, node_id=NODE)
        of_one, of_other = await one.receive(), await other.receive()

        await one.ask(CLUSTER, nonce=of_other.nonce, error="of another stream")
        await one.ack(of_one)
        await other.ack(of_other)

        assert await control_plane.board.wait_synced(timedelta(seconds=SECONDS))
        (proxy,) = control_plane.board.proxies()
        assert (proxy.state, proxy.last_nack) == (ProxyState.SYNCED, "")


@pytest.mark.parametrize("method", [AGGREGATED.delta, AGGREGATED.sotw])
@pytest.mark.parametrize("is_first", [True, False], ids=["at first", "later"])
async def test_a_request_of_50_megabytes_is_refused_before_it_is_taken_in(
    control_plane: ControlPlane, method: str, is_first: bool
) -> None:
    """By gRPC, so that it does not count as a stream that was refused."""
    control_plane.publish(a_cluster("a"))
    async with undisturbed(control_plane):
        async with control_plane.channel() as channel:
            stream = Stream(channel, method)
            if not is_first:
                await stream.send(sotw() if method == AGGREGATED.sotw else delta())
            await stream.send(bytes(50 * MEGABYTE))
            async with asyncio.timeout(SECONDS):
                status, words = await stream.end()

        assert status is EXHAUSTED
        assert "52428800" in words
