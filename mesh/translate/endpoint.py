"""Endpoints of a target, one small resource for all proxies of a locality."""

from collections.abc import Iterable
from itertools import groupby

from google.protobuf.struct_pb2 import Struct

from mesh.api.envoy.config.core.v3 import base_pb2, health_check_pb2
from mesh.api.envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from mesh.model.address import Address
from mesh.model.names import Target
from mesh.model.topology import Endpoint, EndpointHealth
from mesh.model.workload import Locality
from mesh.translate.address import socket_address
from mesh.translate.wrappers import uint32

TRANSPORT_SOCKET_MATCH = "envoy.transport_socket_match"
PLAINTEXT = "plaintext"
"""Its key in the metadata of endpoints that have no sidecar."""

HEALTH = {
    EndpointHealth.HEALTHY: health_check_pb2.HEALTHY,
    EndpointHealth.UNHEALTHY: health_check_pb2.UNHEALTHY,
}


def load_assignment(
    target: Target, endpoints: Iterable[Endpoint], near: Locality
) -> endpoint_pb2.ClusterLoadAssignment:
    """Endpoints of `target` as seen from `near`: grouped by locality, nearest first, unhealthy ones included.

    All localities have priority 0: Envoy itself prefers its own zone as far as the zone has its share of endpoints.
    The result is sorted, so that equal input gives equal bytes. No endpoints give an empty assignment (callers get
    UNAVAILABLE), not an error.
    """
    ordered = sorted(endpoints, key=lambda e: (e.locality.region != near.region, e.locality != near, e.locality, e))
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=target.cluster,
        endpoints=[
            endpoint_components_pb2.LocalityLbEndpoints(
                locality=base_pb2.Locality(region=locality.region, zone=locality.zone),
                load_balancing_weight=uint32(len(group)),
                lb_endpoints=[_lb_endpoint(endpoint) for endpoint in group],
            )
            for locality, members in groupby(ordered, key=lambda endpoint: endpoint.locality)
            if (group := list(members))
        ],
    )


def fixed_assignment(cluster: str, address: Address) -> endpoint_pb2.ClusterLoadAssignment:
    """The one endpoint of a cluster that never changes."""
    only = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=socket_address(address))
    )
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=cluster, endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[only])]
    )


def _lb_endpoint(endpoint: Endpoint) -> endpoint_components_pb2.LbEndpoint:
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=socket_address(endpoint.address)),
        health_status=HEALTH[endpoint.health],
        metadata=None if endpoint.mtls else base_pb2.Metadata(filter_metadata={TRANSPORT_SOCKET_MATCH: _plaintext()}),
    )


def _plaintext() -> Struct:
    metadata = Struct()
    metadata[PLAINTEXT] = True
    return metadata
