"""Documents that contradict each other, ask for what may do harm, or do not do what they seem to."""

from collections.abc import Iterable, Iterator

from mesh.errors import ConfigError
from mesh.model.documents import Documents
from mesh.model.route import GRPCRoute, HTTPRoute, ReferenceGrant
from mesh.model.schema import Idempotency, Method, Schema
from mesh.model.topology import Topology
from mesh.model.traffic import BackendTrafficPolicy, MethodPolicy, Retry
from mesh.model.workload import Protocol, Workload
from mesh.policy.calls import Said
from mesh.policy.references import as_parent, backend_errors, doubtful_methods, grant_errors, some, unchecked
from mesh.policy.retry import SAFE
from mesh.policy.routing import AnyRoute, Reason, selects


def conflicts(documents: Documents, topology: Topology) -> tuple[ConfigError, ...]:
    """One error for each part of a document that gives way to another."""
    return (
        *_policy_conflicts(documents),
        *_port_conflicts(documents.workloads),
        *_kind_conflicts(documents.routes, topology),
    )


def unsafe(documents: Documents, topology: Topology) -> tuple[ConfigError, ...]:
    """Every policy that asks for retries which could run a call twice, where no proto says that this is harmless."""
    return tuple(
        error
        for policy in documents.traffic_policies
        for retry, methods in _retries(policy, topology)
        if (error := _unsafe(policy, retry, methods))
    )


def remarks(documents: Documents, topology: Topology, grants: Iterable[ReferenceGrant]) -> tuple[ConfigError, ...]:
    """What the documents say that has no effect, or another one than it seems."""
    return (
        *doubtful_methods(documents, topology),
        *unchecked(documents, topology),
        *(error for grant in documents.grants for error in grant_errors(grant, topology)),
        *(error for policy in documents.traffic_policies for error in _without_effect(policy, topology)),
        *(error for route in documents.routes for error in _route_remarks(route)),
        *(
            error
            for route in documents.routes
            for reason, error in backend_errors(route, topology, grants)
            if reason is Reason.NOT_PERMITTED
        ),
    )


def _policy_conflicts(documents: Documents) -> Iterator[ConfigError]:
    decided: dict[tuple[str, ...], BackendTrafficPolicy] = {}
    for policy in sorted(documents.traffic_policies, key=lambda policy: policy.seniority):
        for target in policy.targets:
            for field in _said(policy):
                key = (policy.namespace, target.service, target.section, field)
                older = decided.setdefault(key, policy)
                if older is not policy:
                    yield ConfigError(
                        policy.where,
                        f"{field} of service {target.service} is already set by {older.name} ({older.where})",
                        "Remove it from one of them; until then the older one counts",
                    )


def _said(policy: BackendTrafficPolicy) -> Iterator[str]:
    """The fields that the policy sets."""
    yield from (field for field, _ in Said("", policy.timeouts, policy.retry).fields())
    for one in policy.methods:
        yield from (f"{field} of {one}" for field, _ in Said("", one.timeouts, one.retry).fields())
    if policy.affinity:
        yield "loadBalancer"


def _port_conflicts(workloads: Iterable[Workload]) -> Iterator[ConfigError]:
    """Workloads of one service that give one port number two protocols."""
    seen: dict[tuple[str, str, int], tuple[str, str]] = {}
    for workload in workloads:
        for port in workload.ports:
            protocol, where = seen.setdefault(
                (workload.namespace, workload.service, port.number), (port.protocol, workload.where)
            )
            if protocol != port.protocol:
                what = f"port {port.number} of service {workload.service}"
                yield ConfigError(
                    workload.where,
                    f"{what} is {port.protocol} here and {protocol} at {where}",
                    "Give both the same appProtocol; until then the other one counts",
                )


def _kind_conflicts(routes: Iterable[AnyRoute], topology: Topology) -> Iterator[ConfigError]:
    """HTTPRoutes of ports where GRPCRoutes of the same namespace count."""
    routes = tuple(routes)
    grpc = {
        (one.namespace, port): one for one in routes if isinstance(one, GRPCRoute) for port in _ports(one, topology)
    }
    for route in routes:
        if isinstance(route, HTTPRoute):
            for port in _ports(route, topology):
                if other := grpc.get((route.namespace, port)):
                    problem = (
                        f"GRPCRoute {other.name} ({other.where}) routes port {port[2]} of service {port[1]} already"
                    )
                    remedy = "Give each a port of its own with parentRefs.port; until then the GRPCRoute counts"
                    yield ConfigError(route.where, problem, remedy)


