"""Shapes and instances: what proxies have in common, and what is one proxy's own."""

from dataclasses import dataclass
from enum import StrEnum

from mesh.model.address import Address
from mesh.model.names import Identity, InstanceId, Target
from mesh.model.topology import ServicePort, Topology
from mesh.model.workload import NOWHERE, Locality, Protocol, Workload


class Role(StrEnum):
    SIDECAR = "sidecar"
    GRPC_CLIENT = "grpc-client"
    """A program without a sidecar, whose gRPC library speaks xDS itself."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the instances of one workload have in common. Hashable: it is the cache key of translation.

    `upstreams` None means that none were declared: the proxy reaches every service of its namespace.
    """

    role: Role
    namespace: str
    service: str
    version: str
    service_account: str
    ports: tuple[ServicePort, ...]
    upstreams: tuple[Target, ...] | None
    locality: Locality


@dataclass(frozen=True, slots=True)
class InstancePort:
    """`inbound` is where callers reach the sidecar, `app` where the service itself listens."""

    number: int
    protocol: Protocol
    inbound: Address
    app: Address


@dataclass(frozen=True, slots=True)
class InstanceUpstream:
    """`address` is where the service finds this upstream: a listener of its own sidecar."""

    key: str
    target: Target
    protocol: Protocol
    address: Address


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance with all its addresses, chosen once and kept."""

    id: InstanceId
    identity: Identity
    service: str
    version: str
    locality: Locality
    ports: tuple[InstancePort, ...]
    upstreams: tuple[InstanceUpstream, ...]
    outbound: Address
    admin: str
    role: Role = Role.SIDECAR


def client_shape(namespace: str) -> Shape:
    """All gRPC clients of a namespace have one shape: it decides what a short name means, and nothing else does."""
    return Shape(Role.GRPC_CLIENT, namespace, "", "", "", ports=(), upstreams=None, locality=NOWHERE)


def shape_of(workload: Workload, topology: Topology) -> Shape:
    """The shape of the workload's instances. Upstreams that are not there are left out."""
    targets = (topology.target(up.namespace, up.service, up.port) for up in workload.upstreams)
    return Shape(
        role=Role.SIDECAR,
        namespace=workload.namespace,
        service=workload.service,
        version=workload.version,
        service_account=workload.service_account,
        ports=tuple(ServicePort(p.number, p.name, p.protocol) for p in workload.ports),
        upstreams=tuple(sorted({target for target in targets if target})) if workload.upstreams else None,
        locality=workload.locality,
    )
