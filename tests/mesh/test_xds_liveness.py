"""Streams that live long, and peers that do not, with real Envoys and in compressed time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.registry.status import ProxyState, ProxyStatus
from mesh.snapshot.types import CLUSTER
from tests.mesh.running import patience
from tests.xds.control_plane import NODE, ControlPlane, Stream
from tests.xds.envoy_process import EnvoyProcess
from tests.xds.shop import a_service, answering

pytestmark = pytest.mark.envoy

SOON = timedelta(seconds=20)
PING = "0.1s"
"""In place of Envoy's 30 s; a server's default allows a ping without data every 5 min."""


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    """One with a service to publish; not served yet."""
    control_plane = ControlPlane()
    async with answering("hello") as port:
        control_plane.publish(*a_service("web", port))
        yield control_plane


def the_proxy(control_plane: ControlPlane) -> ProxyStatus:
    [status] = control_plane.board.proxies()
    return status


async def becomes(
    control_plane: ControlPlane, state: ProxyState, within: timedelta = SOON, after: ProxyStatus | None = None
) -> ProxyStatus:
    """The status of the only proxy, as soon as it is in `state`, on another stream than that of `after`."""
    before = after.connected_since if after else None
    board = control_plane.board
    async with asyncio.timeout(within.total_seconds()):
        while True:
            seen = board.changes.number
            proxy = board.proxy(NODE)
            if proxy and proxy.state is state and (after is None or proxy.connected_since not in (None, before)):
                return proxy
            await board.changes.after(seen)


async def test_an_idle_stream_survives_envoys_pings(control_plane: ControlPlane, tmp_path: Path) -> None:
    envoy = EnvoyProcess(tmp_path, pings=PING)
    async with control_plane.serving(**{"http2.min_ping_interval_without_data_ms": 50}), envoy.running(control_plane):
        began = (await becomes(control_plane, ProxyState.SYNCED)).connected_since

        await asyncio.sleep(3)  # 30 pings, which is a quarter of an hour of Envoy's own

        proxy = the_proxy(control_plane)
        assert (proxy.state, proxy.connected_since) == (ProxyState.SYNCED, began)
        assert "too_many_pings" not in envoy.log()


async def test_without_the_setting_pings_end_the_stream(control_plane: ControlPlane, tmp_path: Path) -> None:
    """What the one above would miss, if it could."""
    envoy = EnvoyProcess(tmp_path, pings=PING)
    strict = {"http2.min_ping_interval_without_data_ms": 300_000}
    async with control_plane.serving(**strict), envoy.running(control_plane):
        began = (await becomes(control_plane, ProxyState.SYNCED)).connected_since

        async with asyncio.timeout(SOON.total_seconds()):
            while (proxy := the_proxy(control_plane)).connected_since in (None, began):
                await control_plane.board.changes.after(control_plane.board.changes.number)
        assert proxy.connected_since


async def test_a_frozen_envoy_is_noticed_in_time_and_served_when_it_thaws(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    envoy = EnvoyProcess(tmp_path)
    quick = {"keepalive_time_ms": 1_000, "keepalive_timeout_ms": 500, "http2.ping_timeout_ms": 500}
    async with control_plane.serving(**quick), envoy.running(control_plane):
        await becomes(control_plane, ProxyState.SYNCED)

        with envoy.frozen():
            # A ping every 1 s is waited for 0.5 s; the rest is for a busy machine.
            await becomes(control_plane, ProxyState.DISCONNECTED, within=timedelta(seconds=4) * patience())

        back = await becomes(control_plane, ProxyState.SYNCED)
        assert (back.report.bytes_sent, back.report.resources_sent) == (0, 0)


async def test_a_connection_has_an_age_and_the_next_one_is_sent_nothing(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    envoy = EnvoyProcess(tmp_path)
    aged = {"max_connection_age_ms": 2_000, "max_connection_age_grace_ms": 200}
    async with control_plane.serving(**aged), envoy.running(control_plane):
        first = await becomes(control_plane, ProxyState.SYNCED)
        assert first.report.resources_sent == 4

        second = await becomes(control_plane, ProxyState.SYNCED, after=first)

        assert (second.report.bytes_sent, second.report.resources_sent) == (0, 0)
        assert await asyncio.to_thread(envoy.call, "web") == "hello"


async def test_connections_that_began_together_do_not_end_together(control_plane: ControlPlane) -> None:
    """Else all proxies would come back at one moment, every half an hour."""
    age = 2.0
    aged = {"max_connection_age_ms": int(age * 1000), "max_connection_age_grace_ms": 1}
    async with control_plane.serving(**aged), AsyncExitStack() as stack:
        streams = [Stream(await stack.enter_async_context(control_plane.channel())) for _ in range(20)]

        async def lifetime(stream: Stream) -> tuple[float, float]:
            """A bit too long, as from before there was a connection, and a bit too short, as from its first answer."""
            clock = asyncio.get_running_loop().time
            asked = clock()
            await stream.ask(CLUSTER, node_id=NODE)
            response = await stream.receive()
            answered = clock()
            await stream.ack(response)
            await stream.end()
            return clock() - asked, clock() - answered

        async with asyncio.timeout(SOON.total_seconds()):
            ages = await asyncio.gather(*map(lifetime, streams))

    assert all(0.8 * age < long and short < 1.5 * age for long, short in ages), ages
    shorts = [short for _, short in ages]
    assert max(shorts) - min(shorts) > 0.05 * age, ages
