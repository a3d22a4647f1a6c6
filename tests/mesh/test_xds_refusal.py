"""Responses that a real Envoy refuses, whole or in part: what is good arrives, and what is bad is sent no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.registry.status import ProxyState, ProxyStatus, Refused
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import CLUSTER
from tests.xds.control_plane import NODE, ControlPlane
from tests.xds.envoy_process import DELTA, SOTW, EnvoyProcess
from tests.xds.shop import a_bad_cluster, a_cluster, a_service, answering

pytestmark = pytest.mark.envoy

SOON = timedelta(seconds=20)
WHOLE = "-1s"
"""A timeout that Envoy refuses before it looks at any resource: then nothing of the response counts."""


@dataclass
class Running:
    """An Envoy that has service `web`, whose cluster is also called `web`."""

    control_plane: ControlPlane
    envoy: EnvoyProcess
    port: int

    @property
    def proxy(self) -> ProxyStatus:
        proxy = self.control_plane.board.proxy(NODE)
        assert proxy
        return proxy

    def publish(self, *resources: Resource, timeout: str = "1s") -> None:
        self.control_plane.publish(*a_service("web", self.port, timeout), *resources)

    async def refuses(self, *names: str) -> tuple[Refused, ...]:
        """The clusters that it refuses, as soon as they are these."""
        board = self.control_plane.board
        async with asyncio.timeout(SOON.total_seconds()):
            while True:
                seen = board.changes.number
                [found] = [one.refused for one in self.proxy.report.types if one.type_url == CLUSTER]
                if sorted(one.name for one in found) == sorted(names):
                    return found
                await board.changes.after(seen)


@pytest.fixture(params=[DELTA, SOTW])
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    control_plane = ControlPlane()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(answering("hello"))
        await stack.enter_async_context(control_plane.serving())
        envoy = EnvoyProcess(tmp_path, variant=request.param)
        running = Running(control_plane, envoy, port)
        running.publish()
        await stack.enter_async_context(envoy.running(control_plane))
        await envoy.until(lambda: envoy.call("web") == "hello")
        yield running


@pytest.mark.parametrize("how", ["whole", "in part"])
async def test_what_is_good_in_a_refused_response_arrives(running: Running, how: str) -> None:
    bad = a_bad_cluster("bad") if how == "in part" else a_cluster("bad", running.port, WHOLE)[0]
    services = [one for number in range(8) for one in a_service(f"new-{number}", running.port)]

    running.publish(bad, *services)

    for number in range(8):
        await running.envoy.until(lambda number=number: running.envoy.call(f"new-{number}") == "hello")  # type: ignore[misc]
    [refused] = await running.refuses("bad")
    assert (refused.version, refused.last_good) == (bad.version, "")
    assert ("did not provide one" if how == "in part" else "Invalid duration") in refused.error
    assert running.proxy.state is ProxyState.NACKED


async def test_a_cluster_that_goes_bad_stays_as_it_was(running: Running) -> None:
    good = a_cluster("web", running.port)[0]
    bad = a_cluster("web", running.port, WHOLE)[0]

    running.publish(*a_cluster("other", running.port), timeout=WHOLE)

    assert [(one.version, one.last_good) for one in await running.refuses("web")] == [(bad.version, good.version)]
    await running.envoy.until(lambda: running.envoy.names("Cluster") == {"web", "other"})
    assert await asyncio.to_thread(running.envoy.call, "web") == "hello"


async def test_what_was_refused_is_not_sent_again_until_it_changes(running: Running) -> None:
    running.publish(a_bad_cluster("bad"), a_bad_cluster("worse"))
    await running.refuses("bad", "worse")
    assert await running.control_plane.board.wait_synced(SOON)
    before = running.proxy.report

    running.publish(a_bad_cluster("bad"), a_bad_cluster("worse"), timeout="2s")
    assert await running.control_plane.board.wait_synced(SOON)

    sent = running.proxy.report.resources_sent - before.resources_sent
    # Of the state of the world a response holds all clusters that there are, so `web` and its endpoints come alone.
    assert sent <= 2
    await running.refuses("bad", "worse")

    running.publish(*a_cluster("bad", running.port))
    await running.refuses()
    await running.envoy.until(lambda: running.envoy.names("Cluster") == {"web", "bad"})
    assert await running.control_plane.board.wait_synced(SOON)
    assert running.proxy.state is ProxyState.SYNCED
