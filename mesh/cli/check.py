"""`proa check`: what is not as it should be, and what to do about it."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as version_of
from typing import Any, Final

import grpc
import typer

from mesh.agent.envoy import NEWEST, OLDEST
from mesh.api.proa.v1 import (
    ca_pb2,
    ca_pb2_grpc,
    documents_pb2,
    documents_pb2_grpc,
    schema_pb2,
    schema_pb2_grpc,
    status_pb2,
    status_pb2_grpc,
)
from mesh.cli.certificates import LEFT, Certificate, certificates_of
from mesh.cli.connection import SECONDS, connected
from mesh.cli.options import Format, OutputOption, ServerOption, StateOption
from mesh.cli.output import write
from mesh.cli.schema import without_schema
from mesh.errors import UnreachableError

SLOW: Final = timedelta(seconds=10)
"""A proxy that has not acknowledged its configuration for so long lags."""

REACHED: Final = "The control plane answers"


@dataclass(frozen=True, slots=True)
class Finding:
    where: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Mesh:
    """What the mesh says of itself at one moment."""

    at: datetime
    version: str
    proxies: Iterable[status_pb2.Proxy]
    instances: Iterable[status_pb2.Instance]
    schemas: Iterable[schema_pb2.ServiceSchema]
    documents: Iterable[documents_pb2.Document]
    certificates: Iterable[Certificate]
    authority: str = ""
    """What is wrong with the authority."""


@dataclass(frozen=True, slots=True)
class Check:
    """A sentence that should be true, and what speaks against it. Only what `fails` makes the command fail."""

    sentence: str
    findings: Callable[[Mesh], Iterable[Finding]]
    fails: bool = True


def check(state: StateOption = None, server: ServerOption = None, output: OutputOption = Format.TABLE) -> None:
    """Look for what is not as it should be.

    Each line is a sentence and whether it is true: ok, warning or error; below it what to do. Exits with 1 when there
    is an error.
    """
    try:
        with connected(state, server) as channel:
            mesh = _mesh(channel)
    except UnreachableError as error:
        results = [(Check(REACHED, lambda _: ()), [Finding(error.where, error.problem, error.remedy)])]
    else:
        results = [(one, list(one.findings(mesh))) for one in CHECKS]
    if output is Format.TABLE:
        for one, found in results:
            print(f"{_result(one, found):8}{one.sentence}")
            for finding in found:
                print(f"          {finding.where}: {finding.problem}. {finding.remedy}")
    else:
        write({"checks": [_plain(one, found) for one, found in results]}, output)
    sys.stdout.flush()
    if any(one.fails and found for one, found in results):
        raise typer.Exit(1)


def _result(one: Check, found: list[Finding]) -> str:
    if not found:
        return "ok"
    return "error" if one.fails else "warning"


def _plain(one: Check, found: list[Finding]) -> dict[str, Any]:
    return {
        "check": one.sentence,
        "result": _result(one, found),
        "findings": [asdict(finding) for finding in found],
    }


def _mesh(channel: grpc.Channel) -> Mesh:
    status = status_pb2_grpc.StatusServiceStub(channel)
    watch = status.WatchInstances(status_pb2.WatchInstancesRequest(), timeout=SECONDS)
    instances = next(iter(watch)).instances
    watch.cancel()
    schemas = schema_pb2_grpc.SchemaServiceStub(channel)
    documents = documents_pb2_grpc.DocumentServiceStub(channel)
    authority = _authority(channel)
    answer = status.ListProxies(status_pb2.ListProxiesRequest(), timeout=SECONDS)
    return Mesh(
        at=datetime.now(UTC),
        version=answer.version,
        proxies=answer.proxies,
        instances=instances,
        schemas=schemas.ListSchemas(schema_pb2.ListSchemasRequest(), timeout=SECONDS).schemas,
        documents=documents.ListDocuments(documents_pb2.ListDocumentsRequest(), timeout=SECONDS).documents,
        certificates=tuple(certificates_of(authority)),
        authority=authority.problem,
    )


def _authority(channel: grpc.Channel) -> ca_pb2.Authority:
    """Empty for a mesh without documents, which has none."""
    try:
        answer = ca_pb2_grpc.CaServiceStub(channel).GetAuthority(ca_pb2.GetAuthorityRequest(), timeout=SECONDS)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return ca_pb2.Authority()
    authority: ca_pb2.Authority = answer.authority
    return authority


def _answers(_: Mesh) -> Iterable[Finding]:
    return ()  # or nothing else could be asked


def _versions(mesh: Mesh) -> Iterator[Finding]:
    if mesh.version != (mine := version_of("proa")):
        yield Finding("the control plane", f"its Proa is {mesh.version}, this one is {mine}", "Start it again: proa up")
    for proxy in mesh.proxies:
        parts = proxy.envoy_version.split(".")
        if len(parts) < 2 or not all(part.isdigit() for part in parts[:2]) or not proxy.envoy_version:
            continue  # not connected yet, or a gRPC client without a sidecar
        if not OLDEST <= (int(parts[0]), int(parts[1])) <= NEWEST:
            newest, oldest = (".".join(map(str, numbers)) for numbers in (NEWEST, OLDEST))
            problem = f"its Envoy is {proxy.envoy_version}"
            yield Finding(proxy.node_id, problem, f"Use Envoy {oldest} to {newest}")


def _healthy(mesh: Mesh) -> Iterator[Finding]:
    for one in mesh.instances:
        where, log = f"{one.namespace}/{one.instance}", f"Look at `proa logs {one.workload}`"
        if not one.attached:
            yield Finding(where, "its agent is not connected", log)
        elif not (one.report.healthy or one.draining):
            yield Finding(where, f"it is not healthy: {_clause(one.report.reason) or 'nothing is said'}", log)


def _newest(mesh: Mesh) -> Iterator[Finding]:
    look = "Look at `proa proxy-status`"
    for proxy in mesh.proxies:
        since = mesh.at - proxy.since.ToDatetime(UTC) if proxy.HasField("since") else SLOW
        if proxy.problem:
            yield Finding(proxy.node_id, f"its configuration cannot be made: {_clause(proxy.problem)}", look)
        elif proxy.state == status_pb2.PROXY_STATE_NACKED:
            yield Finding(proxy.node_id, f"it refuses: {_clause(proxy.last_nack)}", look)
        elif proxy.state == status_pb2.PROXY_STATE_DISCONNECTED:
            yield Finding(proxy.node_id, "it is not connected", look)
        elif proxy.state == status_pb2.PROXY_STATE_PENDING and since >= SLOW:
            yield Finding(proxy.node_id, f"it has not answered for {since.total_seconds():.0f} s", look)


def _resolved(mesh: Mesh) -> Iterator[Finding]:
    return _conditions(mesh, "ResolvedRefs", "Correct it, or bring back what it names")


def _checked(mesh: Mesh) -> Iterator[Finding]:
    for document in mesh.documents:
        for condition in document.conditions:
            if condition.type == "ResolvedRefs" and condition.status and condition.message:
                problem, _, remedy = condition.message.partition(". ")
                yield Finding(document.where, _clause(problem), _clause(remedy))


def _accepted(mesh: Mesh) -> Iterator[Finding]:
    return _conditions(mesh, "Accepted", "Remove what is said twice from one of them")


def _conditions(mesh: Mesh, kind: str, remedy: str) -> Iterator[Finding]:
    for document in mesh.documents:
        for condition in document.conditions:
            if condition.type == kind and not condition.status:
                yield Finding(document.where, _clause(condition.message) or condition.reason, remedy)


def _schemas(mesh: Mesh) -> Iterator[Finding]:
    remedy = "Switch on server reflection, name a descriptorSet, or use `proa schema push`"
    for one, why in without_schema(mesh.schemas):
        yield Finding(f"{one.namespace}/{one.service}", why, remedy)


def _pushes(mesh: Mesh) -> Iterator[Finding]:
    for one in mesh.schemas:
        for version in one.versions:
            for problem in version.differences:
                where = f"{one.namespace}/{one.service} {version.version}"
                yield Finding(where, problem, "Push what it has now, or `proa schema delete` what was pushed")


def _signs(mesh: Mesh) -> Iterator[Finding]:
    if mesh.authority:
        where, _, rest = mesh.authority.partition(": ")
        problem, _, remedy = rest.partition(". ")
        yield Finding(where, problem, _clause(remedy))


def _ended(mesh: Mesh) -> Iterator[Finding]:
    return (Finding(one.where, "it has expired", one.remedy) for one in mesh.certificates if one.not_after <= mesh.at)


def _certificates(mesh: Mesh) -> Iterator[Finding]:
    for one in mesh.certificates:
        if 0 < one.part_left(mesh.at) < LEFT:
            problem = f"it ends in {(one.not_after - mesh.at).total_seconds() / 3600:.1f} h"
            yield Finding(one.where, problem, one.remedy)


def _exposed(mesh: Mesh) -> Iterator[Finding]:
    for one in mesh.instances:
        if one.report.exposed:
            where = f"{one.namespace}/{one.instance}"
            problem = f"its service listens on {', '.join(one.report.exposed)}, where nothing protects it"
            yield Finding(where, problem, "Let it listen on $HOST:$PORT")


def _clause(text: str) -> str:
    """On one line, without the stop that follows anyway."""
    return " ".join(text.split()).rstrip(".")


CHECKS: Final = (
    Check(REACHED, _answers),
    Check("The control plane and every Envoy are of versions that fit this Proa", _versions, fails=False),
    Check("Every instance is healthy", _healthy),
    Check("Every proxy runs its newest configuration", _newest),
    Check("Documents name only what is there", _resolved),
    Check("The methods that documents name could be checked", _checked, fails=False),
    Check("No document gives way to another", _accepted, fails=False),
    Check("The methods of every gRPC service are known", _schemas, fails=False),
    Check("What was pushed for a service is what it has", _pushes, fails=False),
    Check("The authority can sign", _signs),
    Check("No certificate has expired", _ended),
    Check(f"Certificates have more than {LEFT:.0%} of their life left", _certificates, fails=False),
    Check("Services listen on loopback only", _exposed, fails=False),
)
"""In the order in which one would look."""
