"""Route configurations: everything that may change about a call without touching a listener."""

from collections.abc import Iterable
from datetime import timedelta

from mesh.api.envoy.config.route.v3 import route_components_pb2, route_pb2
from mesh.model.names import Target, app_cluster, inbound_name, upstream_routes_name
from mesh.model.topology import ServicePort
from mesh.model.workload import Protocol
from mesh.policy.view import VirtualHost
from mesh.translate.http_filter import RBAC_DENY, denied
from mesh.translate.matcher import EVERYTHING, fill
from mesh.translate.route_action import answer, call_deadline
from mesh.translate.wrappers import duration, typed_config


def named_routes(name: str) -> route_pb2.RouteConfiguration:
    """The beginning of a configuration that is merged from the pieces of its hosts."""
    return route_pb2.RouteConfiguration(name=name)


def host_routes(host: VirtualHost) -> route_pb2.RouteConfiguration:
    """The piece of one host, which is found by hash of the `:authority`."""
    return route_pb2.RouteConfiguration(virtual_hosts=[_of_host(host.target.cluster, host.hosts, host)])


def nobodys_routes(domain: str) -> route_pb2.RouteConfiguration:
    """The piece of names that nothing has: 404, which is UNIMPLEMENTED for gRPC, with a sentence instead of nothing."""
    sentence = "no service of this name can be called from here; a workload calls its upstreams, or its own namespace"
    route = route_components_pb2.Route(match=EVERYTHING, direct_response=answer(404, sentence))
    return route_pb2.RouteConfiguration(virtual_hosts=[_virtual_host("nobody", [domain], [route])])


def upstream_routes(target: Target, of_host: bytes) -> route_pb2.RouteConfiguration:
    """Routes of the listeners of one upstream, whatever `:authority` the caller names; from those of its host."""
    routes = route_pb2.RouteConfiguration.FromString(of_host)
    routes.name = routes.virtual_hosts[0].name = upstream_routes_name(target)
    routes.virtual_hosts[0].domains[:] = ["*"]
    return routes


def inbound_routes(inbound: tuple[ServicePort, tuple[str, ...]]) -> route_pb2.RouteConfiguration:
    """Routes of one port of the workload itself, and who may not call it although it has a certificate of the mesh.

    The caller's deadline ends a call; the rest its own sidecar does.
    """
    port, revoked = inbound
    name = inbound_name(port.number)
    action = route_components_pb2.RouteAction(
        cluster=app_cluster(port.number),
        timeout=duration(timedelta()),
        max_stream_duration=call_deadline(None) if port.protocol is Protocol.GRPC else None,
    )
    everything = route_components_pb2.Route(match=EVERYTHING, route=action)
    host = _virtual_host(name, ["*"], [everything])
    if revoked:
        host.typed_per_filter_config[RBAC_DENY].CopyFrom(typed_config(denied(revoked)))
    return route_pb2.RouteConfiguration(name=name, virtual_hosts=[host])


def _virtual_host(
    name: str, domains: Iterable[str], routes: Iterable[route_components_pb2.Route]
) -> route_components_pb2.VirtualHost:
    return route_components_pb2.VirtualHost(name=name, domains=domains, routes=routes)


def _of_host(name: str, domains: Iterable[str], host: VirtualHost) -> route_components_pb2.VirtualHost:
    made = _virtual_host(name, domains, ())
    fill(made, host)
    return made
