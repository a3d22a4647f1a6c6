"""A real Envoy as the proxy: what it gets, keeps, loses, refuses and is refused."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.registry.status import ProxyState, ProxyStatus
from tests.xds.control_plane import NODE, STRANGER, ControlPlane
from tests.xds.envoy_process import EnvoyProcess
from tests.xds.shop import a_bad_cluster, a_service, answering

pytestmark = pytest.mark.envoy

SOON = timedelta(seconds=20)
WARMING_TIMEOUT = timedelta(seconds=15)
"""After which Envoy gives up on endpoints that do not come."""


@pytest.fixture
async def backend() -> AsyncIterator[int]:
    """The port of a server that answers everything with `hello`."""
    async with answering("hello") as port:
        yield port


@pytest.fixture
def envoy(tmp_path: Path) -> EnvoyProcess:
    return EnvoyProcess(tmp_path)


async def test_envoy_gets_all_that_it_should_have_and_uses_it(
    control_plane: ControlPlane, envoy: EnvoyProcess, backend: int
) -> None:
    control_plane.publish(*a_service("web", backend))
    async with envoy.running(control_plane):
        await envoy.until(lambda: envoy.call("web") == "hello")
        assert await control_plane.board.wait_synced(SOON)

        assert envoy.names("Cluster") == envoy.names("ClusterLoadAssignment") == {"web"}
        assert envoy.names("Listener") == envoy.names("RouteConfiguration") == {"web"}
        status = status_of(control_plane)
        assert (status.state, status.identity) == (ProxyState.SYNCED, "spiffe://proa.local/ns/shop/sa/orders")
        assert status.envoy_version.startswith("1.")
        assert status.report.resources_sent == 4


async def test_a_restarted_control_plane_sends_nothing_again(envoy: EnvoyProcess, backend: int) -> None:
    control_plane = ControlPlane()
    control_plane.publish(*a_service("web", backend))
    async with control_plane.serving():
        running = envoy.running(control_plane)
        await running.__aenter__()
        await envoy.until(lambda: envoy.call("web") == "hello")
    try:
        assert await asyncio.to_thread(envoy.call, "web") == "hello"

        control_plane.forget()
        control_plane.publish(*a_service("web", backend))
        async with control_plane.serving():
            await connected_again(control_plane)
            assert await control_plane.board.wait_synced(SOON)

            report = status_of(control_plane).report
            assert (report.bytes_sent, report.resources_sent) == (0, 0)
            assert {each.type_url.rpartition(".")[2]: each.resources for each in report.types} == {
                "Cluster": 1,
                "ClusterLoadAssignment": 1,
                "Listener": 1,
                "RouteConfiguration": 1,
            }
            assert await asyncio.to_thread(envoy.call, "web") == "hello"
    finally:
        await running.__aexit__(None, None, None)


async def test_what_was_deleted_while_the_control_plane_was_away_vanishes(envoy: EnvoyProcess, backend: int) -> None:
    control_plane = ControlPlane()
    control_plane.publish(*a_service("web", backend), *a_service("old", backend))
    async with control_plane.serving():
        running = envoy.running(control_plane)
        await running.__aenter__()
        await envoy.until(lambda: envoy.call("old") == "hello")
    try:
        control_plane.forget()
        control_plane.publish(*a_service("web", backend))
        async with control_plane.serving():
            await envoy.until(lambda: envoy.names("Cluster") == envoy.names("Listener") == {"web"})

            assert await control_plane.board.wait_synced(SOON)
            assert status_of(control_plane).report.resources_sent == 0
            assert await asyncio.to_thread(envoy.call, "web") == "hello"
    finally:
        await running.__aexit__(None, None, None)


async def test_a_changed_cluster_does_not_wait_for_endpoints_that_envoy_has(
    control_plane: ControlPlane, envoy: EnvoyProcess, backend: int
) -> None:
    control_plane.publish(*a_service("web", backend))
    async with envoy.running(control_plane):
        await envoy.until(lambda: envoy.call("web") == "hello")
        assert await control_plane.board.wait_synced(SOON)

        control_plane.publish(*a_service("web", backend, connect_timeout="7s"))

        assert await control_plane.board.wait_synced(WARMING_TIMEOUT * 0.8)
        assert await asyncio.to_thread(envoy.call, "web") == "hello"


async def test_a_service_that_comes_and_goes_leaves_nothing_behind(
    control_plane: ControlPlane, envoy: EnvoyProcess, backend: int
) -> None:
    control_plane.publish(*a_service("web", backend))
    async with envoy.running(control_plane):
        await envoy.until(lambda: envoy.call("web") == "hello")

        control_plane.publish(*a_service("web", backend), *a_service("new", backend))
        await envoy.until(lambda: envoy.call("new") == "hello")
        control_plane.publish(*a_service("web", backend))

        assert await control_plane.board.wait_synced(SOON)
        assert envoy.names("Cluster") == envoy.names("Listener") == {"web"}


async def test_a_refusal_is_told_in_envoys_words_and_the_rest_goes_on(
    control_plane: ControlPlane, envoy: EnvoyProcess, backend: int
) -> None:
    control_plane.publish(*a_service("web", backend))
    async with envoy.running(control_plane):
        await envoy.until(lambda: envoy.call("web") == "hello")

        control_plane.publish(*a_service("web", backend), a_bad_cluster("bad"))
        assert await control_plane.board.wait_synced(SOON)
        assert status_of(control_plane).state is ProxyState.NACKED
        assert status_of(control_plane).last_nack.startswith("bad: ")
        assert "did not provide one" in status_of(control_plane).last_nack

        control_plane.publish(*a_service("web", backend), *a_service("new", backend))
        await envoy.until(lambda: envoy.call("new") == "hello")
        assert await control_plane.board.wait_synced(SOON)
        assert status_of(control_plane).state is ProxyState.SYNCED


async def test_an_envoy_with_the_certificate_of_somebody_else_is_refused(
    control_plane: ControlPlane, envoy: EnvoyProcess, backend: int
) -> None:
    control_plane.publish(*a_service("web", backend))
    async with envoy.running(control_plane, identity=STRANGER):
        # 7 is PERMISSION_DENIED.
        await envoy.until(lambda: "closed: 7" in envoy.log() and STRANGER.uri in envoy.log())

        assert control_plane.board.proxies() == ()
        assert envoy.names("Cluster") == set()


async def connected_again(control_plane: ControlPlane) -> None:
    while True:
        seen = control_plane.board.changes.number
        proxy = control_plane.board.proxy(NODE)
        if proxy and proxy.state is ProxyState.SYNCED:
            return
        await control_plane.board.changes.after(seen)


def status_of(control_plane: ControlPlane) -> ProxyStatus:
    [status] = control_plane.board.proxies()
    return status
