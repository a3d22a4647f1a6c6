"""Route configurations: everything that may change about a call without touching a listener."""

from collections.abc import Iterable
from datetime import timedelta

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.config.route.v3 import route_components_pb2, route_pb2
from mesh.api.envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from mesh.model.names import app_cluster, inbound_name, upstream_routes_name
from mesh.model.topology import ServicePort
from mesh.model.workload import Protocol
from mesh.policy.retry import RetryPolicy
from mesh.policy.view import VirtualHost
from mesh.translate.wrappers import duration, typed_config, uint32

_PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"
_RetryPolicy = route_components_pb2.RetryPolicy


def named_routes(name: str) -> route_pb2.RouteConfiguration:
    """The beginning of a configuration that is merged from the pieces of its hosts."""
    return route_pb2.RouteConfiguration(name=name)


def host_routes(host: VirtualHost) -> route_pb2.RouteConfiguration:
    """The piece of one host, which is found by hash of the `:authority`."""
    return route_pb2.RouteConfiguration(virtual_hosts=[_virtual_host(host.target.cluster, host.hosts, _routes(host))])


def nobodys_routes(domain: str) -> route_pb2.RouteConfiguration:
    """The piece of names that nothing has: 404, which is UNIMPLEMENTED for gRPC, with a sentence instead of nothing."""
    sentence = "no service of this name can be called from here; a workload calls its upstreams, or its own namespace"
    answer = route_components_pb2.DirectResponseAction(status=404, body=base_pb2.DataSource(inline_string=sentence))
    route = route_components_pb2.Route(match=route_components_pb2.RouteMatch(prefix="/"), direct_response=answer)
    return route_pb2.RouteConfiguration(virtual_hosts=[_virtual_host("nobody", [domain], [route])])


def upstream_routes(host: VirtualHost) -> route_pb2.RouteConfiguration:
    """Routes of the listeners of one upstream."""
    name = upstream_routes_name(host.target)
    return _configuration(name, _routes(host))


def inbound_routes(port: ServicePort) -> route_pb2.RouteConfiguration:
    """Routes of one port of the workload itself. Never retried: the caller's sidecar does that."""
    name = inbound_name(port.number)
    return _configuration(name, [_everything(to_cluster(app_cluster(port.number), port.protocol, None))])


def _routes(host: VirtualHost) -> Iterable[route_components_pb2.Route]:
    return (_everything(to_cluster(to.target.cluster, host.protocol, to.retry)) for to in host.routes)


def _everything(action: route_components_pb2.RouteAction) -> route_components_pb2.Route:
    return route_components_pb2.Route(match=route_components_pb2.RouteMatch(prefix="/"), route=action)


def to_cluster(cluster: str, protocol: Protocol, retry: RetryPolicy | None) -> route_components_pb2.RouteAction:
    """No timeout of the route's own, which would end a stream: gRPC calls end at their `grpc-timeout`."""
    return route_components_pb2.RouteAction(
        cluster=cluster,
        timeout=duration(timedelta(0)),
        max_stream_duration=call_deadline() if protocol is Protocol.GRPC else None,
        retry_policy=retry_policy(retry),
    )


def call_deadline() -> route_components_pb2.RouteAction.MaxStreamDuration:
    """The caller's deadline, enforced as it is. Zero is no cap."""
    return route_components_pb2.RouteAction.MaxStreamDuration(grpc_timeout_header_max=duration(timedelta(0)))


def retry_policy(retry: RetryPolicy | None) -> _RetryPolicy | None:
    if retry is None:
        return None
    return _RetryPolicy(
        retry_on=",".join(retry.triggers),
        num_retries=uint32(retry.num_retries),
        per_try_timeout=duration(retry.per_try_timeout),
        retry_back_off=_RetryPolicy.RetryBackOff(
            base_interval=duration(retry.base_interval), max_interval=duration(retry.max_interval)
        ),
        retry_host_predicate=[
            _RetryPolicy.RetryHostPredicate(
                name=_PREVIOUS_HOSTS, typed_config=typed_config(previous_hosts_pb2.PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=3,
    )


def _virtual_host(
    name: str, domains: Iterable[str], routes: Iterable[route_components_pb2.Route]
) -> route_components_pb2.VirtualHost:
    return route_components_pb2.VirtualHost(name=name, domains=domains, routes=routes)


def _configuration(name: str, routes: Iterable[route_components_pb2.Route]) -> route_pb2.RouteConfiguration:
    """For a listener of one service: whatever `:authority` the caller names."""
    return route_pb2.RouteConfiguration(name=name, virtual_hosts=[_virtual_host(name, ["*"], routes)])
