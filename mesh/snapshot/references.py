"""What resources refer to by name, read from the messages themselves, whatever they are wrapped in."""

from collections.abc import Iterator

from google.protobuf import symbol_database
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mesh.api.envoy.config.core.v3 import grpc_service_pb2
from mesh.api.envoy.config.route.v3 import route_components_pb2
from mesh.api.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from mesh.api.envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from mesh.snapshot.types import CLUSTER, ROUTE

_Action = route_components_pb2.RouteAction

FIELDS = {
    (http_connection_manager_pb2.Rds.DESCRIPTOR.full_name, "route_config_name"): ROUTE,
    (_Action.DESCRIPTOR.full_name, "cluster"): CLUSTER,
    (_Action.RequestMirrorPolicy.DESCRIPTOR.full_name, "cluster"): CLUSTER,
    (route_components_pb2.WeightedCluster.ClusterWeight.DESCRIPTOR.full_name, "name"): CLUSTER,
    (tcp_proxy_pb2.TcpProxy.DESCRIPTOR.full_name, "cluster"): CLUSTER,
    (grpc_service_pb2.GrpcService.EnvoyGrpc.DESCRIPTOR.full_name, "cluster_name"): CLUSTER,
}
"""Message and field that hold a name, and the type of what is named."""


def references(message: Message) -> Iterator[tuple[str, str]]:
    """(type URL, name) of every resource that `message` needs, packed messages included."""
    if isinstance(message, Any):
        yield from _packed(message)
        return
    for field, value in message.ListFields():
        type_url = FIELDS.get((message.DESCRIPTOR.full_name, field.name))
        if type_url:
            yield type_url, value
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for child in _children(field, value):
                yield from references(child)


def _packed(message: Any) -> Iterator[tuple[str, str]]:
    inner = symbol_database.Default().GetSymbol(message.TypeName())()
    message.Unpack(inner)
    yield from references(inner)


def _children(field: FieldDescriptor, value: object) -> Iterator[Message]:
    if isinstance(value, Message):
        yield value
    elif hasattr(value, "values"):  # a map
        yield from (child for child in value.values() if isinstance(child, Message))
    else:
        yield from value  # type: ignore[misc]
