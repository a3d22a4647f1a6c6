"""What one shape of proxies needs to know of the mesh, and nothing else."""

from dataclasses import dataclass
from functools import cache, partial

from mesh.model.documents import Documents
from mesh.model.names import Target, host_names
from mesh.model.shape import Role, Shape
from mesh.model.topology import Service, ServicePort, Topology
from mesh.model.workload import Protocol
from mesh.policy.retry import RetryPolicy, retry_policy


@dataclass(frozen=True, slots=True)
class Destination:
    """A target that the proxy may call: all that its cluster is made from.

    `identities` are the SPIFFE ids, sorted, one of which whoever answers must prove.
    """

    target: Target
    protocol: Protocol
    identities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Where calls go, and how they are tried again; None for not at all."""

    target: Target
    retry: RetryPolicy | None


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """What callers dial by name, and what becomes of their calls: the first route that fits. None of TCP ports.

    `hosts` are the authorities that mean `target` in the caller's namespace, and nothing else in its scope.
    """

    target: Target
    hosts: tuple[str, ...]
    protocol: Protocol
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class ProxyView:
    """Everything that shared translation may depend on. Equal views give equal resources, so a view is a cache key.

    So is each of its parts: one destination makes one cluster, one virtual host the routes to what it means.
    """

    inbound: tuple[ServicePort, ...]
    destinations: tuple[Destination, ...]
    virtual_hosts: tuple[VirtualHost, ...]
    role: Role = Role.SIDECAR


class Views:
    """The views of one revision. Each part is worked out once, and is one object in all views that have it."""

    def __init__(self, topology: Topology, documents: Documents) -> None:
        self._destination = cache(partial(destination, topology=topology))
        self._virtual_host = cache(partial(virtual_host, topology=topology, documents=documents))
        self._of_namespace = cache(partial(targets_of, topology=topology))
        self._of_clients = cache(partial(client_targets, topology))

    def of(self, shape: Shape) -> ProxyView:
        """The view of proxies of this shape: their own ports, and the services in their scope.

        In scope are the declared upstreams; without any, every service of the proxy's own namespace. A gRPC client asks
        by name for what it calls, so for it that is everything that speaks gRPC.
        """
        targets = self._targets(shape)
        return ProxyView(
            inbound=shape.ports,
            destinations=tuple(filter(None, map(self._destination, targets))),
            virtual_hosts=tuple(filter(None, (self._virtual_host(target, shape.namespace) for target in targets))),
            role=shape.role,
        )

    def _targets(self, shape: Shape) -> tuple[Target, ...]:
        if shape.role is Role.GRPC_CLIENT:
            return self._of_clients()
        return self._of_namespace(shape.namespace) if shape.upstreams is None else shape.upstreams


def view_for(shape: Shape, topology: Topology, documents: Documents) -> ProxyView:
    """The view of proxies of this shape, as `Views` has it."""
    return Views(topology, documents).of(shape)


def destination(target: Target, topology: Topology) -> Destination | None:
    """None when the target is not there."""
    service, port = _found(target, topology)
    if service is None or port is None:
        return None
    return Destination(target, port.protocol, tuple(who.uri for who in service.identities_of(target.version)))


def virtual_host(target: Target, caller_namespace: str, topology: Topology, documents: Documents) -> VirtualHost | None:
    """None when the target is not there, or is a TCP port."""
    service, port = _found(target, topology)
    if service is None or port is None or port.protocol is Protocol.TCP:
        return None
    retry = retry_policy(service.name, service.namespace, port, documents.traffic_policies)
    return VirtualHost(target, _hosts(service, port, caller_namespace), port.protocol, (Route(target, retry),))


def targets_of(namespace: str, topology: Topology) -> tuple[Target, ...]:
    """Every port of every service there, sorted."""
    return tuple(
        sorted(
            Target(namespace, service.name, port.number)
            for service in topology.services.values()
            if service.namespace == namespace
            for port in service.ports
        )
    )


def client_targets(topology: Topology) -> tuple[Target, ...]:
    """Every port of every service of the mesh that a gRPC client can speak with, sorted."""
    return tuple(
        sorted(
            Target(service.namespace, service.name, port.number)
            for service in topology.services.values()
            for port in service.ports
            if port.protocol.speaks_http2
        )
    )


def _found(target: Target, topology: Topology) -> tuple[Service | None, ServicePort | None]:
    service = topology.service(target.namespace, target.service)
    return service, service.port(target.port) if service else None


def _hosts(service: Service, port: ServicePort, caller_namespace: str) -> tuple[str, ...]:
    """Names with the port; for the service's first port also without."""
    names = host_names(service.name, service.namespace, caller_namespace)
    plain = names if port == service.port(None) else ()
    return (*plain, *(f"{name}:{port.number}" for name in names))
