"""Which documents a resource was made from: who is told when a proxy refuses it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mesh.model.documents import Documents, Key, key_of
from mesh.model.names import (
    OUTBOUND,
    Target,
    app_cluster,
    inbound_name,
    upstream_listener_name,
    upstream_routes_name,
)
from mesh.model.route import ParentRef, ReferenceGrant
from mesh.model.shape import client_shape, shape_of
from mesh.model.topology import Topology
from mesh.model.traffic import BackendTrafficPolicy
from mesh.model.workload import Workload
from mesh.policy.references import services_of
from mesh.policy.retry import policies_for
from mesh.policy.routing import AnyRoute, bound_routes
from mesh.policy.view import ProxyView, VirtualHost, view_for
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE

Written = Workload | BackendTrafficPolicy | AnyRoute | ReferenceGrant


@dataclass(frozen=True, slots=True)
class Origin:
    """A document, and where it is written."""

    key: Key
    where: str


Provenance = Mapping[tuple[str, str], tuple[Origin, ...]]
"""(type URL, name) of a resource -> what it was made from, the most specific document first."""


def provenance(workload: Workload, topology: Topology, documents: Documents) -> Provenance:
    """Where all resources of the workload's proxies come from.

    What is the same for every proxy was made from no document, and is not in it.
    """
    view = view_for(shape_of(workload, topology), topology, documents)
    sources, own = _Sources(workload.namespace, topology, documents), _origins([workload])
    found = {(LISTENER, OUTBOUND): own}
    for port in workload.ports:
        name = inbound_name(port.number)
        found |= dict.fromkeys(((LISTENER, name), (ROUTE, name), (CLUSTER, app_cluster(port.number))), own)
    for upstream in workload.upstreams:
        found[LISTENER, upstream_listener_name(upstream.key)] = own
    said = (one for host in view.virtual_hosts for one in sources.of_routes(host))
    workloads_last = sorted(said, key=lambda one: isinstance(one, Workload))
    return {**found, **sources.shared(view), (ROUTE, OUTBOUND): _origins([*workloads_last, workload])}


def client_provenance(namespace: str, topology: Topology, documents: Documents) -> Provenance:
    """The same of gRPC clients of a namespace; a listener is made from what its routes are made from."""
    view = view_for(client_shape(namespace), topology, documents)
    found = _Sources(namespace, topology, documents).shared(view)
    listeners = {
        (LISTENER, name): found[ROUTE, upstream_routes_name(host.target)]
        for host in view.virtual_hosts
        for name in host.hosts
    }
    return {**found, **listeners}


@dataclass(frozen=True, slots=True)
class _Sources:
    """The documents that decide what proxies in the namespace of a `caller` are told of others."""

    caller: str
    topology: Topology
    documents: Documents

    def shared(self, view: ProxyView) -> dict[tuple[str, str], tuple[Origin, ...]]:
        """Clusters, endpoints, and the routes to one service each."""
        found: dict[tuple[str, str], tuple[Origin, ...]] = {}
        for destination in view.destinations:
            target = destination.target
            answer = _origins(self._workloads(target))
            decide = _origins(self._policies(target)) if destination.affinity else ()
            found |= {(CLUSTER, target.cluster): (*decide, *answer), (ENDPOINT, target.cluster): answer}
        for host in view.virtual_hosts:
            found[ROUTE, upstream_routes_name(host.target)] = _origins(self.of_routes(host))
        return found

    def of_routes(self, host: VirtualHost) -> list[Written]:
        routes = self._routes(host.target)
        return [
            *routes,
            *self._grants(routes),
            *self._policies(host.target),
            *(one for route in host.routes for target in route.targets for one in self._workloads(target)),
            *self._workloads(host.target),
        ]

    def _routes(self, target: Target) -> tuple[AnyRoute, ...]:
        port = self.topology.port(target)
        if port is None:
            return ()
        parent = ParentRef(target.namespace, target.service, port.number, port.name)
        return bound_routes(parent, port.protocol, self.caller, self.documents.routes)

    def _grants(self, routes: Iterable[AnyRoute]) -> list[ReferenceGrant]:
        """Those that let one of the routes send calls to another namespace."""
        refs = [(type(route).__name__, route.namespace, ref) for route in routes for _, ref in services_of(route)]
        return [grant for grant in self.documents.grants if any(grant.allows(*ref) for ref in refs)]

    def _policies(self, target: Target) -> list[BackendTrafficPolicy]:
        """Routes depend on them, and clusters on how they keep calls together."""
        port, policies = self.topology.port(target), self.documents.traffic_policies
        return policies_for(target.service, target.namespace, port, policies) if port else []

    def _workloads(self, target: Target) -> list[Workload]:
        """Their ports, versions and service accounts are what is known of a service."""
        return [
            workload
            for workload in self.documents.workloads
            if (workload.namespace, workload.service) == (target.namespace, target.service)
            and target.version in ("", workload.version)
        ]


def _origins(resources: Iterable[Written]) -> tuple[Origin, ...]:
    """Each once, in the order in which it is named first."""
    return tuple(dict.fromkeys(Origin(key_of(resource), resource.where) for resource in resources))
