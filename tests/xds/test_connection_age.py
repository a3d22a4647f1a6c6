"""Connections to a sidecar end at an age, as soon as no stream runs on them: old certificates do not stay in use."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh.agent.sds import write_secrets
from mesh.model.address import Address
from mesh.model.shape import InstancePort
from mesh.model.workload import Protocol
from mesh.snapshot.references import references
from mesh.snapshot.resource import resource
from mesh.translate import connection_manager
from mesh.translate.cluster import own_service
from mesh.translate.listener import inbound_listener
from tests.xds.control_plane import ORDERS, ControlPlane, now
from tests.xds.envoy_process import EnvoyProcess
from tests.xds.shop import a_route

pytestmark = pytest.mark.envoy

AGE = timedelta(seconds=1)
CONNECTIONS = "listener.inbound.downstream_cx_active"


@pytest.fixture
async def app() -> AsyncIterator[Address]:
    """A service with health, whose Watch is a stream that stays."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Address("127.0.0.1", port)
    await server.stop(None)


async def test_a_connection_ends_at_an_age_once_no_stream_runs_on_it(
    control_plane: ControlPlane, app: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timedelta(minutes=30) >= connection_manager.MAX_AGE, "far less than the day of a leaf"
    monkeypatch.setattr(connection_manager, "MAX_AGE", AGE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        inbound = Address(*probe.getsockname())
    port = InstancePort(50051, Protocol.GRPC, inbound, app)
    listener, cluster = inbound_listener(port, "proa.local"), own_service(port)
    control_plane.publish(
        resource(listener.name, listener, references(listener)),
        resource(cluster.name, cluster),
        a_route(listener.name, cluster.name),
    )
    key, chain = control_plane.leaf(ORDERS, "localhost")
    bundle = control_plane.authority.bundle_pem
    write_secrets(tmp_path / "sds", chain_pem=chain, key_pem=key, bundle_pem=bundle)
    envoy = EnvoyProcess(tmp_path)
    credentials = grpc.ssl_channel_credentials(bundle.encode(), key.encode(), chain.encode())
    options = [("grpc.ssl_target_name_override", "localhost")]
    async with (
        envoy.running(control_plane),
        grpc.aio.secure_channel(str(inbound), credentials, options=options) as channel,
    ):
        # Envoy's list of listeners has one before its port listens.
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        assert await watch.read()
        began = now()
        assert await asyncio.to_thread(envoy.statistic, CONNECTIONS) == 1

        # It has been told to leave and stays for its stream, which goes on.
        await envoy.until(lambda: now() - began > AGE * 8)
        assert await asyncio.to_thread(envoy.statistic, CONNECTIONS) == 1
        assert not watch.done()

        watch.cancel()
        await envoy.until(lambda: envoy.statistic(CONNECTIONS) == 0)
