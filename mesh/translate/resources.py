"""All resources of a proxy: those that equal views share, and those of one instance."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeVar

from google.protobuf.message import Message

from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.api.envoy.config.core.v3 import extension_pb2
from mesh.api.envoy.config.listener.v3 import listener_pb2
from mesh.api.envoy.config.route.v3 import route_pb2
from mesh.api.envoy.service.runtime.v3 import rtds_pb2
from mesh.model.names import NOBODY, OUTBOUND, RUNTIME_LAYER
from mesh.model.shape import Instance, Role
from mesh.model.workload import Protocol
from mesh.policy.view import ProxyView
from mesh.translate.caller import without
from mesh.translate.cluster import cluster, own_service
from mesh.translate.grpc_client import client_cluster, client_listener, client_nobody, client_routes
from mesh.translate.http_filter import EXTENSIONS, extension
from mesh.translate.listener import inbound_listener, outbound_listener, upstream_listener
from mesh.translate.route import (
    host_routes,
    inbound_routes,
    named_routes,
    nobodys_routes,
    upstream_routes,
)

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Resources:
    """Envoy's messages by kind. Each has a `name`, unique in its kind."""

    clusters: tuple[cluster_pb2.Cluster, ...] = ()
    listeners: tuple[listener_pb2.Listener, ...] = ()
    routes: tuple[route_pb2.RouteConfiguration, ...] = ()
    runtimes: tuple[rtds_pb2.Runtime, ...] = ()
    extensions: tuple[extension_pb2.TypedExtensionConfig, ...] = ()


class Piece(NamedTuple):
    """A message that is not made yet, of one part of a view. Equal pieces make equal messages.

    With `base` it is made from the bytes of that piece, too, whose translation it does not repeat.
    """

    make: Callable[..., Message]
    of: Hashable
    base: "Piece | None" = None

    def message(self, value_of: Callable[["Piece"], bytes]) -> Message:
        return self.make(self.of, value_of(self.base)) if self.base else self.make(self.of)


def pieces_of(view: ProxyView) -> tuple[tuple[Piece, ...], ...]:
    """What every proxy of this view has: its clusters, routes, and what comes by ECDS and RTDS.

    Each resource in its pieces: messages of one type, which make the resource when they are merged, or their bytes
    joined. The first has the name. So what is made of one part of a view is made once, whoever has it.
    """
    if view.role is Role.GRPC_CLIENT:
        return _of_client(view)
    return (
        *((Piece(cluster, destination),) for destination in view.destinations),
        (
            Piece(named_routes, OUTBOUND),
            *(Piece(host_routes, host) for host in view.virtual_hosts),
            Piece(nobodys_routes, "*"),
        ),
        *((Piece(upstream_routes, host.target, Piece(host_routes, host)),) for host in view.virtual_hosts),
        *((Piece(inbound_routes, (port, view.revoked)),) for port in view.inbound if port.protocol is not Protocol.TCP),
        (Piece(runtime_layer, RUNTIME_LAYER),),
        *((Piece(extension, name),) for name in EXTENSIONS),
        *(((Piece(without, view.revoked),),) if any(port.protocol is Protocol.TCP for port in view.inbound) else ()),
    )


def _of_client(view: ProxyView) -> tuple[tuple[Piece, ...], ...]:
    """What gRPC clients without a sidecar have: no more than they understand, and a listener for each name."""
    return (
        *((Piece(client_cluster, destination),) for destination in view.destinations),
        (Piece(client_nobody, NOBODY),),
        *((Piece(client_routes, host),) for host in view.virtual_hosts),
        *((Piece(client_listener, (name, host.target)),) for host in view.virtual_hosts for name in host.hosts),
    )


def resources_for(view: ProxyView) -> Resources:
    """The same as whole messages."""

    @cache
    def made(piece: Piece) -> Message:
        return piece.message(lambda base: made(base).SerializeToString())

    messages = [_merged(map(made, pieces)) for pieces in pieces_of(view)]
    return Resources(
        clusters=_all(cluster_pb2.Cluster, messages),
        listeners=_all(listener_pb2.Listener, messages),
        routes=_all(route_pb2.RouteConfiguration, messages),
        runtimes=_all(rtds_pb2.Runtime, messages),
        extensions=_all(extension_pb2.TypedExtensionConfig, messages),
    )


def runtime_layer(name: str) -> rtds_pb2.Runtime:
    return rtds_pb2.Runtime(name=name)


def instance_resources(instance: Instance) -> Resources:
    """What has the addresses of one instance in it: its listeners, and the clusters of its own service."""
    if instance.role is Role.GRPC_CLIENT:
        return Resources()
    return Resources(
        clusters=tuple(own_service(port) for port in instance.ports),
        listeners=(
            *(inbound_listener(port, instance.identity.trust_domain) for port in instance.ports),
            outbound_listener(instance.outbound),
            *(upstream_listener(upstream) for upstream in instance.upstreams),
        ),
    )


def _merged(messages: Iterable[Message]) -> Message:
    """Into the first of them."""
    first, *more = messages
    for message in more:
        first.MergeFrom(message)
    return first


def _all(kind: type[M], messages: Iterable[Message]) -> tuple[M, ...]:
    return tuple(message for message in messages if isinstance(message, kind))
