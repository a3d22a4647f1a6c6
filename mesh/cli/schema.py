"""`proa schema`: the methods of services, as the mesh knows them."""

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mesh import api
from mesh.api.proa.v1 import schema_pb2, schema_pb2_grpc
from mesh.cli.connection import SECONDS, connected
from mesh.cli.options import Format, NamespaceOption, OutputOption, ServerOption, StateOption
from mesh.cli.output import ago, as_json, count, table, write
from mesh.errors import NotFoundError, UsageError
from mesh.model.descriptors import LARGEST_SET
from mesh.model.names import DEFAULT_NAMESPACE

schema = typer.Typer()

ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE", help="Service, or NAMESPACE/SERVICE.")]
VersionOption = Annotated[str, typer.Option("--version", metavar="VERSION", help="Only for this version.")]

PLUMBING = "grpc."
"""How the names of gRPC's own services begin: health, reflection, channelz."""


@schema.command()
def get(
    service: Annotated[str | None, typer.Argument(metavar="[SERVICE]", help="Only this one.")] = None,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the methods of services, what their protos say, and where that is known from.

    The table leaves out gRPC's own services (grpc.health.v1 and the like).
    """
    with connected(state, server) as channel:
        found = _listed(schema_pb2_grpc.SchemaServiceStub(channel), service, namespace)
    if output is not Format.TABLE:
        write({"schemas": [as_json(one) for one in found]}, output)
        return
    columns = ("service", "method", "kind", "idempotency", "http", "says", "versions")
    rows = [
        (_name(one.namespace, one.service), *_row(method))
        for one in found
        for method in one.methods
        if not method.service.startswith(PLUMBING)
    ]
    table(columns, rows, empty="No method is known.")
    if lines := [line for one in found for line in _sources(one, datetime.now(UTC))]:
        print("", *lines, sep="\n")


@schema.command()
def push(
    service: ServiceArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="FileDescriptorSet of protoc or buf, or - .")],
    version: VersionOption = "",
    allow_unresolved: Annotated[
        bool, typer.Option("--allow-unresolved", help="Accept a service or version that comes later.")
    ] = False,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Tell the methods of a service that does not tell them itself.

    What was pushed comes before what the service tells. `protoc --include_imports --descriptor_set_out=FILE` makes it.
    """
    content = _content(file)
    with connected(state, server) as channel:
        stub = schema_pb2_grpc.SchemaServiceStub(channel)
        space, name = _named(stub, service, namespace)
        request = schema_pb2.PushSchemaRequest(
            namespace=space, service=name, version=version, descriptor_set=content, allow_unresolved=allow_unresolved
        )
        answer = stub.PushSchema(request, timeout=SECONDS)
    methods = count(answer.methods, "method")
    print(f"{_name(space, name, version)}: {methods} {'pushed' if answer.changed else 'unchanged'}")
    for problem in answer.problems:
        print(f"warning: {file}: {problem}", file=sys.stderr)


@schema.command()
def delete(
    service: ServiceArgument,
    version: VersionOption = "",
    namespace: NamespaceOption = None,
    state: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Forget what was pushed for a service, so that what it tells itself counts again."""
    with connected(state, server) as channel:
        stub = schema_pb2_grpc.SchemaServiceStub(channel)
        space, name = _named(stub, service, namespace)
        request = schema_pb2.DeletePushedSchemaRequest(namespace=space, service=name, version=version)
        stub.DeletePushedSchema(request, timeout=SECONDS)
    print(f"{_name(space, name, version)}: what was pushed is forgotten")


@schema.command()
def options_dir() -> None:
    """Print the folder in which protoc finds proa/v1/options.proto.

    protoc -I "$(proa schema options-dir)" -I . ...
    """
    print(Path(str(api.__file__)).parent)


def _listed(stub: Any, service: str | None, namespace: str | None) -> list[schema_pb2.ServiceSchema]:
    """All schemas, or those of the services of one name. Raises NotFoundError with the nearest one."""
    from mesh.config.nearest import not_found

    space, _, name = (service or "").rpartition("/")
    request = schema_pb2.ListSchemasRequest(namespace=space or namespace or "")
    every: list[schema_pb2.ServiceSchema] = list(stub.ListSchemas(request, timeout=SECONDS).schemas)
    found = [one for one in every if name in ("", one.service)]
    if name and not found:
        raise not_found(str(service), "service", name, (one.service for one in every), "Services")
    return found


def _named(stub: Any, service: str, namespace: str | None) -> tuple[str, str]:
    """Namespace and name, also of a service that is not there. Raises UsageError when several namespaces have it."""
    space, _, name = service.rpartition("/")
    if space := space or namespace or "":
        return space, name
    try:
        spaces = [one.namespace for one in _listed(stub, name, None)]
    except NotFoundError:
        return DEFAULT_NAMESPACE, name
    if len(spaces) > 1:
        raise UsageError(service, f"there is one in several namespaces: {', '.join(spaces)}", "Name one with -n")
    return spaces[0], name


def _content(file: str) -> bytes:
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as source:
            content = source.read(LARGEST_SET + 1)
    except OSError as error:
        raise UsageError(
            file, f"this file cannot be read: {(error.strerror or '').lower()}", "Name another file"
        ) from error
    if len(content) > LARGEST_SET:
        raise UsageError(file, f"it has more than {LARGEST_SET >> 20} MiB", "Leave out what is not needed")
    return content


def _row(method: schema_pb2.SchemaMethod) -> tuple[str, ...]:
    idempotency = schema_pb2.Idempotency.Name(method.idempotency).removeprefix("IDEMPOTENCY_").lower()
    said = [f"{option.name}={option.value}" for option in method.options]
    return (
        f"{method.service}/{method.name}",
        kind_of(method),
        "" if method.idempotency == schema_pb2.IDEMPOTENCY_UNKNOWN else idempotency,
        ", ".join(f"{binding.verb} {binding.path}" for binding in method.http),
        ", ".join([*(["deprecated"] if method.deprecated else []), *said]),
        ", ".join(method.versions),
    )


def kind_of(method: schema_pb2.SchemaMethod) -> str:
    """`unary`, or which side streams."""
    match method.client_streaming, method.server_streaming:
        case False, False:
            return "unary"
        case True, False:
            return "client stream"
        case False, True:
            return "server stream"
    return "bidi stream"


def _sources(found: schema_pb2.ServiceSchema, at: datetime) -> Iterator[str]:
    """A line for each version: where its methods are known from, and since when."""
    for one in found.versions if found.grpc else ():
        known = f"for {ago(one.since.ToDatetime(UTC), at)}" if one.digest else ""
        overridden = "does not count, because something was pushed" if one.overridden else ""
        said = [_from(one), known, overridden, *one.problems, *one.differences]
        yield f"{_name(found.namespace, found.service, one.version)}: {', '.join(filter(None, said))}"


def _from(one: schema_pb2.VersionSchema) -> str:
    if not one.digest:
        return f"{one.workload} tells nothing"
    match one.source:
        case schema_pb2.SCHEMA_SOURCE_PUSH:
            return "pushed"
        case schema_pb2.SCHEMA_SOURCE_FILE:
            return f"descriptorSet of {one.workload}"
    return f"server reflection of {one.workload}"


def _name(namespace: str, service: str, version: str = "") -> str:
    return f"{namespace}/{service} {version}".rstrip()


def without_schema(schemas: Iterable[schema_pb2.ServiceSchema]) -> Iterator[tuple[schema_pb2.ServiceSchema, str]]:
    """The gRPC services whose methods are not all known, and why, for people."""
    for one in schemas:
        if one.grpc and not one.complete:
            said = [problem for version in one.versions if not version.overridden for problem in version.problems]
            yield one, "; ".join(dict.fromkeys(said)) or "it has not told its methods yet"
