"""The discovery service over real connections: who is served, who is refused, and who waits for whom."""

import asyncio
import gc
import weakref
from datetime import timedelta

import grpc
import pytest

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from mesh.errors import StartError
from mesh.identity.credentials import server_credentials
from mesh.model.address import Address
from mesh.model.names import Identity
from mesh.registry.status import OTHER_TYPES, ProxyState, Tally
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import CLUSTER, ENDPOINT, ROUTE
from mesh.xds.known import FEW_NAMES
from mesh.xds.server import discovery_server, listen
from mesh.xds.session import Session
from mesh.xds.stages import MAX_NAMES
from mesh.xds.subscription import Subscription
from tests.xds.control_plane import HERE, NODE, ORDERS, STRANGER, ControlPlane, Stream, now

SOON = timedelta(seconds=10)


def a_resource(type_url: str, name: str, version: str = "1") -> Resource:
    return Resource(name, type_url, version.encode(), version)


def versions(response: DeltaDiscoveryResponse) -> dict[str, str]:
    return {resource.name: resource.version for resource in response.resources}


async def test_a_proxy_gets_what_it_should_have_over_mutual_tls(control_plane: ControlPlane) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"), a_resource(ENDPOINT, "a"))
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=NODE)
        clusters = await stream.receive()
        await stream.ask(ENDPOINT, "a")
        endpoints = await stream.receive()

        assert (clusters.type_url, versions(clusters)) == (CLUSTER, {"a": "1"})
        assert (endpoints.type_url, versions(endpoints)) == (ENDPOINT, {"a": "1"})
        assert clusters.control_plane.identifier == "proa"


async def test_a_change_is_pushed(control_plane: ControlPlane) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"))
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=NODE)
        await stream.ack(await stream.receive())

        control_plane.publish(a_resource(CLUSTER, "a", "2"))

        assert versions(await stream.receive()) == {"a": "2"}


async def test_a_proxy_whose_state_is_not_published_yet_waits_for_it(control_plane: ControlPlane) -> None:
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=NODE)
        while control_plane.board.proxy(NODE) is None:
            await control_plane.board.changes.after(0)
        assert not await control_plane.board.wait_synced(timedelta(milliseconds=50))

        control_plane.publish(a_resource(CLUSTER, "a"))

        assert versions(await stream.receive()) == {"a": "1"}


async def test_a_proxy_that_is_withdrawn_is_told_nothing_more(control_plane: ControlPlane) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"))
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=NODE)
        await stream.ack(await stream.receive())
        control_plane.cache.withdraw(NODE)
        await stream.ask(ROUTE, "r")

        control_plane.publish(a_resource(CLUSTER, "a", "2"), a_resource(ROUTE, "r"))

        assert versions(await stream.receive()) == {"a": "2"}


async def test_two_streams_of_one_proxy_are_both_served(control_plane: ControlPlane) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"))
    async with control_plane.channel() as old, control_plane.channel() as new:
        streams = [Stream(old), Stream(new)]
        for stream in streams:
            await stream.ask(CLUSTER, node_id=NODE)
            await stream.ack(await stream.receive())

        control_plane.publish(a_resource(CLUSTER, "a", "2"))

        assert [versions(await stream.receive()) for stream in streams] == [{"a": "2"}, {"a": "2"}]


async def test_a_proxy_that_does_not_answer_holds_up_nobody_and_then_gets_the_newest(
    control_plane: ControlPlane,
) -> None:
    control_plane.identities["other"] = ORDERS.uri
    async with control_plane.channel() as channel, control_plane.channel() as other_channel:
        silent, other = Stream(channel), Stream(other_channel)
        await silent.ask(CLUSTER, node_id=NODE)
        await other.ask(CLUSTER, node_id="other")
        control_plane.publish(a_resource(CLUSTER, "a", "1"))
        first = await silent.receive()
        assert versions(first) == {"a": "1"}
        for version in ("1", "2", "3"):
            control_plane.publish(a_resource(CLUSTER, "a", version))
            control_plane.publish(a_resource(CLUSTER, "a", version), node_id="other")
            answered = await other.receive()
            assert versions(answered) == {"a": version}
            await other.ack(answered)

        await silent.ack(first)
        assert versions(await silent.receive()) == {"a": "3"}


