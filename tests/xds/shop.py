"""Services for tests of xDS with real Envoys: what a control plane publishes so that a listener leads to a port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.api.envoy.config.endpoint.v3 import endpoint_pb2
from mesh.api.envoy.config.listener.v3 import listener_pb2
from mesh.api.envoy.config.route.v3 import route_pb2
from mesh.api.envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from mesh.api.envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401
    http_connection_manager_pb2,
)
from mesh.snapshot.references import references
from mesh.snapshot.resource import Resource, resource

ADS = {"ads": {}, "resource_api_version": "V3"}


@asynccontextmanager
async def answering(text: str) -> AsyncIterator[int]:
    """The port of an HTTP/1.1 server that answers everything with `text`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller has said all
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def a_service(name: str, port: int, connect_timeout: str = "1s") -> list[Resource]:
    """A listener whose routes lead to a cluster whose endpoint is the port, all by xDS and all called `name`."""
    return [*a_cluster(name, port, connect_timeout), a_route(name, name), a_listener(name)]


def a_cluster(name: str, port: int, connect_timeout: str = "1s") -> list[Resource]:
    """A cluster and its endpoint."""
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    return [
        parsed(
            cluster_pb2.Cluster(),
            name=name,
            type="EDS",
            connect_timeout=connect_timeout,
            eds_cluster_config={"eds_config": ADS},
        ),
        parsed(endpoint_pb2.ClusterLoadAssignment(), cluster_name=name, endpoints=[{"lb_endpoints": [endpoint]}]),
    ]


def a_bad_cluster(name: str) -> Resource:
    """Envoy refuses it, and says why."""
    return resource(name, cluster_pb2.Cluster(name=name, lb_policy=cluster_pb2.Cluster.CLUSTER_PROVIDED))


def a_route(name: str, cluster: str) -> Resource:
    """A route configuration that leads to the cluster."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    return parsed(route_pb2.RouteConfiguration(), name=name, virtual_hosts=hosts)


def a_listener(name: str) -> Resource:
    """A listener at a free port that asks for the route configuration of its name."""
    return parsed(
        listener_pb2.Listener(),
        name=name,
        address={"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        filter_chains=[{"filters": [http_connection_manager(name)]}],
    )


def http_connection_manager(route: str) -> dict[str, Any]:
    prefix = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "router", "typed_config": {"@type": f"{prefix}.http.router.v3.Router"}}
    return {
        "name": "http",
        "typed_config": {
            "@type": f"{prefix}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": route,
            "rds": {"route_config_name": route, "config_source": ADS},
            "http_filters": [router],
        },
    }


def parsed(message: Message, **fields: Any) -> Resource:
    ParseDict(fields, message)
    is_traffic = isinstance(message, listener_pb2.Listener | route_pb2.RouteConfiguration)
    needs = references(message) if is_traffic else ()
    return resource(fields.get("name") or fields["cluster_name"], message, needs)
