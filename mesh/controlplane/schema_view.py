"""What is known of a service's methods, as the messages of the API. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from mesh.api.proa.v1 import schema_pb2
from mesh.model.duration import shown
from mesh.model.schema import CallOptions, Idempotency, Method
from mesh.model.topology import Service, Topology
from mesh.model.traffic import Retry, Timeouts
from mesh.model.workload import Protocol, Workload
from mesh.registry.known import Known, Origin, Source, pushes

PLUMBING: Final = "grpc."
"""How the names of gRPC's own services begin, which nobody pushes: health, reflection, channelz."""

IDEMPOTENCY: Final = {
    Idempotency.UNKNOWN: schema_pb2.IDEMPOTENCY_UNKNOWN,
    Idempotency.IDEMPOTENT: schema_pb2.IDEMPOTENCY_IDEMPOTENT,
    Idempotency.NO_SIDE_EFFECTS: schema_pb2.IDEMPOTENCY_NO_SIDE_EFFECTS,
}

SOURCES: Final = {
    Source.REFLECTION: schema_pb2.SCHEMA_SOURCE_REFLECTION,
    Source.FILE: schema_pb2.SCHEMA_SOURCE_FILE,
    Source.PUSH: schema_pb2.SCHEMA_SOURCE_PUSH,
}


def service_schema(
    service: Service,
    workloads: Iterable[Workload],
    pushed: Iterable[Origin],
    known: Mapping[Origin, Known],
    topology: Topology,
) -> schema_pb2.ServiceSchema:
    """What is known of a service; `workloads` and `pushed` are its own, also for versions that are not there."""
    ordered = sorted(workloads, key=lambda workload: (workload.version, workload.name))
    schema = topology.schema(service.namespace, service.name)
    return schema_pb2.ServiceSchema(
        namespace=service.namespace,
        service=service.name,
        grpc=any(port.protocol is Protocol.GRPC for port in service.ports),
        complete=schema is not None and schema.complete,
        methods=[_method(method, service, topology) for method in schema.methods] if schema else [],
        versions=[*(_version(known[origin], version=origin.version) for origin in pushed), *_told(ordered, known)],
    )


def _method(method: Method, service: Service, topology: Topology) -> schema_pb2.SchemaMethod:
    return schema_pb2.SchemaMethod(
        service=method.service,
        name=method.name,
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        idempotency=IDEMPOTENCY[method.idempotency],
        http=[schema_pb2.HttpBinding(verb=rule.verb, path=rule.path, body=rule.body) for rule in method.http],
        deprecated=method.deprecated,
        options=_options(method),
        versions=topology.versions_with(service.namespace, service.name, method),
    )


def _options(method: Method) -> list[schema_pb2.SaidOption]:
    of_service, of_method = dict(_said(method.service_options)), dict(_said(method.options))
    return [
        schema_pb2.SaidOption(name=name, value=value, service=name not in of_method)
        for name, value in sorted({**of_service, **of_method}.items())
    ]


def _said(options: CallOptions) -> Iterator[tuple[str, str]]:
    """What is said, by the names that documents have for it."""
    timeouts, retry, limit = options.timeouts or Timeouts(), options.retry or Retry(), options.rate_limit
    values = {
        "timeouts.request": timeouts.request,
        "timeouts.streamIdle": timeouts.stream_idle,
        "timeouts.maxStreamDuration": timeouts.max_stream_duration,
        "retry.disabled": retry.disabled,
        "retry.numRetries": retry.num_retries,
        "retry.retryOn.triggers": ",".join(retry.triggers or ()) or None,
        "retry.perRetry.timeout": retry.per_try_timeout,
        "retry.perRetry.backOff.baseInterval": retry.base_interval,
        "retry.perRetry.backOff.maxInterval": retry.max_interval,
        "rateLimit": f"{limit.requests}/{_text(limit.per)}" if limit else None,
        "authorization.callers": ",".join(options.callers) or None,
    }
    return ((name, _text(value)) for name, value in values.items() if value is not None)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _duration(value) if isinstance(value, timedelta) else str(value)


def _duration(value: timedelta) -> str:
    """As documents write it: `1h`, `1m30s`, `250ms`; what is shorter than a millisecond in seconds."""
    return f"{value.total_seconds():g}s" if value % timedelta(milliseconds=1) else shown(value)


def _told(workloads: Iterable[Workload], known: Mapping[Origin, Known]) -> Iterator[schema_pb2.VersionSchema]:
    for one in workloads:
        pushed = next(pushes((one.namespace, one.service, one.version), known), None)
        if told := known.get(Origin(one.namespace, one.name)):
            shown = _version(told, version=one.version)
            shown.differences.extend(_differences(pushed, told))
        else:
            shown = schema_pb2.VersionSchema(version=one.version)
        shown.workload, shown.overridden = one.name, pushed is not None
        yield shown


def _differences(pushed: Known | None, told: Known) -> Iterator[str]:
    """What is wrong with a push in the light of what the service tells itself."""
    if pushed and pushed.schema and told.schema:
        here = {method.path[1:] for method in pushed.schema.methods}
        there = {method.path[1:] for method in told.schema.methods if not method.service.startswith(PLUMBING)}
        for words, methods in (
            ("is there, and was not pushed", there - here),
            ("was pushed, and is not there", here - there),
        ):
            if methods:
                more = f" and {len(methods) - 1} more" if len(methods) > 1 else ""
                yield f"{min(methods)}{more} {words}"


def _version(known: Known, *, version: str) -> schema_pb2.VersionSchema:
    since = Timestamp()
    since.FromDatetime(known.since)
    return schema_pb2.VersionSchema(
        version=version,
        source=SOURCES[known.offer.source],
        digest=known.digest,
        since=since if known.digest else None,
        problems=known.problems,
    )
