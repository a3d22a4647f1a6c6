"""What one peer may take of the control plane: connections, time until it says anything, calls, time after that."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest

from mesh.controlplane import limits, tcp
from mesh.controlplane.limits import age_options, connection_age, connections
from mesh.model.address import Address
from tests.controlplane.conftest import SECONDS, Plane
from tests.controlplane.proxy import METHOD, credentials, proxy
from tests.unit.registry.builders import workload

ORDERS = "shop/orders/orders-0"


@pytest.mark.parametrize(
    ("lifetime", "age"),
    [
        pytest.param(timedelta(hours=24), timedelta(minutes=30), id="a day"),
        pytest.param(timedelta(hours=1), timedelta(minutes=15), id="an hour"),
        pytest.param(timedelta(seconds=60), timedelta(seconds=15), id="as short as it may be"),
    ],
)
def test_a_connection_ends_before_its_certificate(lifetime: timedelta, age: timedelta) -> None:
    assert connection_age(lifetime) == age
    options = age_options(age)
    longest = options["grpc.max_connection_age_ms"] * 1.1 + options["grpc.max_connection_age_grace_ms"]
    # The latest renewal is at 60 % of its life.
    assert timedelta(milliseconds=longest) < lifetime * 0.4


def test_descriptors_are_left_for_everything_else() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for listening in (0, 1, 3):
        taken = (1 + listening) * connections(1 + listening, listening) + listening * limits.FIRST_CONTACTS
        assert taken <= max(soft - limits.SPARED, 2 * limits.SPARED + listening * limits.FIRST_CONTACTS)


@pytest.fixture(autouse=True)
def little(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room, and 300 ms for a handshake unless a test says otherwise."""
    assert "grpc.server_handshake_timeout_ms" in tcp.XDS
    monkeypatch.setitem(tcp.XDS, "grpc.server_handshake_timeout_ms", getattr(request, "param", 300))
    monkeypatch.setattr(tcp, "connections", lambda servers, first_contacts: 4)


async def closed(reader: asyncio.StreamReader) -> None:
    """Returns when the other side has closed the connection."""
    try:
        async with asyncio.timeout(5):
            assert await reader.read() == b""
    except ConnectionError:
        pass


@pytest.fixture
async def shop(plane: Plane) -> Plane:
    await plane.client.start_with(workload("orders"))
    await credentials(plane.client, "orders")
    return plane


@asynccontextmanager
async def silent(xds: Address) -> AsyncIterator[asyncio.StreamReader]:
    """A connection, as soon as somebody listens, that says nothing."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                reader, writer = await asyncio.open_connection(xds.host, xds.port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
    try:
        yield reader
    finally:
        writer.transport.abort()


async def test_who_says_nothing_is_not_waited_for(shop: Plane) -> None:
    async with silent(shop.settings.xds) as one:
        await closed(one)


@pytest.mark.parametrize("little", [60_000], indirect=True)
async def test_more_connections_are_closed_at_once_and_those_that_are_there_stay(shop: Plane) -> None:
    xds = shop.settings.xds
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"), proxy(xds, ORDERS, trusted) as envoy:
        await envoy.until("inbound/50051")
        async with silent(xds), silent(xds), silent(xds), silent(xds) as fifth:
            await closed(fifth)  # long before the others, for their silence
        assert not envoy.call.done()


async def test_one_identity_has_so_many_calls_and_others_go_on(shop: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CALLS", 2)
    options = [("grpc.ssl_target_name_override", "localhost")]
    trusted = await credentials(shop.client, "orders")
    async with grpc.aio.secure_channel(str(shop.settings.xds), trusted, options=options) as channel:
        calls = [channel.stream_stream(METHOD)() for _ in range(3)]
        async with asyncio.timeout(SECONDS):
            over = await asyncio.wait(
                {asyncio.ensure_future(one.code()) for one in calls}, return_when="FIRST_COMPLETED"
            )
        assert [one.result() for one in over[0]] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert sum(one.done() for one in calls) == 1
        for one in calls:
            one.cancel()

        # Its instances have room of their own, and what has ended counts no more.
        async with shop.client.attached("orders-0"), proxy(shop.settings.xds, ORDERS, trusted) as envoy:
            await envoy.until("inbound/50051")


async def test_another_lifetime_of_leaves_is_another_age_of_connections(
    shop: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PART", 0.02)
    trusted = await credentials(shop.client, "orders")
    async with shop.client.attached("orders-0"):
        async with proxy(shop.settings.xds, ORDERS, trusted) as envoy:
            await envoy.until("inbound/50051")
            await shop.client.apply(MINUTE)
            async with asyncio.timeout(5):
                await envoy.call.code()
        async with proxy(shop.settings.xds, ORDERS, trusted) as envoy:
            await envoy.until("inbound/50051")
            async with asyncio.timeout(5):  # 1.2 s, the tenth that gRPC adds, and the grace
                assert await envoy.call.code() is not grpc.StatusCode.OK


MINUTE = """
apiVersion: proa.mesh/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  certificates: {leafLifetime: 60s}
"""


def test_the_limits_are_those_that_are_promised() -> None:
    """By docs/security.md. The other tests put smaller ones in their place."""
    promised = {
        "server_handshake_timeout_ms": 10_000,
        "http2.settings_timeout": 10_000,
        "max_metadata_size": 8_192,
        "absolute_max_metadata_size": 16_384,
        "max_concurrent_streams": 100,
    }
    of_strangers = {
        "max_allowed_incoming_connections": 256,
        "max_receive_message_length": 131_072,
        "max_concurrent_streams": 4,
        "max_connection_idle_ms": 5_000,
        "max_connection_age_ms": 60_000,
    }
    assert {name: tcp.GUARDED[f"grpc.{name}"] for name in promised} == promised
    assert {name: tcp.FIRST_CONTACT[f"grpc.{name}"] for name in of_strangers} == of_strangers
    assert (limits.CALLS, limits.CALLS_PER_INSTANCE) == (256, 4)
