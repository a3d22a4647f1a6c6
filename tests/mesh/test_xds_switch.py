"""Traffic that moves from cluster to cluster in a real Envoy under load, and a change of which a part is refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.registry.status import ProxyState, ProxyStatus, Wait
from mesh.snapshot.types import CLUSTER, ROUTE
from tests.xds.control_plane import NODE, ControlPlane
from tests.xds.envoy_process import DELTA, SOTW, EnvoyProcess
from tests.xds.http_load import load
from tests.xds.shop import a_bad_cluster, a_cluster, a_listener, a_route, a_service, answering

pytestmark = pytest.mark.envoy

SOON = timedelta(seconds=20)
SWITCHES = 20


@dataclass
class Running:
    """An Envoy whose listener `web` leads to `blue`, and the ports of two services."""

    control_plane: ControlPlane
    envoy: EnvoyProcess
    blue: int
    green: int

    @property
    def proxy(self) -> ProxyStatus:
        proxy = self.control_plane.board.proxy(NODE)
        assert proxy
        return proxy

    async def settled(self) -> None:
        assert await self.control_plane.board.wait_synced(SOON)

    async def until(self, state: ProxyState) -> None:
        async with asyncio.timeout(SOON.total_seconds()):
            while self.proxy.state is not state:
                await self.control_plane.board.changes.after(self.control_plane.board.changes.number)


@pytest.fixture(params=[DELTA, SOTW])
async def running(
    control_plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        blue, green = [await stack.enter_async_context(answering(text)) for text in ("blue", "green")]
        control_plane.publish(*a_cluster("blue", blue), a_route("web", "blue"), a_listener("web"))
        envoy = EnvoyProcess(tmp_path, variant=request.param)
        await stack.enter_async_context(envoy.running(control_plane))
        await envoy.until(lambda: envoy.call("web") == "blue")
        yield Running(control_plane, envoy, blue, green)


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    control_plane = ControlPlane()
    async with control_plane.serving():
        yield control_plane


async def test_traffic_moves_from_cluster_to_cluster_and_no_call_fails(running: Running) -> None:
    """Each switch is one change: a new cluster comes, the route leads to it, the old cluster goes."""
    async with load(await asyncio.to_thread(running.envoy.port, "web")) as calls:
        for number in range(SWITCHES):
            port = running.green if number % 2 == 0 else running.blue
            cluster = a_cluster(f"cluster-{number}", port)
            running.control_plane.publish(*cluster, a_route("web", f"cluster-{number}"), a_listener("web"))
            await running.settled()
            await calls.went_on(20)

    assert calls.failures == []
    assert min(calls.answers["blue"], calls.answers["green"]) > SWITCHES
    assert await asyncio.to_thread(running.envoy.names, "Cluster") == {f"cluster-{SWITCHES - 1}"}


async def test_switches_that_come_faster_than_envoy_takes_them_fail_no_call(running: Running) -> None:
    async with load(await asyncio.to_thread(running.envoy.port, "web")) as calls:
        for number in range(SWITCHES):
            port = running.green if number % 2 == 0 else running.blue
            cluster = a_cluster(f"cluster-{number}", port)
            running.control_plane.publish(*cluster, a_route("web", f"cluster-{number}"), a_listener("web"))
            await asyncio.sleep(0.002 * (number % 5))  # also in the middle of the stages of the one before
        await running.settled()
        await calls.went_on()

    assert calls.failures == []
    assert await asyncio.to_thread(running.envoy.names, "Cluster") == {f"cluster-{SWITCHES - 1}"}


async def test_a_refused_cluster_holds_back_only_what_refers_to_it(running: Running) -> None:
    """One change: traffic is to move to a cluster that Envoy refuses, and a new service comes."""
    publish, green = running.control_plane.publish, running.green
    async with load(await asyncio.to_thread(running.envoy.port, "web")) as calls:
        new = a_service("new", green)
        publish(*a_cluster("blue", running.blue), a_bad_cluster("bad"), a_route("web", "bad"), a_listener("web"), *new)
        await running.envoy.until(lambda: running.envoy.call("new") == "green")
        await running.until(ProxyState.NACKED)
        await calls.went_on()
        assert await asyncio.to_thread(running.envoy.call, "web") == "blue"
        assert_bad_is_refused_and_waited_for(running.proxy)

        publish(*a_cluster("good", green), a_route("web", "good"), a_listener("web"), *new)
        await running.envoy.until(lambda: running.envoy.call("web") == "green")
        await running.until(ProxyState.SYNCED)
        await running.settled()

    assert calls.failures == []
    assert running.proxy.report.waits == ()
    assert await asyncio.to_thread(running.envoy.names, "Cluster") == {"good", "new"}


def assert_bad_is_refused_and_waited_for(proxy: ProxyStatus) -> None:
    types = {one.type_url: one for one in proxy.report.types}
    [refused] = types[CLUSTER].refused
    assert (refused.name, refused.last_good) == ("bad", "")
    assert "did not provide one" in refused.error
    assert types[CLUSTER].nacked_at
    assert Wait(ROUTE, "web", ((CLUSTER, "bad"),)) in proxy.report.waits
    assert types[ROUTE].held == ("web",)


async def test_two_envoys_of_one_instance_are_both_served(running: Running, tmp_path: Path) -> None:
    """As at a hot restart: the new one is there before the old one has gone."""
    new = EnvoyProcess(tmp_path / "new")
    async with new.running(running.control_plane):
        await new.until(lambda: new.call("web") == "blue")
        assert running.proxy.streams == 2

        green = a_cluster("green", running.green)
        running.control_plane.publish(*green, a_route("web", "green"), a_listener("web"))
        for envoy in (running.envoy, new):
            await envoy.until(lambda envoy=envoy: envoy.call("web") == "green")  # type: ignore[misc]
        await running.settled()
        assert running.proxy.state is ProxyState.SYNCED

    async with asyncio.timeout(SOON.total_seconds()):
        while running.proxy.streams != 1:
            await running.control_plane.board.changes.after(running.control_plane.board.changes.number)
    assert running.proxy.state is ProxyState.SYNCED
