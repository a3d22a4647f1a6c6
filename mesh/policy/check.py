"""Whether documents name things that are there, and whether they contradict each other."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from difflib import get_close_matches

from mesh.errors import ConfigError, UnresolvedError
from mesh.model.documents import Documents
from mesh.model.topology import Service, Topology
from mesh.model.traffic import BackendTrafficPolicy, PolicyTarget, Retry
from mesh.model.workload import Upstream, Workload


def unresolved(documents: Documents, topology: Topology) -> tuple[UnresolvedError, ...]:
    """Every reference to a service or port that is not there, with the nearest name."""
    return (
        *(error for workload in documents.workloads for error in _upstream_errors(workload, topology)),
        *(error for policy in documents.traffic_policies for error in _target_errors(policy, topology)),
    )


def conflicts(documents: Documents) -> tuple[ConfigError, ...]:
    """One error for each part of a document that gives way to another: policies and workloads that disagree."""
    return (*_policy_conflicts(documents), *_port_conflicts(documents.workloads))


def _upstream_errors(workload: Workload, topology: Topology) -> Iterator[UnresolvedError]:
    for upstream in workload.upstreams:
        service = topology.service(upstream.namespace, upstream.service)
        if service is None:
            yield _no_service(
                workload.where, f"upstream {upstream.key}", upstream.namespace, upstream.service, topology
            )
        elif service.port(upstream.port) is None:
            yield _no_port(workload.where, upstream, service)


def _no_port(where: str, upstream: Upstream, service: Service) -> UnresolvedError:
    ports = ", ".join(str(port.number) for port in service.ports) or "none"
    port = "any port" if upstream.port is None else f"port {upstream.port}"
    problem = f"upstream {upstream.key}: service {service.name} does not have {port}"
    return UnresolvedError(where, problem, f"Its ports: {ports}")


def _target_errors(policy: BackendTrafficPolicy, topology: Topology) -> Iterator[UnresolvedError]:
    for target in policy.targets:
        service = topology.service(policy.namespace, target.service)
        if service is None:
            yield _no_service(policy.where, "targetRefs", policy.namespace, target.service, topology)
        elif target.section and target.section not in [port.name for port in service.ports]:
            names = ", ".join(port.name for port in service.ports)
            problem = f"targetRefs: service {service.name} has no port named {target.section}"
            yield UnresolvedError(policy.where, problem, f"Its ports: {names or 'none'}")


def _no_service(where: str, what: str, namespace: str, name: str, topology: Topology) -> UnresolvedError:
    problem = f"{what}: there is no service {name} in namespace {namespace}"
    here = {service.name for service in topology.services.values() if service.namespace == namespace}
    elsewhere = {f"{s.name}.{s.namespace}" for s in topology.services.values() if s.name == name}
    if near := get_close_matches(name, here, n=1):
        return UnresolvedError(where, problem, f"Did you mean {near[0]}?")
    if elsewhere:
        return UnresolvedError(where, problem, f"Did you mean {min(elsewhere)}?")
    return UnresolvedError(where, problem, f"Services there: {', '.join(sorted(here)) or 'none'}")


def _policy_conflicts(documents: Documents) -> Iterator[ConfigError]:
    decided: dict[tuple[str, PolicyTarget, str], BackendTrafficPolicy] = {}
    for policy in sorted(documents.traffic_policies, key=lambda policy: policy.seniority):
        for target in policy.targets:
            for field in _said(policy.retry):
                older = decided.setdefault((policy.namespace, target, field), policy)
                if older is not policy:
                    yield ConfigError(
                        policy.where,
                        f"retry.{field} of service {target.service} is already set by {older.name} ({older.where})",
                        "Remove it from one of them; until then the older one counts",
                    )


def _said(retry: Retry | None) -> Iterator[str]:
    if retry:
        yield from (field.name for field in fields(Retry) if getattr(retry, field.name) is not None)


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
