"""`proa apply`, `get`, `describe` and `delete`: the documents of the mesh."""

import json
import sys
import time
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final

import grpc
import typer

from mesh.api.proa.v1 import documents_pb2, documents_pb2_grpc
from mesh.cli.connection import SECONDS, connected
from mesh.cli.options import (
    AllNamespacesOption,
    FilesOption,
    Format,
    NamespaceOption,
    OutputOption,
    ServerOption,
    StateOption,
    TimeoutOption,
    duration_of,
)
from mesh.cli.output import as_json, as_yaml, report, table, write
from mesh.cli.sources import source_files
from mesh.errors import ConfigError, MeshError, NotFoundError, UsageError
from mesh.model.names import DEFAULT_NAMESPACE

KindArgument = Annotated[str, typer.Argument(metavar="KIND", help="Kind, in any case, singular or plural.")]
NameArgument = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name.")]

POLL: Final = 0.1
"""Seconds between two looks at what proxies have acknowledged."""

FINAL: Final = ("Refused", "Invalid")
"""Reasons for which no proxy changes its mind."""


def apply(
    files: FilesOption,
    allow_unresolved: Annotated[
        bool, typer.Option("--allow-unresolved", help="Accept names of services, ports and methods that are not there.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until every proxy that they concern has acknowledged them.")
    ] = False,
    timeout: TimeoutOption = "60s",
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Add or replace documents, all or none."""
    patience = duration_of(timeout).total_seconds() if wait else 0.0
    request = documents_pb2.ApplyDocumentsRequest(files=source_files(files), allow_unresolved=allow_unresolved)
    with connected(state, server) as channel:
        stub = documents_pb2_grpc.DocumentServiceStub(channel)
        response = stub.ApplyDocuments(request, timeout=SECONDS)
        report(problem for problem in response.problems if not problem.warning)
        report((problem for problem in response.problems if problem.warning), "warning")
        if output is Format.TABLE and response.applied:
            print(*map(_change, response.changes), sep="\n", flush=True)
        if wait and response.applied:
            _wait(stub, {_key(change.key) for change in response.changes}, patience)
    if output is not Format.TABLE:
        write(_answer(response), output)
    if not response.applied:
        raise typer.Exit(2)


def get(
    kind: KindArgument,
    name: NameArgument = None,
    namespace: NamespaceOption = None,
    all_namespaces: AllNamespacesOption = False,
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show documents in force."""
    with connected(state, server) as channel:
        found = _listed(channel, kind, name, _scope(namespace, all_namespaces))
    if output is Format.TABLE:
        columns = ("kind", "namespace", "name", "from", "accepted", "where")
        table(columns, map(_row, found), empty=f"There is no {kind}.")
    elif name is not None and len(found) == 1:
        write(_whole(found[0]), output)
    else:
        write({"items": list(map(_whole, found))}, output)


def describe(
    kind: KindArgument,
    name: NameArgument = None,
    namespace: NamespaceOption = None,
    all_namespaces: AllNamespacesOption = False,
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show documents in full, with their conditions."""
    with connected(state, server) as channel:
        found = _listed(channel, kind, name, _scope(namespace, all_namespaces))
    if output is not Format.TABLE:
        write({"items": list(map(_whole, found))}, output)
    elif found:
        print(*map(_description, found), sep="\n\n")
    else:
        print(f"There is no {kind}.", file=sys.stderr)


def delete(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="Kind, in any case, singular or plural.")] = None,
    name: NameArgument = None,
    files: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="FILE|DIR|-", help="Delete what these files name; repeatable."),
    ] = None,
    namespace: NamespaceOption = None,
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Delete applied documents, all or none.

    Either `delete KIND NAME` or `delete -f FILE`.
    """
    if bool(files) == bool(kind) or bool(kind) != bool(name):
        remedy = "Write `proa delete KIND NAME` or `proa delete -f FILE`"
        raise UsageError("proa delete", "what is to be deleted is not clear", remedy)
    with connected(state, server) as channel:
        keys = _keys(files) if files else [_listed(channel, kind or "", name, namespace)[0].key]
        request = documents_pb2.DeleteDocumentsRequest(keys=keys)
        response = documents_pb2_grpc.DocumentServiceStub(channel).DeleteDocuments(request, timeout=SECONDS)
    if output is Format.TABLE:
        print(*map(_change, response.changes), sep="\n")
    else:
        write(_answer(response), output)


def _wait(stub: Any, applied: Collection[str], patience: float) -> None:
    """Returns when every connected proxy that these documents concern has acknowledged all it should have.

    Raises MeshError when one refuses what was made from them, and when that takes too long.
    """
    began, said = time.monotonic(), ""
    while late := _not_programmed(stub, applied):
        why = "; ".join(f"{key}: {condition.message}" for key, condition in late)
        if any(condition.reason in FINAL for _, condition in late):
            raise MeshError("proa apply", f"this is in force, but not everywhere: {why}", "Correct it and apply again")
        if time.monotonic() - began > patience:
            remedy = "Look at `proa proxy-status`, or wait longer with --timeout"
            raise MeshError("proa apply", f"not every proxy has it after {patience:g} s: {why}", remedy)
        if why != said:
            print(why, file=sys.stderr, flush=True)
            said = why
        time.sleep(POLL)
    print(f"every proxy concerned has it after {time.monotonic() - began:.1f} s", file=sys.stderr)


def _not_programmed(stub: Any, applied: Collection[str]) -> list[tuple[str, documents_pb2.Condition]]:
    """Which of these documents a proxy has not acknowledged, and who, in the words of the condition."""
    documents = stub.ListDocuments(documents_pb2.ListDocumentsRequest(), timeout=SECONDS).documents
    return [
        (key, condition)
        for document in documents
        if (key := _key(document.key)) in applied
        for condition in document.conditions
        if condition.type == "Programmed" and not condition.status
    ]


def _scope(namespace: str | None, everywhere: bool) -> str | None:
    if namespace and everywhere:
        raise UsageError("-A", "both one namespace and all of them are asked for", "Keep -n or -A")
    return namespace


def _listed(
    channel: grpc.Channel, kind: str, name: str | None, namespace: str | None
) -> Sequence[documents_pb2.Document]:
    """What is in force. A name means exactly one document: NotFoundError, or UsageError when several have it."""
    request = documents_pb2.ListDocumentsRequest(kind=kind, namespace=namespace or "", name=name or "")
    found = documents_pb2_grpc.DocumentServiceStub(channel).ListDocuments(request, timeout=SECONDS).documents
    if name is not None and not found:
        where = "/".join(filter(None, [kind, namespace, name]))
        raise NotFoundError(where, "there is no such document", f"Look at `proa get {kind}`")
    if name is not None and len(found) > 1:
        spaces = ", ".join(document.key.namespace for document in found)
        raise UsageError(f"{kind}/{name}", f"it is in several namespaces: {spaces}", "Name one with -n")
    return found


def _keys(files: list[str]) -> list[documents_pb2.DocumentKey]:
    """What the files name, whatever else they say."""
    from mesh.config.yaml_text import sources

    keys = []
    for file in source_files(files):
        for source in sources(file.text, file.path):
            if isinstance(source, ConfigError):
                raise source
            match source.value:
                case {"kind": str(kind), "metadata": {"name": str(name), **rest}}:
                    namespace = str(rest.get("namespace", DEFAULT_NAMESPACE))
                    keys.append(documents_pb2.DocumentKey(kind=kind, namespace=namespace, name=name))
                case _:
                    raise ConfigError(source.where(), "this document has no kind and name", "Write both, or remove it")
    if not keys:
        raise ConfigError(", ".join(files), "there is no document in it", "Name another file")
    return keys


def _answer(response: documents_pb2.ApplyDocumentsResponse | documents_pb2.DeleteDocumentsResponse) -> dict[str, Any]:
    plain = as_json(response)
    for shown, change in zip(plain["changes"], response.changes, strict=True):
        shown["action"] = _action(change)
    return plain


def _action(change: documents_pb2.DocumentChange) -> str:
    """`created`, `configured`, `unchanged` or `deleted`."""
    return documents_pb2.ChangeAction.Name(change.action).removeprefix("CHANGE_ACTION_").lower()


def _change(change: documents_pb2.DocumentChange) -> str:
    remark = ""
    if change.shadows_file:
        deleted = change.action == documents_pb2.CHANGE_ACTION_DELETED
        in_file = "the one in the file of `proa up`"
        remark = f"; {in_file} counts again" if deleted else f" (wins over {in_file})"
    return f"{_key(change.key)} {_action(change)}{remark}"


def _key(key: documents_pb2.DocumentKey) -> str:
    return f"{key.kind}/{key.namespace}/{key.name}"


def _row(document: documents_pb2.Document) -> tuple[str, ...]:
    key = document.key
    return key.kind, key.namespace, key.name, _set(document), _accepted(document), document.where


def _set(document: documents_pb2.Document) -> str:
    return documents_pb2.DocumentSet.Name(document.set).removeprefix("DOCUMENT_SET_").lower()


def _accepted(document: documents_pb2.Document) -> str:
    """Yes, or the reason of the first condition that does not hold."""
    return next((condition.reason for condition in document.conditions if not condition.status), "yes")


def _whole(document: documents_pb2.Document) -> dict[str, Any]:
    """The document as it was written, with what the mesh says about it under `status`, which `apply` does not read."""
    status = {
        "from": _set(document),
        "where": document.where,
        "shadowsFile": document.shadows_file,
        "conditions": list(map(_condition, document.conditions)),
        **({"parents": list(map(_parent, document.parents))} if document.parents else {}),
    }
    return {**json.loads(document.json), "status": status}


def _condition(condition: documents_pb2.Condition) -> dict[str, str]:
    status = str(condition.status)
    return {"type": condition.type, "status": status, "reason": condition.reason, "message": condition.message}


def _parent(parent: documents_pb2.ParentStatus) -> dict[str, Any]:
    """As Gateway API writes it."""
    part = {"port": parent.port, "sectionName": parent.section_name}
    ref = {"group": "", "kind": "Service", "namespace": parent.namespace, "name": parent.service}
    return {
        "parentRef": {**ref, **{key: value for key, value in part.items() if value}},
        "controllerName": "proa.mesh/controller",
        "conditions": list(map(_condition, parent.conditions)),
    }


def _description(document: documents_pb2.Document) -> str:
    key = document.key
    shadows = ", wins over the one in the file of `proa up`" if document.shadows_file else ""
    conditions = [
        f"  {c.type}: {'yes' if c.status else 'no'}, {c.reason}{': ' if c.message else ''}{c.message}"
        for c in document.conditions
    ]
    lines = [
        f"{key.kind} {key.namespace}/{key.name}",
        f"From: {_set(document)}, {document.where}{shadows}",
        *(["Conditions:", *conditions] if conditions else []),
        as_yaml(json.loads(document.json)).rstrip(),
    ]
    return "\n".join(lines)
