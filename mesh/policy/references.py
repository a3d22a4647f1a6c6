"""What documents name: whether it is there, and whether it may be named. Each error offers the nearest name."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Final, TypeAlias

from mesh.errors import UnresolvedError
from mesh.model.documents import Documents
from mesh.model.route import GATEWAY_GROUP, GrpcMatch, ParentRef, ReferenceGrant, Route, ServiceRef
from mesh.model.schema import Schema
from mesh.model.topology import Service, ServicePort, Topology
from mesh.model.traffic import BackendTrafficPolicy
from mesh.model.workload import Upstream, Workload
from mesh.policy.routing import ALWAYS, SPEAKS, AnyRoute, Reason, found, permitted, selects

SEVERAL: Final = 3
"""So many names stand in a message."""

REFERRING: Final = tuple(kind.__name__ for kind in SPEAKS)
"""The kinds that may need a grant, all of one group."""

Unknown: TypeAlias = tuple[bool, UnresolvedError]
"""A method that is not known, and whether all methods of the service are."""


def unresolved(documents: Documents, topology: Topology) -> tuple[UnresolvedError, ...]:
    """Every reference to a service, version or port that is not there."""
    return (
        *(error for workload in documents.workloads for error in _upstream_errors(workload, topology)),
        *(error for policy in documents.traffic_policies for error in _target_errors(policy, topology)),
        *(
            error
            for route in documents.routes
            for parent in route.parents
            if (error := parent_error(route, parent, topology))
        ),
        *(
            error
            for route in documents.routes
            for reason, error in backend_errors(route, topology, ())
            if reason is not Reason.NOT_PERMITTED
        ),
    )


def unknown_methods(documents: Documents, topology: Topology) -> tuple[UnresolvedError, ...]:
    """Every method that is named of a service whose schema is known, and does not have it."""
    return tuple(error for complete, error in _unknown(documents, topology) if complete)


def doubtful_methods(documents: Documents, topology: Topology) -> tuple[UnresolvedError, ...]:
    """Every method that is not among those that are known of a service which does not tell all of them."""
    return tuple(error for complete, error in _unknown(documents, topology) if not complete)


def unchecked(documents: Documents, topology: Topology) -> tuple[UnresolvedError, ...]:
    """One for each document that names methods of a service that is there, and of which no schema is known."""
    return tuple(error for one in (*documents.traffic_policies, *documents.routes) if (error := _unseen(one, topology)))


def grant_errors(grant: ReferenceGrant, topology: Topology) -> Iterator[UnresolvedError]:
    """Each part of the grant that lets nobody do anything."""
    for index, source in enumerate(grant.sources):
        if source.group != GATEWAY_GROUP or source.kind not in REFERRING:
            problem = f"from.{index}: kind {source.kind} of group {source.group!r} refers to nothing here"
            yield UnresolvedError(grant.where, problem, f"Kinds that do: {' and '.join(REFERRING)} of {GATEWAY_GROUP}")
    for index, to in enumerate(grant.targets):
        if (to.group, to.kind) != ("", "Service"):
            problem = f"to.{index}: nothing here refers to kind {to.kind} of group {to.group!r}"
            yield UnresolvedError(grant.where, problem, 'Routes refer to kind Service of group ""')
        elif to.name and to.name not in topology.backends(grant.namespace):
            yield _no_service(grant.where, f"to.{index}", grant.namespace, to.name, topology)


def parent_error(route: Route, parent: ParentRef, topology: Topology) -> UnresolvedError | None:
    """Why calls to the parent are not decided by the route."""
    service = topology.service(parent.namespace, parent.service)
    if service is None:
        return _no_service(route.where, "parentRefs", parent.namespace, parent.service, topology)
    ports = [port for port in service.ports if selects(parent, as_parent(service, port))]
    if not ports:
        shown = ", ".join(f"{port.number} ({port.name})" for port in service.ports) or "none"
        return UnresolvedError(
            route.where, f"parentRefs: service {service.name} has no such port", f"Its ports: {shown}"
        )
    protocols = next(protocols for kind, protocols in SPEAKS.items() if isinstance(route, kind))
    if not any(port.protocol in protocols for port in ports):
        kind, fit = type(route).__name__, " or ".join(protocols)
        problem = f"parentRefs: no port of service {service.name} that is meant is {fit}, as {kind} needs"
        return UnresolvedError(route.where, problem, "Name another port, or give it another appProtocol")
    return None


def backend_errors(
    route: AnyRoute, topology: Topology, grants: Iterable[ReferenceGrant]
) -> Iterator[tuple[Reason, UnresolvedError]]:
    """Each Service that the route sends calls to, and cannot, with the reason."""
    grants = tuple(grants)
    for place, ref in services_of(route):
        match found(ref, route, topology):
            case Reason.NOT_FOUND:
                yield Reason.NOT_FOUND, _no_backend(route, place, ref, topology)
            case Reason.PROTOCOL:
                problem = f"{place}: port {ref.port} of {ref.name} does not speak what {type(route).__name__} is for"
                yield Reason.PROTOCOL, UnresolvedError(route.where, problem, "Name another port")
            case _ if not permitted(ref, route, grants):
                problem = f"{place}: {ref} is in another namespace, and no ReferenceGrant there lets this route use it"
                remedy = f"Apply one in namespace {ref.namespace}; until then its share of the calls is UNAVAILABLE"
                yield Reason.NOT_PERMITTED, UnresolvedError(route.where, problem, remedy)


def services_of(route: AnyRoute) -> Iterator[tuple[str, ServiceRef]]:
    """Each Service that calls are sent to, once, with the rule that names it first."""
    seen: dict[ServiceRef, str] = {}
    for index, rule in enumerate(route.rules):
        for ref in (*(one.service for one in rule.backends), *(one.service for one in rule.mirrors)):
            seen.setdefault(ref, f"rules.{index}")
    yield from ((place, ref) for ref, place in seen.items())


def _upstream_errors(workload: Workload, topology: Topology) -> Iterator[UnresolvedError]:
    for upstream in workload.upstreams:
        service = topology.service(upstream.namespace, upstream.service)
        if service is None:
            what = f"upstream {upstream.key}"
            yield _no_service(workload.where, what, upstream.namespace, upstream.service, topology)
        elif service.port(upstream.port) is None:
            yield _no_port(workload.where, upstream, service)


def _no_port(where: str, upstream: Upstream, service: Service) -> UnresolvedError:
    port = "any port" if upstream.port is None else f"port {upstream.port}"
    problem = f"upstream {upstream.key}: service {service.name} does not have {port}"
    return UnresolvedError(where, problem, f"Its ports: {_numbers(service)}")


def _target_errors(policy: BackendTrafficPolicy, topology: Topology) -> Iterator[UnresolvedError]:
    for target in policy.targets:
        service = topology.service(policy.namespace, target.service)
        if service is None:
            yield _no_service(policy.where, "targetRefs", policy.namespace, target.service, topology)
        elif target.section and target.section not in [port.name for port in service.ports]:
            names = ", ".join(port.name for port in service.ports)
            problem = f"targetRefs: service {service.name} has no port named {target.section}"
            yield UnresolvedError(policy.where, problem, f"Its ports: {names or 'none'}")


def _no_backend(route: AnyRoute, place: str, ref: ServiceRef, topology: Topology) -> UnresolvedError:
    """The service is not there, or the version of it, or the port."""
    names = topology.backends(ref.namespace)
    if ref.name not in names:
        near = get_close_matches(ref.name, names, n=1)
        problem = f"{place}: there is no service {ref.name} in namespace {ref.namespace}, nor a version of that name"
        remedy = f"Did you mean {near[0]}?" if near else f"Services and versions there: {some(names)}"
        return UnresolvedError(route.where, problem, remedy)
    ports = _numbers(topology.versioned(ref.namespace, ref.name)[0])
    return UnresolvedError(route.where, f"{place}: {ref.name} does not have port {ref.port}", f"Its ports: {ports}")


def _no_service(where: str, what: str, namespace: str, name: str, topology: Topology) -> UnresolvedError:
    problem = f"{what}: there is no service {name} in namespace {namespace}"
    here = {service.name for service in topology.services.values() if service.namespace == namespace}
    elsewhere = {f"{s.name}.{s.namespace}" for s in topology.services.values() if s.name == name}
    if near := get_close_matches(name, here, n=1):
        return UnresolvedError(where, problem, f"Did you mean {near[0]}?")
    if elsewhere:
        return UnresolvedError(where, problem, f"Did you mean {min(elsewhere)}?")
    return UnresolvedError(where, problem, f"Services there: {', '.join(sorted(here)) or 'none'}")


def _unknown(documents: Documents, topology: Topology) -> Iterator[Unknown]:
    for document in (*documents.traffic_policies, *documents.routes):
        services = tuple(_services_of(document))
        for place, service, method in _methods_of(document):
            yield from _method_errors(document.where, place, service, method, services, topology)


def _unseen(document: AnyRoute | BackendTrafficPolicy, topology: Topology) -> UnresolvedError | None:
    unknown = sorted(
        name
        for namespace, name in set(_services_of(document))
        if _speaks_http2(topology.service(namespace, name)) and topology.schema(namespace, name) is None
    )
    if not unknown or not any(_methods_of(document)):
        return None
    problem = f"the methods that it names are not checked: no schema is known of service {', '.join(unknown)}"
    return UnresolvedError(document.where, problem, "Switch on server reflection there, or use `proa schema push`")


def _speaks_http2(service: Service | None) -> bool:
    return service is not None and any(port.protocol.speaks_http2 for port in service.ports)


def _services_of(document: AnyRoute | BackendTrafficPolicy) -> Iterator[tuple[str, str]]:
    """Those whose methods the document names."""
    if isinstance(document, BackendTrafficPolicy):
        yield from ((document.namespace, target.service) for target in document.targets)
    else:
        yield from ((parent.namespace, parent.service) for parent in document.parents)


def _methods_of(document: AnyRoute | BackendTrafficPolicy) -> Iterator[tuple[str, str, str]]:
    """The gRPC services, and methods if any, that the document names, each with where it does."""
    if isinstance(document, BackendTrafficPolicy):
        yield from (("methods", one.service, one.method) for one in document.methods)
        return
    for index, rule in enumerate(document.rules):
        for match in rule.matches:
            if isinstance(match, GrpcMatch) and not match.method.regex and match.method.service not in ("", *ALWAYS):
                yield f"rules.{index}", match.method.service, match.method.method


def _method_errors(
    where: str, place: str, service: str, method: str, services: Iterable[tuple[str, str]], topology: Topology
) -> Iterator[Unknown]:
    """Nothing, unless all schemas that could hold the method are known, and none does. An empty `method` is any."""
    named = tuple(dict.fromkeys(services))
    schemas = [topology.schema(*one) for one in named]
    known = [schema for schema in schemas if schema]
    if len(known) < len(schemas) or any(_has(schema, service, method) for schema in known):
        return
    what = f"method {service}/{method}" if method else f"gRPC service {service}"
    near = next((one for schema in known if (one := schema.nearest(service, method))), None)
    services_there = sorted({one for schema in known for one in schema.services})
    remedy = f"Did you mean {near}?" if near else f"gRPC services there: {some(services_there)}"
    of = ", ".join(name for _, name in named)
    complete = all(schema.complete for schema in known)
    problem = f"has no {what}" if complete else f"does not tell all it has, and {what} is not among what is known"
    yield complete, UnresolvedError(where, f"{place}: service {of} {problem}", remedy)


def _has(schema: Schema, service: str, method: str) -> bool:
    return schema.method(service, method) is not None if method else service in schema.services


def as_parent(service: Service, port: ServicePort) -> ParentRef:
    return ParentRef(service.namespace, service.name, port.number, port.name)


def _numbers(service: Service | None) -> str:
    return ", ".join(str(port.number) for port in service.ports) if service and service.ports else "none"


def some(names: Sequence[str]) -> str:
    rest = len(names) - SEVERAL
    return ", ".join([*names[:SEVERAL], *([f"and {rest} more"] if rest > 0 else [])]) or "none"
