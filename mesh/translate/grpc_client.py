"""What gRPC clients without a sidecar are told: no more than their xDS understands, since the rest they pass over.

https://github.com/grpc/grpc/blob/master/doc/grpc_xds_features.md
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from mesh.api.envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from mesh.api.envoy.config.route.v3 import route_components_pb2, route_pb2
from mesh.api.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from mesh.api.envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from mesh.api.envoy.type.matcher.v3 import string_pb2
from mesh.model.address import Address
from mesh.model.names import CLIENT_CERTIFICATES, NOBODY, OUTBOUND, Target, upstream_routes_name
from mesh.policy.grpc_client import client_calls, client_retry
from mesh.policy.retry import RetryPolicy
from mesh.policy.view import Destination, VirtualHost
from mesh.translate.cluster import MOST
from mesh.translate.endpoint import fixed_assignment
from mesh.translate.http_filter import router
from mesh.translate.matcher import Leaf, in_order
from mesh.translate.route_action import call_deadline, hash_policy
from mesh.translate.source import ADS
from mesh.translate.tls import TLS
from mesh.translate.wrappers import duration, typed_config, uint32

Named = tuple[str, Target]
"""A name that clients dial, and what it means."""

NOWHERE: Final = Address("127.0.0.1", 0)
"""Nobody can listen at port 0."""

EARLY: Final = timedelta(seconds=2)
"""So much gRPC's C core, and so Python, takes away from a deadline of a route: it counts from the second before one
whose fraction it has cut off. Of a short deadline nothing would be left. Other libraries end calls so much later.
https://github.com/grpc/grpc/blob/master/src/core/util/time.cc (InitTime)
"""

INTERVAL: Final = timedelta(seconds=5)
EJECTION: Final = timedelta(seconds=10)
"""How often endpoints are compared, and how long one that fails is left out at least."""

_RetryPolicy = route_components_pb2.RetryPolicy
_FILES: Final = common_pb2.CertificateProviderPluginInstance(instance_name=CLIENT_CERTIFICATES)


def client_listener(named: Named) -> listener_pb2.Listener:
    """What a client asks for that dials `xds:///name`."""
    name, target = named
    manager = http_connection_manager_pb2.HttpConnectionManager(
        stat_prefix=OUTBOUND,
        rds=http_connection_manager_pb2.Rds(config_source=ADS, route_config_name=upstream_routes_name(target)),
        http_filters=[router()],
    )
    return _dialled(name, manager)


def absent_listener(name: str) -> listener_pb2.Listener:
    """For a name that means nothing: no virtual host, so that calls fail with UNAVAILABLE."""
    manager = http_connection_manager_pb2.HttpConnectionManager(
        stat_prefix=OUTBOUND, route_config=route_pb2.RouteConfiguration(name=name), http_filters=[router()]
    )
    return _dialled(name, manager)


def client_routes(host: VirtualHost) -> route_pb2.RouteConfiguration:
    """Where calls to one target go, by whatever name it was dialled."""
    name = upstream_routes_name(host.target)
    host = replace(host, calls=client_calls(host.routes, host.calls))
    routes = [route_components_pb2.Route(match=leaf.match, route=_action(leaf, host)) for leaf in in_order(host)]
    return route_pb2.RouteConfiguration(
        name=name, virtual_hosts=[route_components_pb2.VirtualHost(name=name, domains=["*"], routes=routes)]
    )


def client_cluster(destination: Destination) -> cluster_pb2.Cluster:
    """Mutual TLS, whatever an endpoint says: with one that cannot, the handshake fails and the client uses others."""
    return cluster_pb2.Cluster(
        name=destination.target.cluster,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=ADS),
        # Any other than these two makes a client refuse the cluster.
        lb_policy=cluster_pb2.Cluster.RING_HASH if destination.affinity else cluster_pb2.Cluster.ROUND_ROBIN,
        circuit_breakers=circuit_breaker_pb2.CircuitBreakers(
            thresholds=[circuit_breaker_pb2.CircuitBreakers.Thresholds(max_requests=uint32(MOST))]
        ),
        outlier_detection=_outlier_detection(),
        transport_socket=_tls(destination.identities),
    )


def client_nobody(name: str) -> cluster_pb2.Cluster:
    """Where nobody answers: UNAVAILABLE at once. For a cluster that is not there a client waits 15 s."""
    return cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.LOGICAL_DNS,
        load_assignment=fixed_assignment(name, NOWHERE),
        transport_socket=_tls([name]),
    )


def _action(leaf: Leaf, host: VirtualHost) -> route_components_pb2.RouteAction:
    weighted = route_components_pb2.WeightedCluster
    kept_together = dict.fromkeys(by for to, by in host.affinities if by.header and to in leaf.route.targets)
    shares = [(share.target.cluster if share.target else NOBODY, share.weight) for share in leaf.route.shares]
    action = route_components_pb2.RouteAction(
        max_stream_duration=call_deadline(leaf.calls.deadline + EARLY) if leaf.calls.deadline else None,
        retry_policy=_retry_policy(client_retry(leaf.calls.retry)),
        hash_policy=map(hash_policy, kept_together),
    )
    if len(shares) > 1:
        action.weighted_clusters.clusters.extend(
            weighted.ClusterWeight(name=name, weight=uint32(weight)) for name, weight in shares
        )
    else:
        action.cluster = shares[0][0] if shares else NOBODY
    return action


def _dialled(name: str, manager: http_connection_manager_pb2.HttpConnectionManager) -> listener_pb2.Listener:
    return listener_pb2.Listener(
        name=name, api_listener=api_listener_pb2.ApiListener(api_listener=typed_config(manager))
    )


def _tls(identities: Iterable[str]) -> base_pb2.TransportSocket:
    """Certificates from the files of the bootstrap. Whoever answers must prove one of `identities`.

    These are in a deprecated field: its successor, `match_typed_subject_alt_names`, gRPC passes over in silence, and
    would take any certificate of the mesh for the callee's.
    """
    context = tls_pb2.UpstreamTlsContext(
        common_tls_context=tls_pb2.CommonTlsContext(
            tls_certificate_provider_instance=_FILES,
            validation_context=common_pb2.CertificateValidationContext(
                ca_certificate_provider_instance=_FILES,
                match_subject_alt_names=[string_pb2.StringMatcher(exact=uri) for uri in identities],
            ),
        )
    )
    return base_pb2.TransportSocket(name=TLS, typed_config=typed_config(context))


def _outlier_detection() -> outlier_detection_pb2.OutlierDetection:
    """Ejects at most half, those that fail more often than the others do.

    gRPC does not eject by failures in a row, and every status but OK is a failure to it. By a share of failures alone a
    caller with a wrong name would eject healthy endpoints.
    """
    return outlier_detection_pb2.OutlierDetection(
        interval=duration(INTERVAL),
        base_ejection_time=duration(EJECTION),
        max_ejection_time=duration(timedelta(seconds=60)),
        max_ejection_percent=uint32(50),
        enforcing_success_rate=uint32(100),
        enforcing_failure_percentage=uint32(0),
    )


def _retry_policy(retry: RetryPolicy | None) -> _RetryPolicy | None:
    if retry is None:
        return None
    return _RetryPolicy(
        retry_on=",".join(retry.triggers),
        num_retries=uint32(retry.num_retries),
        retry_back_off=_RetryPolicy.RetryBackOff(
            base_interval=duration(retry.base_interval), max_interval=duration(retry.max_interval)
        ),
    )
