"""`python -m mesh.agent`: the process beside one instance."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from mesh.agent.addresses import Addresses, addresses_for, port_names
from mesh.agent.certificate import Certificate, Held
from mesh.agent.envoy import find
from mesh.agent.folders import Folders
from mesh.agent.instance import Instance
from mesh.agent.log import log
from mesh.agent.new_key import made_apart
from mesh.agent.plan import Plan, plan_from
from mesh.agent.ports import LOOPBACK, PortBook, is_free
from mesh.agent.problems import for_people
from mesh.agent.program import departure_on_signals, leave_no_core_file, unless
from mesh.agent.sds import read_secrets, write_secrets
from mesh.agent.server import answered
from mesh.agent.way import Way, way_to
from mesh.api.proa.v1 import agents_pb2
from mesh.errors import MeshError
from mesh.model.names import InstanceId

REMEDY: Final = "Look whether the workload is still there: proa get workloads -A"
"""When the control plane does not want the instance."""

KILLED: Final = 130
"""Exit code after a second signal, and after the process that started this one has gone."""


@dataclass(frozen=True, slots=True)
class Options:
    """`lifeline` is a pipe that ends when the process does that started this one.

    `host` is the address at which callers reach the instance. With `command`, which may be empty, that is what runs
    here, in the present folder, and not what the document says: it was written for another machine.
    """

    server: str
    folders: Folders
    lifeline: int | None = None
    host: str = LOOPBACK
    token: Path | None = None
    command: tuple[str, ...] | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one instance until a signal ends it; the exit code."""
    return run(_parse(arguments))


def run(options: Options) -> int:
    """Runs one instance until a signal ends it; the exit code."""
    leave_no_core_file()
    try:
        with for_people():
            asyncio.run(_run(options))
    except asyncio.CancelledError:
        return KILLED
    except MeshError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


async def _run(options: Options) -> None:
    departure = departure_on_signals()
    _end_with(options.lifeline)
    folders = options.folders
    envoy = find()
    folders.make()
    folders.claim()
    log("agent_started", instance=folders.id.node_id, server=options.server, envoy=envoy.version)
    who = agents_pb2.SignCertificateRequest(namespace=folders.id.namespace, workload=folders.id.workload)
    before = read_secrets(folders.secrets)
    async with way_to(options.server, who, options.token, before) as way:
        certificate = Certificate(way, who, partial(write_secrets, folders.secrets), made_apart, before)
        prepared = await unless(departure, _prepare(way, options, certificate))
        if prepared:
            plan, addresses, held = prepared
            await Instance(way, plan, addresses, envoy, folders, certificate).run(held, departure)
    log("ended")


async def _prepare(way: Way, options: Options, certificate: Certificate) -> tuple[Plan, Addresses, Held]:
    """What an instance needs before anything of it runs. The two questions are asked side by side, where that works."""
    who = options.folders.id
    request = agents_pb2.GetLaunchPlanRequest(namespace=who.namespace, workload=who.workload)
    async with asyncio.TaskGroup() as tasks:
        held = tasks.create_task(answered(who.node_id, certificate.obtain, REMEDY))
        await way.opened.wait()
        plan_of = partial(way.agents.GetLaunchPlan, request, timeout=5, wait_for_ready=True)
        answer = await answered(who.node_id, plan_of, REMEDY)
        plan = plan_from(answer.plan)
        if options.command is not None:
            plan = replace(plan, command=options.command, working_directory=Path.cwd(), descriptor_set="")
        addresses = await asyncio.to_thread(_allocate, options.folders, plan, options.host)
    return plan, addresses, held.result()


def _allocate(folders: Folders, plan: Plan, host: str) -> Addresses:
    book = PortBook(folders.ports, free=lambda port: is_free(port) and is_free(port, host))
    before = book.ports_of(folders.id.node_id)
    given = book.allocate(folders.id.node_id, port_names(plan))
    for name, port in given.items():
        if before.get(name, port) != port:
            log("port_changed", name=name, was=before[name], now=port, why="another program listens there")
    return addresses_for(plan, given, str(folders.admin), host)


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


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m mesh.agent", description=__doc__)
    parser.add_argument("--server", required=True, help="the control plane: unix:/path or host:port")
    parser.add_argument("--state", required=True, type=Path, help="the mesh's folder")
    parser.add_argument("--run", required=True, type=Path, help="a short folder for sockets")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--instance", required=True, help="for example orders-0")
    parser.add_argument("--address", default=LOOPBACK, metavar="IP", help="where callers reach the instance")
    parser.add_argument("--lifeline", type=int, metavar="FD", help="a pipe; its end is the end of this process")
    given = parser.parse_args(arguments)
    who = InstanceId(given.namespace, given.workload, given.instance)
    folders = Folders(given.state.resolve(), given.run.resolve(), who)
    return Options(given.server, folders, given.lifeline, given.address)