def _ports(route: AnyRoute, topology: Topology) -> set[tuple[str, str, int]]:
    """The ports that both kinds are for, of the parents of the route."""
    return {
        (service.namespace, service.name, port.number)
        for parent in route.parents
        if (service := topology.service(parent.namespace, parent.service))
        for port in service.ports
        if port.protocol is Protocol.HTTP2 and selects(parent, as_parent(service, port))
    }


def _retries(policy: BackendTrafficPolicy, topology: Topology) -> Iterator[tuple[Retry, tuple[Method, ...]]]:
    """What the policy says of retries, and the methods for which it does, as far as they are known."""
    methods = tuple(method for schema in _schemas(policy, topology) for method in schema.methods)
    named = {(one.service, one.method): one for one in policy.methods}
    if policy.retry:
        of_all = (one for one in methods if not _has_triggers(named.get((one.service, one.name))))
        yield policy.retry, tuple(of_all)
    for one in policy.methods:
        if one.retry:
            yield (
                one.retry,
                tuple(method for method in methods if (method.service, method.name) == (one.service, one.method)),
            )


def _unsafe(policy: BackendTrafficPolicy, retry: Retry, methods: Iterable[Method]) -> ConfigError | None:
    triggers = _harmful(policy, retry)
    names = sorted(method.path[1:] for method in methods if method.idempotency is Idempotency.UNKNOWN)
    if not triggers or not names:
        return None
    asked = f"retry.retryOn: {', '.join(triggers)} can run a call twice"
    problem = f"{asked}, and no proto says that this does no harm to {some(names)}"
    remedy = "Name the methods that it is for under `methods:`, or write `allowUnsafe: true`"
    return ConfigError(policy.where, problem, remedy)


def _harmful(policy: BackendTrafficPolicy, retry: Retry) -> tuple[str, ...]:
    """The conditions that could run a call twice, unless the policy says that they may."""
    allowed = retry.allow_unsafe if retry.allow_unsafe is not None else policy.retry and policy.retry.allow_unsafe
    return () if allowed or retry.disabled else tuple(one for one in retry.triggers or () if one not in SAFE)


def _has_triggers(one: MethodPolicy | None) -> bool:
    return bool(one and one.retry and one.retry.triggers)


def _without_effect(policy: BackendTrafficPolicy, topology: Topology) -> Iterator[ConfigError]:
    unknown = sorted(
        target.service for target in policy.targets if _speaks_grpc(policy, target.service, topology)
        and topology.schema(policy.namespace, target.service) is None
    )  # fmt: skip
    said = {
        "timeouts.request limits none of them": policy.timeouts and policy.timeouts.request,
        "retry.perRetry.timeout limits a try of none": policy.retry and policy.retry.per_try_timeout,
        "retry.retryOn is left to what cannot run a call twice": policy.retry and _harmful(policy, policy.retry),
    }
    for effect in (effect for effect, value in said.items() if value and unknown):
        problem = f"the methods of service {', '.join(unknown)} are not known yet, and until then {effect}"
        yield ConfigError(policy.where, problem, "Switch on server reflection there, or use `proa schema push`")
    for one in policy.methods:
        streams = [
            m for schema in _schemas(policy, topology) if (m := schema.method(one.service, one.method)) and m.streams
        ]
        if streams and one.timeouts and one.timeouts.request:
            problem = f"methods: {one} is a stream, which timeouts.request does not limit"
            yield ConfigError(policy.where, problem, "Write streamIdle or maxStreamDuration")


def _route_remarks(route: AnyRoute) -> Iterator[ConfigError]:
    if route.hostnames:
        problem = "hostnames says nothing for calls to a Service, as Gateway API has it"
        yield ConfigError(route.where, problem, "Remove it, or match the header Host")
    if not route.rules:
        yield ConfigError(route.where, "rules: there are none, so every call gets UNIMPLEMENTED", "Add a rule")
    for index, rule in enumerate(route.rules):
        if rule.redirect is None and not any(one.weight for one in rule.backends):
            status = "UNAVAILABLE" if isinstance(route, GRPCRoute) else "500"
            why = "all weights are 0" if rule.backends else "there are no backendRefs"
            yield ConfigError(route.where, f"rules.{index}: {why}, so the calls that fit get {status}", "Add a backend")


def _speaks_grpc(policy: BackendTrafficPolicy, name: str, topology: Topology) -> bool:
    service = topology.service(policy.namespace, name)
    return service is not None and any(port.protocol is Protocol.GRPC for port in service.ports)


def _schemas(policy: BackendTrafficPolicy, topology: Topology) -> tuple[Schema, ...]:
    found = (topology.schema(policy.namespace, name) for name in {target.service for target in policy.targets})
    return tuple(schema for schema in found if schema)
