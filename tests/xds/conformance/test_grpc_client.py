"""A real gRPC client (state of the world, ADS) goes where it is sent: listener, route, cluster, endpoints."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import UInt32Value
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.api.envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2
from mesh.api.envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from mesh.api.envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from mesh.api.envoy.config.route.v3 import route_components_pb2, route_pb2
from mesh.api.envoy.extensions.filters.http.router.v3 import router_pb2
from mesh.api.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from mesh.api.proa.v1 import raw_xds_pb2
from mesh.snapshot.resource import type_url
from mesh.snapshot.types import CLUSTER, LISTENER
from tests.mesh.running import patience
from tests.xds.raw import Raw

TARGET = "health.example"
SERVICE = "which"
WITHIN = 30.0
ADS = config_source_pb2.ConfigSource(
    ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.V3
)


def packed(message: Message) -> AnyMessage:
    # With a hand-made type URL and bytes: the prefix of `Pack` is the same, but the order of maps is not.
    return AnyMessage(type_url=type_url(message), value=message.SerializeToString(deterministic=True))


def listener(name: str = TARGET, stat_prefix: str = "") -> listener_pb2.Listener:
    manager = http_connection_manager_pb2.HttpConnectionManager(
        stat_prefix=stat_prefix,
        rds=http_connection_manager_pb2.Rds(route_config_name="routes", config_source=ADS),
        http_filters=[
            http_connection_manager_pb2.HttpFilter(name="router", typed_config=packed(router_pb2.Router())),
        ],
    )
    return listener_pb2.Listener(name=name, api_listener=api_listener_pb2.ApiListener(api_listener=packed(manager)))


def routes(cluster: str) -> route_pb2.RouteConfiguration:
    route = route_components_pb2.Route(
        match=route_components_pb2.RouteMatch(prefix=""), route=route_components_pb2.RouteAction(cluster=cluster)
    )
    host = route_components_pb2.VirtualHost(name="all", domains=["*"], routes=[route])
    return route_pb2.RouteConfiguration(name="routes", virtual_hosts=[host])


def cluster(name: str) -> cluster_pb2.Cluster:
    eds = cluster_pb2.Cluster.EdsClusterConfig(eds_config=ADS)
    return cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, eds_cluster_config=eds)


def endpoints(cluster: str, port: int) -> endpoint_pb2.ClusterLoadAssignment:
    socket = address_pb2.SocketAddress(address="127.0.0.1", port_value=port)
    endpoint = endpoint_components_pb2.Endpoint(address=address_pb2.Address(socket_address=socket))
    locality = endpoint_components_pb2.LocalityLbEndpoints(
        # Without a weight, and without a locality, a gRPC client leaves the endpoints out.
        locality=base_pb2.Locality(region="here"),
        load_balancing_weight=UInt32Value(value=1),
        lb_endpoints=[endpoint_components_pb2.LbEndpoint(endpoint=endpoint)],
    )
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster, endpoints=[locality])


async def told(raw: Raw, *messages: Message) -> None:
    """All of it at once."""
    resources = [
        raw_xds_pb2.RawResource(name=getattr(one, "name", "") or one.cluster_name, resource=packed(one))  # type: ignore[attr-defined]
        for one in messages
    ]
    await raw.stub.Set(raw_xds_pb2.RawXdsSetRequest(node_id="grpc-client", resources=resources))


@asynccontextmanager
async def health_server(status: health_pb2.HealthCheckResponse.ServingStatus) -> AsyncIterator[int]:
    """One that says so of `SERVICE`; its port."""
    server, servicer = grpc.aio.server(), health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set(SERVICE, status)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


class Caller:
    """A process that calls when it is told to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def call(self) -> str:
        """What the health service says, or the status of the call."""
        await self.start(1)
        return await self.answer()

    async def start(self, times: int) -> None:
        """So many calls at once, each of which has an answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{SERVICE} {times}\n".encode())

    async def answer(self) -> str:
        """The next that is there."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WITHIN * patience()):
            answer = (await self._process.stdout.readline()).decode().strip()
        assert answer, "the client has ended"
        return answer

    async def until(self, answer: str) -> None:
        """Calls until the answer begins like that."""
        async with asyncio.timeout(WITHIN * patience()):
            while not (await self.call()).startswith(answer):
                pass


@pytest.fixture
async def caller(raw: Raw, tmp_path: Path) -> AsyncIterator[Caller]:
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": str(raw.xds_address),
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "grpc-client", "locality": {"region": "here"}},
    }
    (tmp_path / "bootstrap.json").write_text(json.dumps(bootstrap))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("grpc_call.py")),
        f"xds:///{TARGET}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP": str(tmp_path / "bootstrap.json")},
    )
    try:
        yield Caller(process)
    finally:
        process.kill()
        await process.wait()


async def test_a_grpc_client_calls_where_it_is_sent_and_follows_every_change(raw: Raw, caller: Caller) -> None:
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    async with health_server(serving) as one, health_server(not_serving) as two:
        await told(raw, listener(), routes("a"), cluster("a"), endpoints("a", one))
        assert await caller.call() == "SERVING"

        await told(raw, endpoints("a", two))
        await caller.until("NOT_SERVING")

        await told(raw, routes("b"), cluster("b"), endpoints("b", one))
        await caller.until("SERVING")

        await raw.remove(CLUSTER, "a", node_id="grpc-client")
        assert await caller.call() == "SERVING"


async def test_a_grpc_client_waits_for_what_is_not_there_yet(raw: Raw, caller: Caller) -> None:
    async with health_server(health_pb2.HealthCheckResponse.SERVING) as port:
        calling = asyncio.create_task(caller.call())
        await told(raw, listener("another"), routes("a"), cluster("a"), endpoints("a", port))
        await told(raw, listener())

        assert await calling == "SERVING"


async def test_a_grpc_client_is_told_that_its_listener_has_gone_and_that_it_is_back(raw: Raw, caller: Caller) -> None:
    async with health_server(health_pb2.HealthCheckResponse.SERVING) as port:
        await told(raw, listener(), routes("a"), cluster("a"), endpoints("a", port))
        assert await caller.call() == "SERVING"

        await raw.remove(LISTENER, TARGET, node_id="grpc-client")
        await caller.until("UNAVAILABLE")
        # Other content: a gRPC client takes no notice of a resource that comes back as it was.
        await told(raw, listener(stat_prefix="again"))
        await caller.until("SERVING")
