"""All resources of a proxy: those that equal views share, and those of one instance."""

from dataclasses import dataclass

from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.api.envoy.config.core.v3 import extension_pb2
from mesh.api.envoy.config.listener.v3 import listener_pb2
from mesh.api.envoy.config.route.v3 import route_pb2
from mesh.api.envoy.service.runtime.v3 import rtds_pb2
from mesh.model.names import RUNTIME_LAYER
from mesh.model.shape import Instance
from mesh.model.workload import Protocol
from mesh.policy.view import ProxyView
from mesh.translate.cluster import cluster, own_service
from mesh.translate.http_filter import extensions
from mesh.translate.listener import inbound_listener, outbound_listener, upstream_listener
from mesh.translate.route import inbound_routes, outbound_routes, upstream_routes


@dataclass(frozen=True, slots=True)
class Resources:
    """Envoy's messages by kind. Each has a `name`, unique in its kind."""

    clusters: tuple[cluster_pb2.Cluster, ...] = ()
    listeners: tuple[listener_pb2.Listener, ...] = ()
    routes: tuple[route_pb2.RouteConfiguration, ...] = ()
    runtimes: tuple[rtds_pb2.Runtime, ...] = ()
    extensions: tuple[extension_pb2.TypedExtensionConfig, ...] = ()


def resources_for(view: ProxyView) -> Resources:
    """What every proxy of this view has: its clusters, routes, and what comes by ECDS and RTDS."""
    return Resources(
        clusters=tuple(map(cluster, view.destinations)),
        routes=(
            outbound_routes(view.virtual_hosts),
            *map(upstream_routes, view.virtual_hosts),
            *(inbound_routes(port) for port in view.inbound if port.protocol is not Protocol.TCP),
        ),
        runtimes=(rtds_pb2.Runtime(name=RUNTIME_LAYER),),
        extensions=extensions(),
    )


def instance_resources(instance: Instance) -> Resources:
    """What has the addresses of one instance in it: its listeners, and the clusters of its own service."""
    return Resources(
        clusters=tuple(own_service(port) for port in instance.ports),
        listeners=(
            *(inbound_listener(port, instance.identity.trust_domain) for port in instance.ports),
            outbound_listener(instance.outbound),
            *(upstream_listener(upstream) for upstream in instance.upstreams),
        ),
    )
