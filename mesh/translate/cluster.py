"""Clusters: how a sidecar reaches a service of the mesh, and its own."""

from datetime import timedelta
from typing import Final

from mesh.api.envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from mesh.api.envoy.type.v3 import percent_pb2
from mesh.model.names import Target, app_cluster
from mesh.model.shape import InstancePort
from mesh.policy.view import Destination
from mesh.translate.endpoint import PLAINTEXT, fixed_assignment
from mesh.translate.protocol import alpn, between_sidecars, to_service
from mesh.translate.source import ADS
from mesh.translate.tls import raw_buffer, upstream_tls
from mesh.translate.wrappers import duration, uint32

CONNECT_TIMEOUT: Final = timedelta(seconds=5)
MOST: Final = 10_000
"""Connections, streams and waiting requests per cluster and proxy. A stream counts as long as it runs."""


def cluster(destination: Destination) -> cluster_pb2.Cluster:
    """The cluster through which a sidecar reaches `destination`: mutual TLS unless an endpoint says that it cannot."""
    target = destination.target
    return cluster_pb2.Cluster(
        name=target.cluster,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=ADS),
        connect_timeout=duration(CONNECT_TIMEOUT),
        lb_policy=cluster_pb2.Cluster.RING_HASH if destination.affinity else cluster_pb2.Cluster.LEAST_REQUEST,
        # The control plane owns health: with no healthy endpoint callers get UNAVAILABLE, not a sick endpoint.
        common_lb_config=cluster_pb2.Cluster.CommonLbConfig(healthy_panic_threshold=percent_pb2.Percent(value=0)),
        ignore_health_on_host_removal=True,
        circuit_breakers=circuit_breakers(),
        outlier_detection=outlier_detection(),
        typed_extension_protocol_options=between_sidecars(destination.protocol),
        transport_socket_matches=[
            cluster_pb2.Cluster.TransportSocketMatch(
                name=PLAINTEXT, match={PLAINTEXT: True}, transport_socket=raw_buffer()
            )
        ],
        transport_socket=upstream_tls(server_name(target), destination.identities, alpn(destination.protocol)),
    )


def own_service(port: InstancePort) -> cluster_pb2.Cluster:
    """The cluster through which a sidecar reaches its own service."""
    name = app_cluster(port.number)
    return cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.STATIC,
        connect_timeout=duration(CONNECT_TIMEOUT),
        load_assignment=fixed_assignment(name, port.app),
        circuit_breakers=circuit_breakers(),
        typed_extension_protocol_options=to_service(port.protocol),
    )


def server_name(target: Target) -> str:
    """What the caller says as SNI. Nothing depends on it; it tells a person who reads a capture who was meant."""
    return f"{target.service}.{target.namespace}"


def circuit_breakers() -> circuit_breaker_pb2.CircuitBreakers:
    """High limits, and a budget for retries: without one Envoy allows three at a time."""
    thresholds = circuit_breaker_pb2.CircuitBreakers.Thresholds(
        max_connections=uint32(MOST),
        max_pending_requests=uint32(MOST),
        max_requests=uint32(MOST),
        retry_budget=circuit_breaker_pb2.CircuitBreakers.Thresholds.RetryBudget(
            budget_percent=percent_pb2.Percent(value=20), min_retry_concurrency=uint32(10)
        ),
    )
    return circuit_breaker_pb2.CircuitBreakers(thresholds=[thresholds])


def outlier_detection() -> outlier_detection_pb2.OutlierDetection:
    """Ejects endpoints that cannot be reached or answer UNAVAILABLE or DEADLINE_EXCEEDED, never more than half.

    Not by `consecutive_5xx`: a caller with a wrong method name, or a bug, would eject healthy endpoints.
    """
    return outlier_detection_pb2.OutlierDetection(
        interval=duration(timedelta(seconds=5)),
        base_ejection_time=duration(timedelta(seconds=10)),
        max_ejection_time=duration(timedelta(seconds=60)),
        max_ejection_percent=uint32(50),
        enforcing_consecutive_5xx=uint32(0),
        enforcing_success_rate=uint32(0),
        consecutive_gateway_failure=uint32(5),
        enforcing_consecutive_gateway_failure=uint32(100),
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=uint32(5),
        enforcing_local_origin_success_rate=uint32(0),
    )
