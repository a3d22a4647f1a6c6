"""What one shape of proxies needs to know of the mesh, and nothing else."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Generic, TypeVar

from mesh.model.documents import Documents
from mesh.model.names import Identity, Target, host_names, nobody_uri
from mesh.model.shape import Role, Shape
from mesh.model.topology import Service, ServicePort, Topology
from mesh.model.traffic import Affinity, BackendTrafficPolicy
from mesh.model.workload import Protocol
from mesh.policy.calls import Calls, affinity_of, calls_to
from mesh.policy.routing import AnyRoute, Route, routes_to

P = TypeVar("P")
About = Callable[[str, str], Documents]


@dataclass(frozen=True, slots=True)
class Destination:
    """A target that the proxy may call: all that its cluster is made from.

    `identities` are the SPIFFE ids, sorted, one of which whoever answers must prove. With `affinity` the calls say by a
    hash to which endpoint they want. Only the target is hashed: it tells most of them apart.
    """

    target: Target
    protocol: Protocol = field(hash=False)
    identities: tuple[str, ...] = field(hash=False)
    affinity: bool = field(default=False, hash=False)


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """What callers dial by name, and what becomes of their calls: the first route that fits. None of TCP ports.

    `hosts` are the authorities that mean `target` in the caller's namespace, and nothing else in its scope. `calls`
    says how long calls may take and when they are tried again, wherever they go; `affinities` by what they are kept
    together, for each target of the routes where they are. Only the target is hashed.
    """

    target: Target
    hosts: tuple[str, ...] = field(hash=False)
    protocol: Protocol = field(hash=False)
    routes: tuple[Route, ...] = field(hash=False)
    calls: Calls = field(hash=False)
    affinities: tuple[tuple[Target, Affinity], ...] = field(default=(), hash=False)


@dataclass(frozen=True, slots=True)
class ProxyView:
    """Everything that shared translation may depend on. Equal views give equal resources, so a view is a cache key.

    So is each of its parts: one destination makes one cluster, one virtual host the routes to what it means.
    """

    inbound: tuple[ServicePort, ...]
    destinations: tuple[Destination, ...]
    virtual_hosts: tuple[VirtualHost, ...]
    role: Role = Role.SIDECAR
    revoked: tuple[str, ...] = ()


class Views:
    """The views of one revision. Each part is worked out once, and is one object in all views that have it.

    One that is as it was in `before` is the object from there, so that it is quick to see what is new.
    """

    def __init__(self, topology: Topology, documents: Documents, before: "Views | None" = None) -> None:
        of_service = about(documents)
        self.destinations: Parts[Destination | None] = Parts(
            partial(destination, topology=topology, about=of_service), before.destinations if before else None
        )
        self.virtual_hosts: Parts[VirtualHost | None] = Parts(
            partial(virtual_host, topology=topology, about=of_service), before.virtual_hosts if before else None
        )
        self._routed = cache(routed)
        self._topology = topology
        self._scopes: dict[Hashable, tuple[tuple[Destination, ...], tuple[VirtualHost, ...]]] = {}

    def of(self, shape: Shape) -> ProxyView:
        """The view of proxies of this shape: their own ports, and the services in their scope.

        In scope are the declared upstreams; without any, every service of the proxy's own namespace. A gRPC client asks
        by name for what it calls, so for it that is everything that speaks gRPC.
        """
        scope = (shape.role, shape.namespace, shape.upstreams)
        if scope not in self._scopes:
            self._scopes[scope] = self._reached(self._in_scope(shape), shape.namespace)
        return ProxyView(shape.ports, *self._scopes[scope], shape.role, self._topology.revoked)

    def _in_scope(self, shape: Shape) -> tuple[Target, ...]:
        if shape.role is Role.GRPC_CLIENT:
            return targets_where(lambda _, port: port.protocol is Protocol.GRPC, self._topology)
        if shape.upstreams is None:
            return targets_where(lambda service, _: service.namespace == shape.namespace, self._topology)
        return shape.upstreams

    def _reached(
        self, targets: tuple[Target, ...], namespace: str
    ) -> tuple[tuple[Destination, ...], tuple[VirtualHost, ...]]:
        hosts = tuple(filter(None, (self.virtual_hosts.of(target, namespace) for target in targets)))
        # Routes may lead to what the proxy could not call by name.
        more = frozenset[Target]().union(*map(self._routed, hosts)).difference(targets)
        return tuple(filter(None, map(self.destinations.of, (*targets, *sorted(more))))), hosts


class Parts(Generic[P]):
    """What `make` returned, by its arguments; what is equal to what it was before is that object."""

    def __init__(self, make: Callable[..., P], before: "Parts[P] | None") -> None:
        self._make = make
        self.made: dict[tuple[Target | str, ...], P] = {}
        self._before = before.made if before else {}

    def of(self, *key: Target | str) -> P:
        if key not in self.made:
            made, was = self._make(*key), self._before.get(key)
            self.made[key] = was if was is not None and was == made else made
        return self.made[key]


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
        identities=_believed(service.identities_of(target.version), topology),
        affinity=affinity_of(target, port, about(target.namespace, target.service)) is not None,
    )


def _believed(identities: tuple[Identity, ...], topology: Topology) -> tuple[str, ...]:
    """Never none of them: to Envoy that would mean anyone."""
    revoked = frozenset(topology.revoked)
    return tuple(who.uri for who in identities if who.uri not in revoked) or tuple(
        {nobody_uri(who.trust_domain) for who in identities}
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


def routed(host: VirtualHost) -> frozenset[Target]:
    """Wherever its routes lead."""
    return frozenset(target for route in host.routes for target in route.targets)


def targets_where(counts: Callable[[Service, ServicePort], bool], topology: Topology) -> tuple[Target, ...]:
    """Every port of every service for which it holds, sorted."""
    ports = ((service, port) for service in topology.services.values() for port in service.ports)
    return tuple(
        sorted(Target(service.namespace, service.name, port.number) for service, port in ports if counts(service, port))
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
