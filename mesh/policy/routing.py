"""Which rules decide over a call to a port of a service, in which order, and where they send it.

Gateway API v1 with Services as parents (GEP-1294): https://gateway-api.sigs.k8s.io/geps/gep-1294/
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import re2

from mesh.model.documents import Documents
from mesh.model.names import Target
from mesh.model.route import (
    NO_CHANGE,
    GrpcMatch,
    GRPCRoute,
    HeaderChange,
    HttpMatch,
    HTTPRoute,
    Match,
    MethodMatch,
    ParentRef,
    PathType,
    ReferenceGrant,
    Rule,
    ServiceRef,
)
from mesh.model.topology import ServicePort, Topology
from mesh.model.workload import Protocol

AnyRoute = GRPCRoute | HTTPRoute

SPEAKS: Final[Mapping[type[AnyRoute], tuple[Protocol, ...]]] = {
    GRPCRoute: (Protocol.GRPC, Protocol.HTTP2),
    HTTPRoute: (Protocol.HTTP, Protocol.HTTP2),
}
"""The ports that a kind of route is for. Where both are, GRPCRoutes count (GEP-1294)."""

ALWAYS: Final = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
"""What tools ask every service for; reachable although a GRPCRoute does not say so."""


NOTHING_ELSE: Final = Rule(matches=())


class Reason(StrEnum):
    """Why a backend is nobody, in Gateway API's words."""

    NOT_FOUND = "BackendNotFound"
    NOT_PERMITTED = "RefNotPermitted"
    PROTOCOL = "UnsupportedProtocol"


@dataclass(frozen=True, slots=True)
class Share:
    """Where a share of the calls goes. `target` None is nobody: they get UNAVAILABLE, without gRPC 500."""

    target: Target | None
    weight: int = 1
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE


@dataclass(frozen=True, slots=True)
class Copies:
    target: Target
    numerator: int
    denominator: int


@dataclass(frozen=True, slots=True)
class Route:
    """What happens to the calls that fit `match`. Without `shares` and redirect they get UNAVAILABLE, without gRPC 500.

    `rule` holds what else is done; its matches and references are not in it, for these are here. `origin` names the
    document, and is empty for what no document says.
    """

    match: Match
    shares: tuple[Share, ...]
    copies: tuple[Copies, ...] = ()
    rule: Rule = NOTHING_ELSE
    origin: str = ""

    @property
    def targets(self) -> tuple[Target, ...]:
        shares = tuple(share.target for share in self.shares if share.target)
        return (*shares, *(copies.target for copies in self.copies))


def routes_to(
    target: Target, port: ServicePort, caller_namespace: str, documents: Documents, topology: Topology
) -> tuple[Route, ...]:
    """What decides over calls from a namespace to one port: the first that fits. No match is UNIMPLEMENTED, or 404.

    Without any document everything goes to `target`.
    """
    bound = bound_routes(ParentRef(target.namespace, target.service, port.number, port.name), port.protocol,
                         caller_namespace, documents.routes)  # fmt: skip
    to_itself = (Share(target),)
    if not bound:
        return (Route(GrpcMatch() if port.protocol is Protocol.GRPC else HttpMatch(), to_itself),)
    said = in_order((route, match_route) for route in bound for match_route in _of(route, topology, documents.grants))
    if not isinstance(bound[0], GRPCRoute):
        return said
    return (*said, *(Route(GrpcMatch(MethodMatch(service)), to_itself) for service in ALWAYS))


def bound_routes(
    port: ParentRef, protocol: Protocol, caller_namespace: str, routes: Iterable[AnyRoute]
) -> tuple[AnyRoute, ...]:
    """The routes that count for calls from a namespace to one port, given by number and name; all are of one kind.

    Routes of the caller's own namespace take the place of those of the service's.
    """
    fit = [route for route in routes if any(selects(parent, port) for parent in route.parents)]
    for namespace in (caller_namespace, port.namespace):
        for kind, protocols in SPEAKS.items():
            bound = tuple(one for one in fit if one.namespace == namespace and isinstance(one, kind))
            if bound and protocol in protocols:
                return bound
    return ()


def selects(parent: ParentRef, port: ParentRef) -> bool:
    return (
        (parent.namespace, parent.service) == (port.namespace, port.service)
        and parent.port in (None, port.port)
        and parent.section in ("", port.section)
    )


def in_order(routes: Iterable[tuple[AnyRoute, "Route"]]) -> tuple[Route, ...]:
    """By precedence; those of one document and equal rank as they are written."""
    return tuple(route for _, route in sorted(routes, key=lambda one: (rank(one[1].match), one[0].seniority)))


def rank(match: Match) -> tuple[int, ...]:
    """Smaller comes first. Regular expressions, where Gateway API leaves it open, come after what is exact."""
    if isinstance(match, GrpcMatch):
        method = match.method
        length = (len(method.service), len(method.method))
        exact = (0, 0) if method.regex else (-length[0], -length[1])
        return (*exact, -sum(length), -len(match.headers))
    kind = (PathType.EXACT, PathType.REGEX, PathType.PREFIX).index(match.path.type)
    return (kind, -len(match.path.value), not match.method, -len(match.headers), -len(match.query))


def fits(method: MethodMatch, path: str) -> bool:
    """Whether a gRPC path is of a method that is meant."""
    if method.regex:
        return re2.fullmatch(method.pattern, path) is not None
    service, _, name = path[1:].rpartition("/")
    return method.service in ("", service) and method.method in ("", name)


def resolved(
    service: ServiceRef, route: AnyRoute, topology: Topology, grants: Iterable[ReferenceGrant]
) -> Target | Reason:
    """What a reference of the route to a Service means, or why it means nobody."""
    return found(service, route, topology) if permitted(service, route, grants) else Reason.NOT_PERMITTED


def permitted(service: ServiceRef, route: AnyRoute, grants: Iterable[ReferenceGrant]) -> bool:
    """Whether the route may send calls there: in its own namespace, or where a grant lets it."""
    kind, namespace = type(route).__name__, route.namespace
    return service.namespace == namespace or any(grant.allows(kind, namespace, service) for grant in grants)


def found(service: ServiceRef, route: AnyRoute, topology: Topology) -> Target | Reason:
    """What is there of that name and can take the calls of the route."""
    target = topology.backend(service.namespace, service.name, service.port)
    port = topology.port(target) if target else None
    if target is None or port is None:
        return Reason.NOT_FOUND
    http2 = isinstance(route, GRPCRoute)
    fits = port.protocol.speaks_http2 if http2 else port.protocol is not Protocol.TCP
    return target if fits else Reason.PROTOCOL


def _of(route: AnyRoute, topology: Topology, grants: Iterable[ReferenceGrant]) -> Iterator[Route]:
    def target(service: ServiceRef) -> Target | None:
        meant = resolved(service, route, topology, grants)
        return meant if isinstance(meant, Target) else None

    origin = f"{type(route).__name__} {route.namespace}/{route.name}"
    for rule in route.rules:
        shares = tuple(
            Share(target(one.service), one.weight, one.request_headers, one.response_headers)
            for one in rule.backends
            if one.weight
        )
        copies = ((target(one.service), one) for one in rule.mirrors)
        decided = Route(
            match=GrpcMatch(),
            shares=shares if any(share.target for share in shares) else (),
            copies=tuple(Copies(to, one.numerator, one.denominator) for to, one in copies if to and one.numerator),
            rule=replace(rule, matches=(), backends=(), mirrors=(), name=""),
            origin=origin,
        )
        yield from (replace(decided, match=match) for match in rule.matches)
