"""What resources refer to by name, read from the messages themselves, whatever they are wrapped in."""

from collections.abc import Iterator
from functools import cache, lru_cache

from google.protobuf import symbol_database
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from mesh.api.envoy.config.core.v3 import grpc_service_pb2
from mesh.api.envoy.config.route.v3 import route_components_pb2
from mesh.api.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from mesh.api.envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from mesh.model.names import NOBODY
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
        yield from _packed(message.TypeName(), message.value)
        return
    kind = message.DESCRIPTOR
    for field, value in message.ListFields():
        type_url = FIELDS.get((kind.full_name, field.name))
        if type_url and value != NOBODY:
            yield type_url, value
        if field.message_type and _may_refer(field.message_type):
            for child in _children(field.message_type, value):
                yield from references(child)


@lru_cache(maxsize=256)
def _packed(name: str, value: bytes) -> tuple[tuple[str, str], ...]:
    """Most listeners have the same filters."""
    return tuple(references(symbol_database.Default().GetSymbol(name).FromString(value)))


@cache
def _may_refer(kind: Descriptor) -> bool:
    """Whether a message of this kind can have a reference in it, at any depth."""
    seen, due = {kind}, [kind]
    while due:
        one = due.pop()
        if one.full_name == Any.DESCRIPTOR.full_name or any((one.full_name, f.name) in FIELDS for f in one.fields):
            return True
        inner = {field.message_type for field in one.fields if field.message_type} - seen
        seen |= inner
        due += inner
    return False


def _children(kind: Descriptor, value: object) -> Iterator[Message]:
    if isinstance(value, Message):
        yield value
    elif kind.GetOptions().map_entry:
        yield from value.values()  # type: ignore[attr-defined]
    else:
        yield from value  # type: ignore[misc]
