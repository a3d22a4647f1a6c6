"""What holds for the calls of one method, and who says so."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mesh.errors import NotFoundError
from mesh.model.documents import Documents
from mesh.model.names import Target
from mesh.model.schema import Method, Schema
from mesh.model.topology import Topology
from mesh.model.workload import Protocol
from mesh.policy.calls import BUILT_IN, CallPolicy, Decided, decided, limited_as_unary, policy_of, said
from mesh.policy.references import some
from mesh.policy.retry import policies_for

BY_PROTO: Final = "built-in, by the proto"


@dataclass(frozen=True, slots=True)
class Explained:
    """The calls of a method to one port. `values` are in force, by field; None and () are none.

    `remark` says why a value is not the one that was asked for, and is empty otherwise.
    """

    target: Target
    path: str
    method: Method | None
    values: tuple[tuple[str, Decided], ...]
    remark: str = ""


def explained(
    service: str, method: str, namespace: str, topology: Topology, documents: Documents
) -> tuple[Explained, ...]:
    """For a gRPC service by its full name, or a service of the mesh; an empty `namespace` is any.

    A method that no schema has is explained for the service of the mesh that is named, as one of which nothing is
    known. Raises NotFoundError.
    """
    targets = [
        (Target(one.namespace, one.name, port.number), topology.schema(one.namespace, one.name))
        for one in sorted(topology.services.values(), key=lambda one: (one.namespace, one.name))
        for port in one.ports
        if port.protocol is Protocol.GRPC and namespace in ("", one.namespace)
    ]
    found = [(target, path) for target, schema in targets for path in _paths(service, method, target, schema)]
    if not found:
        raise _nothing(service, method, targets)
    return tuple(_explained(target, path, topology, documents) for target, path in found)


def _paths(service: str, method: str, target: Target, schema: Schema | None) -> Iterator[tuple[str, str]]:
    """The methods that are meant, by gRPC service and name."""
    if target.service == service:
        full, _, name = method.rpartition("/")
        known = [(one.service, one.name) for one in (schema.methods if schema else ()) if one.name == name]
        yield from [one for one in known if full in ("", one[0])] or (
            [(full, name)] if full and not (schema and schema.complete) else []
        )
    elif schema and schema.method(service, method):
        yield service, method


def _explained(target: Target, path: tuple[str, str], topology: Topology, documents: Documents) -> Explained:
    port, schema = topology.port(target), topology.schema(target.namespace, target.service)
    assert port
    method = schema.method(*path) if schema else None
    policies = policies_for(target.service, target.namespace, port, documents.traffic_policies)
    found = decided(said(documents, policies, port, path, method))
    policy = policy_of(found, port, method)
    return Explained(
        target=target,
        path=f"/{path[0]}/{path[1]}",
        method=method,
        values=tuple(_values(found, policy, limited_as_unary(found, port, method), BY_PROTO if method else BUILT_IN)),
        remark=_remark(found, policy),
    )


def _values(
    found: Mapping[str, Decided], policy: CallPolicy, unary: bool, by_default: str
) -> Iterator[tuple[str, Decided]]:
    """What is in force, and who decided it: `by_default` on what a call is tried again when nobody says so."""
    of_streams = (("timeouts.stream_idle", policy.idle), ("timeouts.max_stream_duration", policy.deadline))
    limits = (("timeouts.request", policy.deadline),) if unary else of_streams
    for field, value in limits:
        yield field, Decided(value, found[field].place if field in found else BUILT_IN)
    if policy.retry is None:
        yield "retry.disabled", found["retry.disabled"]
        return
    for field in ("num_retries", "triggers", "per_try_timeout", "base_interval", "max_interval"):
        place = by_default if field == "triggers" else BUILT_IN
        name, value = f"retry.{field}", getattr(policy.retry, field)
        yield name, Decided(value, found[name].place if name in found else place)


def _remark(found: Mapping[str, Decided], policy: CallPolicy) -> str:
    asked: tuple[Any, ...] = found["retry.triggers"].value if "retry.triggers" in found else ()
    left_out = [one for one in asked if policy.retry and one not in policy.retry.triggers]
    if not left_out:
        return ""
    return (
        f"{', '.join(left_out)} is left out: it can run a call twice, which neither the proto nor allowUnsafe permits"
    )


def _nothing(service: str, method: str, targets: list[tuple[Target, Schema | None]]) -> NotFoundError:
    schemas = [schema for _, schema in targets if schema]
    near = next((one for schema in schemas if (one := schema.nearest(service, method))), None)
    unknown = sorted({target.service for target, schema in targets if schema is None})
    names = sorted({one for schema in schemas for one in schema.services})
    remedy = f"Did you mean {near}?" if near else f"gRPC services that are known: {some(names)}"
    if unknown and not near:
        remedy += f". Not known are those of {some(unknown)}; name one as SERVICE/package.Service/Method"
    return NotFoundError(f"{service}/{method}", "no service is known to have this method", remedy)
