"""A real Envoy that speaks the state of the world: the same engine, and full sets that take nothing away."""

import asyncio
from pathlib import Path

import pytest

from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.registry.status import ProxyState
from mesh.snapshot.resource import resource
from tests.xds.control_plane import ControlPlane
from tests.xds.envoy_process import SOTW, EnvoyProcess
from tests.xds.test_envoy import SOON, WARMING_TIMEOUT, a_service, backend, status_of  # noqa: F401

pytestmark = pytest.mark.envoy


@pytest.fixture
def envoy(tmp_path: Path) -> EnvoyProcess:
    return EnvoyProcess(tmp_path, variant=SOTW)


async def test_a_service_comes_changes_and_goes_by_full_sets(
    control_plane: ControlPlane,
    envoy: EnvoyProcess,
    backend: int,  # noqa: F811
) -> None:
    control_plane.publish(*a_service("web", backend))
    async with envoy.running(control_plane):
        await envoy.until(lambda: envoy.call("web") == "hello")
        assert await control_plane.board.wait_synced(SOON)

        control_plane.publish(*a_service("web", backend, connect_timeout="7s"), *a_service("new", backend))
        assert await control_plane.board.wait_synced(WARMING_TIMEOUT * 0.8)
        await envoy.until(lambda: envoy.call("new") == "hello")
        assert await asyncio.to_thread(envoy.call, "web") == "hello"

        control_plane.publish(*a_service("web", backend, connect_timeout="7s"))
        await envoy.until(lambda: envoy.names("Cluster") == envoy.names("Listener") == {"web"})
        assert await asyncio.to_thread(envoy.call, "web") == "hello"


async def test_a_bad_cluster_takes_no_other_away(
    control_plane: ControlPlane,
    envoy: EnvoyProcess,
    backend: int,  # noqa: F811
) -> None:
    control_plane.publish(*a_service("web", backend))
    async with envoy.running(control_plane):
        await envoy.until(lambda: envoy.call("web") == "hello")
        assert await control_plane.board.wait_synced(SOON)

        bad = resource("bad", cluster_pb2.Cluster(name="bad", lb_policy=cluster_pb2.Cluster.CLUSTER_PROVIDED))
        control_plane.publish(*a_service("web", backend), *a_service("new", backend), bad)
        await envoy.until(lambda: envoy.call("new") == "hello")
        assert await control_plane.board.wait_synced(SOON)

        status = status_of(control_plane)
        assert status.state is ProxyState.NACKED
        assert [one.name for each in status.report.types for one in each.refused] == ["bad"]
        assert envoy.names("Cluster") == {"web", "new"}
        assert await asyncio.to_thread(envoy.call, "web") == "hello"
