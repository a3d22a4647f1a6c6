"""`python -m mesh.agent`: the process beside one instance."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from mesh.agent.addresses import Addresses, addresses_for, port_names
from mesh.agent.certificate import Certificate, Validity
from mesh.agent.departure import Departure
from mesh.agent.envoy import find
from mesh.agent.folders import Folders
from mesh.agent.instance import Instance
from mesh.agent.log import log
from mesh.agent.new_key import made_apart
from mesh.agent.plan import Plan, plan_from
from mesh.agent.ports import PortBook
from mesh.agent.server import answered, connect
from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc
from mesh.errors import MeshError, StateError
from mesh.model.names import InstanceId

DEPARTURES: Final = {
    signal.SIGTERM: Departure.LEAVES,
    signal.SIGINT: Departure.LEAVES,
    signal.SIGUSR1: Departure.MESH_ENDS,
}

KILLED: Final = 130
"""Exit code after a second signal, and after the process that started this one has gone."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Options:
    """`lifeline` is a pipe that ends when the process does that started this one."""

    server: str
    folders: Folders
    lifeline: int | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one instance until a signal ends it; the exit code."""
    options = _parse(arguments)
    try:
        asyncio.run(_run(options))
    except asyncio.CancelledError:
        return KILLED
    except (MeshError, OSError, ExceptionGroup) as error:
        cause = _cause(error)
        print(f"error: {cause}", file=sys.stderr)
        return cause.exit_code
    return 0


async def _run(options: Options) -> None:
    departure = _departure_on_signals()
    _end_with(options.lifeline)
    folders = options.folders
    envoy = find()
    folders.make()
    folders.claim()
    log("agent_started", instance=folders.id.node_id, server=options.server, envoy=envoy.version)
    async with connect(options.server) as channel:
        stub: agents_pb2_grpc.AgentServiceAsyncStub = agents_pb2_grpc.AgentServiceStub(channel)
        certificate = Certificate(stub, folders.id, folders.secrets, made_apart)
        prepared = await _unless(departure, _prepare(stub, folders, certificate))
        if prepared:
            plan, addresses, validity = prepared
            await Instance(stub, plan, addresses, envoy, folders).run(certificate, validity, departure)
    log("ended")


async def _prepare(
    stub: "agents_pb2_grpc.AgentServiceAsyncStub", folders: Folders, certificate: Certificate
) -> tuple[Plan, Addresses, Validity]:
    """What an instance needs before anything of it runs. The two questions are asked side by side."""
    who = folders.id
    request = agents_pb2.GetLaunchPlanRequest(namespace=who.namespace, workload=who.workload)
    async with asyncio.TaskGroup() as tasks:
        validity = tasks.create_task(answered(who.node_id, certificate.obtain))
        answer = await answered(who.node_id, lambda: stub.GetLaunchPlan(request, timeout=5, wait_for_ready=True))
        plan = plan_from(answer.plan)
        addresses = await asyncio.to_thread(_allocate, folders, plan)
    return plan, addresses, validity.result()


def _allocate(folders: Folders, plan: Plan) -> Addresses:
    book = PortBook(folders.ports)
    before = book.ports_of(folders.id.node_id)
    given = book.allocate(folders.id.node_id, port_names(plan))
    for name, port in given.items():
        if before.get(name, port) != port:
            log("port_changed", name=name, was=before[name], now=port, why="another program listens there")
    return addresses_for(plan, given, str(folders.admin))


def _departure_on_signals() -> asyncio.Future[Departure]:
    """Comes with the first signal. The second one cancels the calling task."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    departure: asyncio.Future[Departure] = loop.create_future()

    def take(number: signal.Signals) -> None:
        if not departure.done():
            departure.set_result(DEPARTURES[number])
        elif task:
            task.cancel()

    for number in DEPARTURES:
        loop.add_signal_handler(number, take, number)
    return departure


def _end_with(lifeline: int | None) -> None:
    """Cancels the calling task when the other end of the pipe is closed. Nobody ever writes into it."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if lifeline is None or task is None:
        return

    def closed() -> None:
        loop.remove_reader(lifeline)
        log("parent_gone")
        task.cancel()

    loop.add_reader(lifeline, closed)


async def _unless(departure: asyncio.Future[Departure], work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of `work`; None when the departure comes first, and then `work` is cancelled."""
    task = asyncio.ensure_future(work)
    either: set[asyncio.Future[Any]] = {task, departure}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _cause(error: Exception) -> MeshError:
    """The first problem that is for people. What is none of ours is raised again, with its traceback: it is a bug."""
    match error:
        case ExceptionGroup(exceptions=[first, *_]):
            return _cause(first)
        case OSError():
            remedy = "Look whether the state folder may be written and its disk has room"
            return StateError(str(error.filename or "state"), str(error.strerror or error), remedy)
        case MeshError():
            return error
    raise error


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m mesh.agent", description=__doc__)
    parser.add_argument("--server", required=True, help="the control plane: unix:/path or host:port")
    parser.add_argument("--state", required=True, type=Path, help="the mesh's folder")
    parser.add_argument("--run", required=True, type=Path, help="a short folder for sockets")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--instance", required=True, help="for example orders-0")
    parser.add_argument("--lifeline", type=int, metavar="FD", help="a pipe; its end is the end of this process")
    given = parser.parse_args(arguments)
    who = InstanceId(given.namespace, given.workload, given.instance)
    return Options(given.server, Folders(given.state.resolve(), given.run.resolve(), who), given.lifeline)