async def test_the_board_says_how_far_a_proxy_is(control_plane: ControlPlane) -> None:
    control_plane.publish(a_resource(CLUSTER, "a", "good"))
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=NODE)
        response = await stream.receive()
        assert not await control_plane.board.wait_synced(timedelta(milliseconds=50))
        assert status_of(control_plane) is ProxyState.PENDING

        await stream.ack(response)
        assert await control_plane.board.wait_synced(SOON)
        assert status_of(control_plane) is ProxyState.SYNCED

        control_plane.publish(a_resource(CLUSTER, "a", "bad"))
        refused = await stream.receive()
        await stream.ask(CLUSTER, nonce=refused.nonce, error="no such thing")
        assert await control_plane.board.wait_synced(SOON)
        proxy = control_plane.board.proxy(NODE)
        assert proxy is not None
        assert (proxy.state, proxy.last_nack) == (ProxyState.NACKED, "a: no such thing")
        assert (proxy.report.bytes_sent, proxy.report.resources_sent) == (len("good") + len("bad"), 2)


async def test_nothing_that_a_proxy_says_is_an_order_to_a_terminal(control_plane: ControlPlane) -> None:
    order = "\x1b[2J\x9b2J\r\nall is well"
    node = base_pb2.Node(id=NODE, user_agent_version=order)
    control_plane.publish(a_resource(CLUSTER, "a"))
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.send(DeltaDiscoveryRequest(type_url=CLUSTER, node=node).SerializeToString())
        await stream.ask(CLUSTER, nonce=(await stream.receive()).nonce, error=order)
        assert await control_plane.board.wait_synced(SOON)
        proxy = control_plane.board.proxy(NODE)
        assert proxy is not None
        assert proxy.last_nack == "a: [2J 2J all is well"
        assert proxy.envoy_version.isprintable()
        assert all(one.error.isprintable() for of_type in proxy.report.types for one in of_type.refused)


async def test_messages_are_counted_by_type_over_all_streams(control_plane: ControlPlane) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"))
    size = 0
    async with control_plane.channel() as channel:
        for error in ("", "no such thing"):
            stream = Stream(channel)
            await stream.ask(CLUSTER, node_id=NODE)
            response = await stream.receive()
            await stream.ask(CLUSTER, nonce=response.nonce, error=error)
            await stream.ask(f"type.googleapis.com/type.{error}", "x")
            size += len(response.SerializeToString())
            await stream.receive()
            await stream.done()
            await stream.end()

    totals = control_plane.board.totals()
    assert totals[CLUSTER] == Tally(responses=2, bytes=size, acks=1, nacks=1)
    assert totals.keys() == {CLUSTER, OTHER_TYPES}
    assert totals[OTHER_TYPES].responses == 2


async def test_a_wait_counts_what_was_published_a_moment_ago(control_plane: ControlPlane) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"))
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=NODE)
        await stream.ack(await stream.receive())
        assert await control_plane.board.wait_synced(SOON)

        control_plane.publish(a_resource(CLUSTER, "a", "2"))

        assert control_plane.board.lagging() == (NODE,)


@pytest.mark.parametrize("how", ["cancels", "has said all"])
async def test_a_stream_that_its_client_ends_leaves_nothing_behind(control_plane: ControlPlane, how: str) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"))
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=NODE)
        await stream.receive()
        if how == "cancels":
            stream.cancel()
        else:
            await stream.done()
            assert (await stream.end())[0] is grpc.StatusCode.OK

        assert await control_plane.board.wait_synced(SOON)
    assert status_of(control_plane) is ProxyState.DISCONNECTED


async def test_what_was_published_before_is_not_kept_by_who_has_what_is_now(control_plane: ControlPlane) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"), a_resource(ENDPOINT, "a"))
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=NODE)
        # What newcomers are told is kept for the next one, but not for those that ask for so many names.
        await stream.ask(ENDPOINT, "a", *(f"not there {number}" for number in range(FEW_NAMES)))
        for _ in range(2):
            await stream.ack(await stream.receive())
        assert await control_plane.board.wait_synced(SOON)
        state = control_plane.cache.state(NODE, HERE)
        assert state
        before = weakref.ref(state.of(ENDPOINT))
        del state

        control_plane.publish(a_resource(CLUSTER, "a"), a_resource(ENDPOINT, "a"), a_resource(ENDPOINT, "b"))

        assert control_plane.board.lagging() == ()
        assert before() is None


def left() -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, Session | Subscription)]


async def test_a_stream_that_has_ended_is_nothing_for_the_garbage_collector(control_plane: ControlPlane) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"))
    gc.collect()
    gc.disable()
    try:
        async with control_plane.channel() as channel:
            stream = Stream(channel)
            await stream.ask(CLUSTER, node_id=NODE)
            await stream.receive()
            stream.cancel()
            async with asyncio.timeout(SOON.total_seconds()):
                while left():  # noqa: ASYNC110 # the collector tells nobody
                    await asyncio.sleep(0.01)
    finally:
        gc.enable()


async def test_a_stream_without_a_message_is_no_proxy(control_plane: ControlPlane) -> None:
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.done()

        assert (await stream.end())[0] is grpc.StatusCode.OK
    assert control_plane.board.proxies() == ()


