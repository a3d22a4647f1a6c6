"""`proa scale` and `proa restart`: how many instances run, and new ones in place of the old."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from mesh.api.proa.v1 import status_pb2, status_pb2_grpc, workloads_pb2, workloads_pb2_grpc
from mesh.cli.connection import SECONDS, connected
from mesh.cli.options import (
    Format,
    NamespaceOption,
    OutputOption,
    ServerOption,
    StateOption,
    TimeoutOption,
    duration_of,
)
from mesh.cli.output import as_json, count, write
from mesh.errors import StartError, UsageError
from mesh.local.ready import why_not_ready

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Workload, or NAMESPACE/WORKLOAD.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is done.")]


def scale(
    name: NameArgument,
    replicas: Annotated[int, typer.Argument(metavar="N", min=0, help="How many instances.")],
    namespace: NamespaceOption = None,
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = "60s",
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Run N instances of a workload.

    So many, until its document changes or `proa up` starts anew.
    """

    def ask(stub: Any, namespace: str, name: str) -> workloads_pb2.DesiredWorkload:
        request = workloads_pb2.ScaleWorkloadRequest(namespace=namespace, name=name, replicas=replicas)
        wanted: workloads_pb2.DesiredWorkload = stub.ScaleWorkload(request, timeout=SECONDS).workload
        return wanted

    _operate(ask, name, namespace, None if no_wait else timeout, (state, server), output)


def restart(
    name: NameArgument,
    namespace: NamespaceOption = None,
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = "120s",
    state: StateOption = None,
    server: ServerOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Replace the instances of a workload.

    One after the other: each new one is ready before an old one leaves.
    """

    def ask(stub: Any, namespace: str, name: str) -> workloads_pb2.DesiredWorkload:
        request = workloads_pb2.RestartWorkloadRequest(namespace=namespace, name=name)
        wanted: workloads_pb2.DesiredWorkload = stub.RestartWorkload(request, timeout=SECONDS).workload
        return wanted

    _operate(ask, name, namespace, None if no_wait else timeout, (state, server), output)


def _operate(
    ask: Callable[[Any, str, str], workloads_pb2.DesiredWorkload],
    name: str,
    namespace: str | None,
    timeout: str | None,
    mesh: tuple[Path | None, str | None],
    output: Format,
) -> None:
    """Asks, waits at most `timeout` until exactly what is wanted runs, and says so."""
    patience = duration_of(timeout).total_seconds() if timeout else None
    with connected(*mesh) as channel:
        stub = workloads_pb2_grpc.WorkloadServiceStub(channel)
        named = _named(stub, name, namespace)
        wanted = ask(stub, named.namespace, named.name)
        if patience is not None:
            _wait(channel, wanted, patience)
    if output is Format.TABLE:
        instances = count(wanted.replicas, "instance")
        print(f"{wanted.namespace}/{wanted.name}: {instances} {'wanted' if patience is None else 'ready'}")
    else:
        write(as_json(wanted), output)


def _named(stub: Any, name: str, namespace: str | None) -> workloads_pb2.DesiredWorkload:
    """The one workload of that name. Raises NotFoundError, or UsageError when several namespaces have one."""
    from mesh.config.nearest import not_found

    space, _, short = name.rpartition("/")
    space = space or namespace or ""
    call = stub.WatchWorkloads(workloads_pb2.WatchWorkloadsRequest(), timeout=SECONDS)
    workloads: Iterable[workloads_pb2.DesiredWorkload] = next(call).workloads
    call.cancel()
    found = [one for one in workloads if one.name == short and space in ("", one.namespace)]
    if not found:
        raise not_found(name, "workload", short, (one.name for one in workloads), "Workloads")
    if len(found) > 1:
        spaces = ", ".join(one.namespace for one in found)
        raise UsageError(name, f"there is one in several namespaces: {spaces}", "Name one with -n")
    return found[0]


def _wait(channel: grpc.Channel, wanted: workloads_pb2.DesiredWorkload, patience: float) -> None:
    """Returns when the instances are the wanted ones and all are ready. Raises StartError when that takes too long."""
    stub = status_pb2_grpc.StatusServiceStub(channel)
    waits_for: list[str] = []
    try:
        for response in stub.WatchInstances(status_pb2.WatchInstancesRequest(), timeout=patience):
            before, waits_for = waits_for, _missing(wanted, response.instances)
            if not waits_for:
                return
            if waits_for != before:
                print(*waits_for, sep="; ", file=sys.stderr, flush=True)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
    where = f"{wanted.namespace}/{wanted.name}"
    problem = f"it is not done after {patience:g} s: {'; '.join(waits_for) or 'nothing was heard'}"
    raise StartError(where, problem, f"Look at `proa logs {wanted.name}`, or wait longer with --timeout")


def _missing(wanted: workloads_pb2.DesiredWorkload, instances: Iterable[status_pb2.Instance]) -> list[str]:
    """What is not as it is wanted, for people; empty when all is."""
    mine = [one for one in instances if (one.namespace, one.workload) == (wanted.namespace, wanted.name)]
    new = [one for one in mine if one.generation == wanted.generation and not one.draining]
    old = [f"{one.instance} is to leave" for one in mine if one not in new]
    late = [(one.instance, why_not_ready(one, one.report.agent_pid)) for one in new]
    count = [f"{len(new)} of {wanted.replicas} instances are there"] if len(new) != wanted.replicas else []
    return [*count, *old, *(f"{instance}: {why}" for instance, why in late if why)]
