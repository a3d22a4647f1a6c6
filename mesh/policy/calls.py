"""How long a call may take and when it is tried again, decided field by field, by method, each with who decided it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Final

from mesh.model.documents import Documents, Mesh
from mesh.model.names import Target
from mesh.model.schema import Idempotency, Method, Schema
from mesh.model.topology import ServicePort
from mesh.model.traffic import Affinity, BackendTrafficPolicy, Retry, Timeouts
from mesh.model.workload import Protocol
from mesh.policy.retry import HARMLESS, SAFE, USUAL, RetryPolicy, longest_wait, policies_for

REQUEST: Final = timedelta(seconds=60)
"""The longest deadline of a unary call, and the one of a call that comes without, when nothing else is said."""

STREAM_IDLE: Final = timedelta(hours=1)

BUILT_IN: Final = "built-in"


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """Everything decided about the calls of one method; None is no limit.

    `deadline` caps the caller's own and is given to calls without one; `idle` is how long a stream may be silent.
    """

    deadline: timedelta | None = None
    idle: timedelta | None = None
    retry: RetryPolicy | None = USUAL


@dataclass(frozen=True, slots=True)
class Calls:
    """Policies by gRPC path, sorted, for methods that have another one than `otherwise`."""

    otherwise: CallPolicy
    methods: tuple[tuple[str, CallPolicy], ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What one place says. Whoever comes later decides a field that both set."""

    place: str
    timeouts: Timeouts | None = None
    retry: Retry | None = None

    def fields(self) -> Iterator[tuple[str, Any]]:
        for part, said in (("timeouts", self.timeouts), ("retry", self.retry)):
            for field in fields(said) if said else ():
                if (value := getattr(said, field.name)) is not None:
                    yield f"{part}.{field.name}", value


@dataclass(frozen=True, slots=True)
class Decided:
    """A value, and the place that decided it."""

    value: Any
    place: str


def calls_to(target: Target, port: ServicePort, documents: Documents, schema: Schema | None) -> Calls:
    """The policies of calls to one port of a service."""
    policies = policies_for(target.service, target.namespace, port, documents.traffic_policies)
    known = {(one.service, one.name): one for one in (schema.methods if schema else ())}
    named = {(one.service, one.method) for policy in policies for one in policy.methods}
    otherwise = policy_of(decided(said(documents, policies, port)), port)
    made = (
        (
            f"/{name[0]}/{name[1]}",
            policy_of(decided(said(documents, policies, port, name, known.get(name))), port, known.get(name)),
        )
        for name in (sorted({*known, *named}) if port.protocol is Protocol.GRPC else ())
    )
    return Calls(otherwise, tuple((path, policy) for path, policy in made if policy != otherwise))


def said(
    documents: Documents,
    policies: Sequence[BackendTrafficPolicy],
    port: ServicePort,
    name: tuple[str, str] | None = None,
    method: Method | None = None,
) -> Iterator[Said]:
    """All that is said about the calls of a method, the weakest first; `policies` as `policies_for` gives them.

    A method that is not known may be a stream: what is said for all methods of how long a call or a try of it may take
    counts for neither.
    """
    fitting = _for_streams if _unknown(port, method) or (method and method.streams) else _as_it_is
    yield Said(BUILT_IN, _built_in(port, method))
    yield fitting(Said(_place(documents.mesh), documents.mesh.timeouts, documents.mesh.retry))
    if method:
        of_service, of_method = method.service_options, method.options
        yield fitting(Said("proto, service option", of_service.timeouts, of_service.retry))
        yield Said("proto, method option", of_method.timeouts, of_method.retry)
    for policy in reversed(policies):
        yield fitting(Said(_place(policy), policy.timeouts, policy.retry))
    for policy in reversed(policies):
        for one in policy.methods:
            if (one.service, one.method) == name:
                yield Said(f"{_place(policy)}, methods", one.timeouts, one.retry)


def decided(found: Iterable[Said]) -> Mapping[str, Decided]:
    """By field, `timeouts.request` or `retry.triggers`; what nobody sets is not in it."""
    return {name: Decided(value, one.place) for one in found for name, value in one.fields()}


def policy_of(found: Mapping[str, Decided], port: ServicePort, method: Method | None = None) -> CallPolicy:
    """What decisions come to for a method, None for one of which nothing is known, and for what is not gRPC."""
    values = {name: one.value for name, one in found.items()}
    unary = limited_as_unary(found, port, method)
    deadline = values.get("timeouts.request" if unary else "timeouts.max_stream_duration")
    idle = None if unary else values.get("timeouts.stream_idle")
    return CallPolicy(deadline or None, idle or None, _retry(values, method))


def limited_as_unary(found: Mapping[str, Decided], port: ServicePort, method: Method | None) -> bool:
    """By `request`, that is, and not by the two that are for streams."""
    return "timeouts.request" in found if _unknown(port, method) else not (method and method.streams)


def triggers_of(values: Mapping[str, Any], method: Method | None) -> tuple[str, ...]:
    """On what a call is tried again: of what is asked for, that which cannot run it twice where that may do harm."""
    idempotent = method is not None and method.idempotency is not Idempotency.UNKNOWN
    asked = values.get("retry.triggers", HARMLESS if method and idempotent and not method.streams else SAFE)
    if idempotent or values.get("retry.allow_unsafe"):
        return tuple(asked)
    return tuple(one for one in asked if one in SAFE) or SAFE


def affinity_of(target: Target, port: ServicePort, documents: Documents) -> Affinity | None:
    """By what calls to one port of a service are kept together."""
    policies = policies_for(target.service, target.namespace, port, documents.traffic_policies)
    return next((policy.affinity for policy in policies if policy.affinity), None)


def _retry(values: Mapping[str, Any], method: Method | None) -> RetryPolicy | None:
    if values.get("retry.disabled"):
        return None
    longest = values.get("retry.max_interval")
    base = values.get("retry.base_interval") or min(USUAL.base_interval, longest or USUAL.base_interval)
    return RetryPolicy(
        num_retries=values.get("retry.num_retries", USUAL.num_retries),
        triggers=triggers_of(values, method),
        per_try_timeout=values.get("retry.per_try_timeout"),
        base_interval=base,
        # Two places may have said one each.
        max_interval=max(longest or longest_wait(base), base),
    )


def _unknown(port: ServicePort, method: Method | None) -> bool:
    return port.protocol is Protocol.GRPC and method is None


def _built_in(port: ServicePort, method: Method | None) -> Timeouts:
    if port.protocol is not Protocol.GRPC:
        return Timeouts()
    return Timeouts(request=REQUEST) if method and not method.streams else Timeouts(stream_idle=STREAM_IDLE)


def _for_streams(one: Said) -> Said:
    timeouts = replace(one.timeouts, request=None) if one.timeouts else None
    retry = replace(one.retry, per_try_timeout=None) if one.retry else None
    return Said(one.place, timeouts, retry)


def _as_it_is(one: Said) -> Said:
    return one


def _place(document: Mesh | BackendTrafficPolicy) -> str:
    return f"{type(document).__name__} {document.name} ({document.where})"