@pytest.mark.parametrize(
    ("identity", "node_id", "words"),
    [
        pytest.param(STRANGER, NODE, "stranger", id="somebody else's node"),
        pytest.param(ORDERS, "shop/orders/orders-9", "no agent has attached", id="a node that nobody has attached"),
    ],
)
async def test_a_proxy_that_may_not_ask_is_refused(
    control_plane: ControlPlane, identity: Identity, node_id: str, words: str
) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"))
    async with control_plane.channel(identity) as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=node_id)

        code, details = await stream.end()

    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert words in details
    assert control_plane.board.proxies() == ()


async def test_a_caller_without_a_certificate_does_not_get_in(control_plane: ControlPlane) -> None:
    async with control_plane.channel(None) as channel:
        assert (await Stream(channel).end())[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_authority_does_not_get_in(control_plane: ControlPlane) -> None:
    other = ControlPlane()
    key, chain = other.leaf(ORDERS)
    roots = control_plane.authority.bundle_pem
    credentials = grpc.ssl_channel_credentials(roots.encode(), key.encode(), chain.encode())
    options = [("grpc.ssl_target_name_override", "localhost")]
    async with grpc.aio.secure_channel(f"127.0.0.1:{control_plane.port}", credentials, options) as channel:
        assert (await Stream(channel).end())[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_first_message_without_a_node_is_refused(control_plane: ControlPlane) -> None:
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER)

        code, details = await stream.end()

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "no node id" in details


async def test_a_node_id_that_changes_is_refused(control_plane: ControlPlane) -> None:
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.ask(CLUSTER, node_id=NODE)
        await stream.ask(ROUTE, node_id=NODE)
        await stream.ask(ROUTE, node_id="shop/payments/payments-0")

        assert (await stream.end())[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("is_first", [True, False], ids=["as the first message", "later"])
async def test_a_message_without_a_type_is_refused(control_plane: ControlPlane, is_first: bool) -> None:
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        if not is_first:
            await stream.ask(CLUSTER, node_id=NODE)
        await stream.ask("", node_id=NODE)

        assert (await stream.end())[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert all(proxy.state is ProxyState.DISCONNECTED for proxy in control_plane.board.proxies())


async def test_malformed_bytes_are_refused(control_plane: ControlPlane) -> None:
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.send(b"\xff\xff\xff\xff")

        assert (await stream.end())[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_too_many_names_are_refused_and_other_streams_are_not_disturbed(control_plane: ControlPlane) -> None:
    control_plane.publish(a_resource(CLUSTER, "a"))
    async with control_plane.channel() as channel, control_plane.channel() as other_channel:
        other, greedy = Stream(other_channel), Stream(channel)
        await other.ask(CLUSTER, node_id=NODE)
        await other.ack(await other.receive())

        await greedy.ask(ROUTE, *(f"route {number}" for number in range(MAX_NAMES + 1)), node_id=NODE)

        assert (await greedy.end())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        control_plane.publish(a_resource(CLUSTER, "a", "2"))
        assert versions(await other.receive()) == {"a": "2"}


@pytest.mark.parametrize("mebibytes", [4.1, 50])
async def test_a_message_that_is_too_large_is_refused(control_plane: ControlPlane, mebibytes: float) -> None:
    async with control_plane.channel() as channel:
        stream = Stream(channel)
        await stream.send(bytes(int(mebibytes * 1024 * 1024)))

        assert (await stream.end())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_large_response_reaches_a_client_that_takes_it(control_plane: ControlPlane) -> None:
    """By default a gRPC client takes 4 MiB; Envoy takes more."""
    large = Resource("a", CLUSTER, bytes(5 * 1024 * 1024), "1")
    control_plane.publish(large)
    unlimited = ("grpc.max_receive_message_length", -1)
    async with control_plane.channel() as default, control_plane.channel(ORDERS, unlimited) as generous:
        small, big = Stream(default), Stream(generous)
        for stream in (small, big):
            await stream.ask(CLUSTER, node_id=NODE)

        assert (await small.end())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len((await big.receive()).resources[0].resource.value) == len(large.value)


async def test_a_port_that_is_taken_is_said_so(control_plane: ControlPlane) -> None:
    second = discovery_server(control_plane.service())
    credentials = server_credentials(lambda: control_plane.authority, now)

    with pytest.raises(StartError, match=f"127.0.0.1:{control_plane.port}"):
        listen(second, Address("127.0.0.1", control_plane.port), credentials)


def status_of(control_plane: ControlPlane) -> ProxyState:
    [proxy] = control_plane.board.proxies()
    return proxy.state
