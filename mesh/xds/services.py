"""The gRPC services that xDS is spoken over: one for all types on one stream, and one for each type."""

from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import ServiceDescriptor

from mesh.api.envoy.annotations import resource_pb2
from mesh.api.envoy.service.cluster.v3 import cds_pb2
from mesh.api.envoy.service.discovery.v3 import ads_pb2
from mesh.api.envoy.service.endpoint.v3 import eds_pb2
from mesh.api.envoy.service.extension.v3 import config_discovery_pb2
from mesh.api.envoy.service.listener.v3 import lds_pb2
from mesh.api.envoy.service.route.v3 import rds_pb2
from mesh.api.envoy.service.runtime.v3 import rtds_pb2
from mesh.api.envoy.service.secret.v3 import sds_pb2


@dataclass(frozen=True, slots=True)
class Service:
    """`type_url` is the one type that it serves, empty for all of them. The rest are names of methods.

    `fetch` is the one that is polled; the aggregated service has none.
    """

    name: str
    type_url: str
    sotw: str
    delta: str
    fetch: str


def _service(descriptor: ServiceDescriptor) -> Service:
    """Envoy's protos say in an option which type a service is for, and in a prefix what a method does."""
    by_prefix = {
        prefix: next((method.name for method in descriptor.methods if method.name.startswith(prefix)), "")
        for prefix in ("Stream", "Delta", "Fetch")
    }
    served: str = descriptor.GetOptions().Extensions[resource_pb2.resource].type  # type: ignore[index] # of the stubs
    return Service(
        name=descriptor.full_name,
        type_url=served and f"type.googleapis.com/{served}",
        sotw=by_prefix["Stream"],
        delta=by_prefix["Delta"],
        fetch=by_prefix["Fetch"],
    )


AGGREGATED: Final = _service(ads_pb2.DESCRIPTOR.services_by_name["AggregatedDiscoveryService"])

SERVICES: Final = (
    AGGREGATED,
    _service(cds_pb2.DESCRIPTOR.services_by_name["ClusterDiscoveryService"]),
    _service(eds_pb2.DESCRIPTOR.services_by_name["EndpointDiscoveryService"]),
    _service(lds_pb2.DESCRIPTOR.services_by_name["ListenerDiscoveryService"]),
    _service(rds_pb2.DESCRIPTOR.services_by_name["RouteDiscoveryService"]),
    _service(sds_pb2.DESCRIPTOR.services_by_name["SecretDiscoveryService"]),
    _service(config_discovery_pb2.DESCRIPTOR.services_by_name["ExtensionConfigDiscoveryService"]),
    _service(rtds_pb2.DESCRIPTOR.services_by_name["RuntimeDiscoveryService"]),
)
