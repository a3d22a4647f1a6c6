"""What one shape of proxies needs to know of the mesh, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

from mesh.model.documents import Documents
from mesh.model.names import Target, host_names
from mesh.model.shape import Role, Shape
from mesh.model.topology import Service, ServicePort, Topology
from mesh.model.traffic import Affinity, BackendTrafficPolicy
from mesh.model.workload import Protocol
from mesh.policy.calls import Calls, affinity_of, calls_to
from mesh.policy.routing import AnyRoute, Route, routes_to

About = Callable[[str, str], Documents]


@dataclass(frozen=True, slots=True)
class Destination:
    """A target that the proxy may call: all that its cluster is made from.

    `identities` are the SPIFFE ids, sorted, one of which whoever answers must prove. With `affinity` the calls say by a
    hash to which endpoint they want.
    """

    target: Target
    protocol: Protocol
    identities: tuple[str, ...]
    affinity: bool = False


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """What callers dial by name, and what becomes of their calls: the first route that fits. None of TCP ports.

    `hosts` are the authorities that mean `target` in the caller's namespace, and nothing else in its scope. `calls`
    says how long calls may take and when they are tried again, wherever they go; `affinities` by what they are kept
    together, for each target of the routes where they are.
    """

    target: Target
    hosts: tuple[str, ...]
    protocol: Protocol
    routes: tuple[Route, ...]
    calls: Calls
    affinities: tuple[tuple[Target, Affinity], ...] = ()


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
        of_service = about(documents)
        self._destination = cache(partial(destination, topology=topology, about=of_service))
        self._virtual_host = cache(partial(virtual_host, topology=topology, about=of_service))
        self._of_namespace = cache(partial(targets_of, topology=topology))
        self._of_clients = cache(partial(client_targets, topology))

    def of(self, shape: Shape) -> ProxyView:
        """The view of proxies of this shape: their own ports, and the services in their scope.

        In scope are the declared upstreams; without any, every service of the proxy's own namespace. A gRPC client asks
        by name for what it calls, so for it that is everything that speaks gRPC.
        """
        targets = self._targets(shape)
        hosts = tuple(filter(None, (self._virtual_host(target, shape.namespace) for target in targets)))
        # Routes may lead to what the proxy could not call by name.
        routed = {target for host in hosts for route in host.routes for target in route.targets}
        return ProxyView(
            inbound=shape.ports,
            destinations=tuple(filter(None, map(self._destination, (*targets, *sorted(routed.difference(targets)))))),
            virtual_hosts=hosts,
            role=shape.role,
        )

    def _targets(self, shape: Shape) -> tuple[Target, ...]:
        if shape.role is Role.GRPC_CLIENT:
            return self._of_clients()
        return self._of_namespace(shape.namespace) if shape.upstreams is None else shape.upstreams


def view_for(shape: Shape, topology: Topology, documents: Documents) -> ProxyView:
    """The view of proxies of this shape, as `Views` has it."""
    return Views(topology, documents).of(shape)


def destination(target: Target, topology: Topology, about: About) -> Destination | None:
    """None when the target is not there. `about` gives the documents about a service."""
    service, port = _found(target, topology)
    if service is None or port is None:
        return None
    return Destination(
        target=target,
        protocol=port.protocol,
        identities=tuple(who.uri for who in service.identities_of(target.version)),
        affinity=affinity_of(target, port, about(target.namespace, target.service)) is not None,
    )


def virtual_host(target: Target, caller_namespace: str, topology: Topology, about: About) -> VirtualHost | None:
    """None when the target is not there, or is a TCP port. `about` gives the documents about a service."""
    service, port = _found(target, topology)
    if service is None or port is None or port.protocol is Protocol.TCP:
        return None
    documents = about(service.namespace, service.name)
    routes = routes_to(target, port, caller_namespace, documents, topology)
    return VirtualHost(
        target=target,
        hosts=_hosts(service, port, caller_namespace),
        protocol=port.protocol,
        routes=routes,
        calls=calls_to(target, port, documents, topology.schema(service.namespace, service.name)),
        affinities=tuple(
            (to, affinity)
            for to in sorted({target for route in routes for target in route.targets})
            if (at := topology.port(to)) and (affinity := affinity_of(to, at, about(to.namespace, to.service)))
        ),
    )


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
    """Every port of every service of the mesh that speaks gRPC, sorted."""
    return tuple(
        sorted(
            Target(service.namespace, service.name, port.number)
            for service in topology.services.values()
            for port in service.ports
            if port.protocol is Protocol.GRPC
        )
    )


def about(documents: Documents) -> About:
    """Gives the documents without the policies and routes of other services than the one that is asked for."""
    policies: dict[tuple[str, str], list[BackendTrafficPolicy]] = {}
    for policy in documents.traffic_policies:
        for name in {target.service for target in policy.targets}:
            policies.setdefault((policy.namespace, name), []).append(policy)
    routes: dict[tuple[str, str], list[AnyRoute]] = {}
    for route in documents.routes:
        for parent in {(parent.namespace, parent.service) for parent in route.parents}:
            routes.setdefault(parent, []).append(route)

    @cache
    def of(namespace: str, service: str) -> Documents:
        return replace(
            documents,
            workloads=(),
            routes=tuple(routes.get((namespace, service), ())),
            traffic_policies=tuple(policies.get((namespace, service), ())),
        )

    return of


def _found(target: Target, topology: Topology) -> tuple[Service | None, ServicePort | None]:
    service = topology.service(target.namespace, target.service)
    return service, service.port(target.port) if service else None


def _hosts(service: Service, port: ServicePort, caller_namespace: str) -> tuple[str, ...]:
    """Names with the port; for the service's first port also without."""
    names = host_names(service.name, service.namespace, caller_namespace)
    plain = names if port == service.port(None) else ()
    return (*plain, *(f"{name}:{port.number}" for name in names))
