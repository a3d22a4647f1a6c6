"""What one shape of proxies needs to know of the mesh, and nothing else."""

from dataclasses import dataclass

from mesh.model.documents import Documents
from mesh.model.names import Target, host_names
from mesh.model.shape import Shape
from mesh.model.topology import Service, ServicePort, Topology
from mesh.model.workload import Protocol
from mesh.policy.retry import RetryPolicy, retry_policy


@dataclass(frozen=True, slots=True)
class Destination:
    """A target that the proxy may call. `hosts` are the authorities that mean it, for those that have any.

    `identities` are the SPIFFE ids, sorted, one of which whoever answers must prove.
    """

    target: Target
    protocol: Protocol
    hosts: tuple[str, ...]
    identities: tuple[str, ...]
    retry: RetryPolicy | None


@dataclass(frozen=True, slots=True)
class ProxyView:
    """Everything that shared translation may depend on. Equal views give equal resources, so a view is a cache key."""

    inbound: tuple[ServicePort, ...]
    destinations: tuple[Destination, ...]


def view_for(shape: Shape, topology: Topology, documents: Documents) -> ProxyView:
    """The view of proxies of this shape: their own ports, and the services in their scope.

    In scope are the declared upstreams; without any, every service of the proxy's own namespace.
    """
    in_scope = _of_namespace(shape.namespace, topology) if shape.upstreams is None else shape.upstreams
    return ProxyView(
        inbound=shape.ports,
        destinations=tuple(
            _destination(target, service, port, shape.namespace, documents)
            for target in in_scope
            if (service := topology.service(target.namespace, target.service)) and (port := service.port(target.port))
        ),
    )


def _of_namespace(namespace: str, topology: Topology) -> tuple[Target, ...]:
    return tuple(
        sorted(
            Target(namespace, service.name, port.number)
            for service in topology.services.values()
            if service.namespace == namespace
            for port in service.ports
        )
    )


def _destination(
    target: Target, service: Service, port: ServicePort, caller_namespace: str, documents: Documents
) -> Destination:
    return Destination(
        target=target,
        protocol=port.protocol,
        hosts=_hosts(service, port, caller_namespace),
        identities=tuple(who.uri for who in service.identities_of(target.version)),
        retry=retry_policy(service.name, service.namespace, port, documents.traffic_policies),
    )


def _hosts(service: Service, port: ServicePort, caller_namespace: str) -> tuple[str, ...]:
    """Names with the port; for the service's first port also without."""
    names = host_names(service.name, service.namespace, caller_namespace)
    plain = names if port == service.port(None) else ()
    return (*plain, *(f"{name}:{port.number}" for name in names))
