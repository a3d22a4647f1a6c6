"""`proa explain`: why the mesh does what it does."""

from typing import Annotated

import typer

from mesh.api.proa.v1 import documents_pb2, documents_pb2_grpc
from mesh.cli.connection import SECONDS, connected
from mesh.cli.options import Format, NamespaceOption, OutputOption, ServerOption, StateOption
from mesh.cli.output import as_json, table, write
from mesh.errors import UsageError

explain = typer.Typer()


@explain.command()
def policy(
    method: Annotated[
        str, typer.Argument(metavar="SERVICE/METHOD", help="package.Service/Method, or a service of the mesh/Method.")
    ],
    namespace: NamespaceOption = None,
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show how long calls of a method may take, when they are tried again, and who decided it."""
    service, _, name = method.strip("/").partition("/")
    if not name:
        raise UsageError(method, "this is no method", "Write package.Service/Method")
    request = documents_pb2.ExplainPolicyRequest(service=service, method=name, namespace=namespace or "")
    with connected(state, server) as channel:
        answer = documents_pb2_grpc.DocumentServiceStub(channel).ExplainPolicy(request, timeout=SECONDS)
    if output is not Format.TABLE:
        write(as_json(answer), output)
        return
    for number, one in enumerate(answer.methods):
        print("\n" * bool(number) + _headline(one))
        table(("field", "value", "decided by"), [(v.field, v.value, v.place) for v in one.values], empty="")
        if one.remark:
            print(f"note: {one.remark}")


def _headline(one: documents_pb2.ExplainedMethod) -> str:
    kind = "its schema is not known" if one.kind == "unknown" else f"{one.kind}, {one.idempotency}"
    return f"{one.path[1:]} of {one.namespace}/{one.service}:{one.port} ({kind})"
