"""The processes of one mesh: the control plane, and one agent per instance, as the registry wants them."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from mesh.agent.backoff import restarts
from mesh.agent.logfile import keep_short, last_lines
from mesh.agent.ports import LOOPBACK, PortBook
from mesh.agent.private import write_private
from mesh.api.proa.v1 import documents_pb2
from mesh.api.proa.v1.status_pb2 import Instance
from mesh.errors import ConfigError, StartError
from mesh.local import journal
from mesh.local.child import Child, Lifeline
from mesh.local.fleet import Agent, Fleet
from mesh.local.meshfile import mesh_json
from mesh.local.race import race
from mesh.local.ready import is_settled
from mesh.local.registry_client import RegistryClient
from mesh.local.rollout import Wanted, next_steps
from mesh.local.state import State

Files = tuple[documents_pb2.SourceFile, ...]

CONTROL_PLANE_OWNER: Final = "control-plane"
"""Of its ports in the port book."""

CONTROL_PLANE_ENDS_WITHIN: Final = timedelta(seconds=1.5)
"""It holds nothing that is not in its database."""

TRIES: Final = 2
"""A control plane that ends so often before the mesh is ready will not run the next time either."""

UNWRITTEN: Final = timedelta(seconds=1)
"""Until a file is tried again that could not be written."""

QUIET: Final = timedelta(seconds=5)
"""A start that takes longer says what it waits for."""


@dataclass(frozen=True, slots=True)
class Reach:
    """`listen` is where other machines find the control plane, "" for nowhere; `host` where they find the workloads."""

    listen: str
    host: str


THIS_MACHINE: Final = Reach("", LOOPBACK)


class Audience(journal.Audience, Protocol):
    def ready(self, mesh: Mapping[str, Any], workloads: int, left_out: int) -> None:
        """All that is wanted runs. `mesh` is the content of `mesh.json`; `left_out` documents could not be used."""


class Supervisor:
    """`serve` until it is cancelled or fails, then `stop` or `kill`. Its processes run as `tasks`.

    `ca` is a folder with somebody else's authority; its certificates are signed with that.
    """

    def __init__(
        self, state: State, tasks: asyncio.TaskGroup, audience: Audience, reach: Reach, ca: Path | None = None
    ) -> None:
        self._state = state
        self._tasks = tasks
        self._audience = audience
        self._journal = journal.Journal(audience)
        self._changed = asyncio.Event()
        self._address = f"unix:{state.api_socket}"
        ports = PortBook(state.ports).allocate(CONTROL_PLANE_OWNER, ["xds", "metrics"])
        self._xds, self._metrics = (f"{LOOPBACK}:{ports[name]}" for name in ("xds", "metrics"))
        self._registry = RegistryClient(self._address)
        lifeline = Lifeline()
        self._control_plane = Child(
            "mesh.controlplane",
            [
                *("--state", str(state.folder), "--api", self._address, "--xds", self._xds, "--metrics", self._metrics),
                *(("--listen", reach.listen) if reach.listen else ()),
                *(("--ca", str(ca)) if ca else ()),
            ],
            lifeline=lifeline,
            log=state.control_plane_log,
            changed=self._changed.set,
            backoff=restarts(at_once=True),
        )
        self._fleet = Fleet(state, lifeline, tasks, self._changed.set, reach.host)
        self._wanted: tuple[Wanted, ...] | None = None
        self._left_out = 0
        self._has_files = False
        self._quiet = True
        self._ready = asyncio.Event()
        self._written: Mapping[str, Any] = {}

    async def serve(self, files: Files, timeout: timedelta) -> NoReturn:
        """Brings up what is wanted, and keeps it so.

        Raises ConfigError when no document can be used, StartError when not all is ready within `timeout`.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_start(timeout))
            tasks.create_task(keep_short(self._state.control_plane_log))
            await self._start_control_plane()
            await self._replace_files(files)
            tasks.create_task(self._registry.follow_workloads(self._on_workloads))
            tasks.create_task(self._registry.follow_instances(self._on_instances))
            while True:
                await self._changed.wait()
                self._changed.clear()
                self._take_steps()
                self._tell()

    async def stop(self) -> None:
        """Ends everything in order: calls that run end first, and callers before those whom they call."""
        await self._fleet.stop_all()
        self._control_plane.stop()
        await race(self._control_plane.ended(), asyncio.sleep(CONTROL_PLANE_ENDS_WITHIN.total_seconds()))
        self._control_plane.kill()
        await self._registry.close()

    async def kill(self) -> None:
        """Ends everything at once; calls that run fail."""
        self._control_plane.kill()
        await self._fleet.kill()
        await self._control_plane.ended()
        await self._registry.close()

    async def _start_control_plane(self) -> None:
        write_private(self._state.address, f"{self._address}\n")
        self._tasks.create_task(self._control_plane.run())
        await self._registry.serving()

    async def _replace_files(self, files: Files) -> None:
        response = await self._registry.replace_files(files)
        for problem in response.problems:
            left_out = "" if problem.warning else " (left out)"
            self._audience.warn(f"{problem.where}: {problem.problem}{left_out}. {problem.remedy}")
        kept = [change for change in response.changes if change.action != documents_pb2.CHANGE_ACTION_DELETED]
        for change in kept:
            if change.shadows_file:
                key = f"{change.key.kind}/{change.key.namespace}/{change.key.name}"
                self._audience.note(f"{key}: the applied document counts, not the one in the file")
        self._left_out = response.left_out
        self._has_files = bool(kept)

    def _on_workloads(self, wanted: tuple[Wanted, ...]) -> None:
        first = self._wanted is None
        if first and not wanted and (self._left_out or not self._has_files):
            raise ConfigError("proa up", "there is no document that can be used", "Correct them, or name another file")
        self._wanted = wanted
        self._changed.set()

    def _on_instances(self, instances: tuple[Instance, ...]) -> None:
        self._fleet.heard(instances)
        self._changed.set()

    def _take_steps(self) -> None:
        if self._wanted is None:
            return
        by_name = {wanted.workload: wanted for wanted in self._wanted}
        steps = next_steps(self._wanted, self._fleet.running)
        for id_ in steps.start:
            self._fleet.start(id_, by_name[id_.namespace, id_.workload])
        for id_ in steps.stop:
            self._fleet.stop(id_)

    def _tell(self) -> None:
        """People, and `mesh.json`."""
        self._journal.child("the control plane", self._control_plane)
        self._journal.instances(self._fleet, quiet=self._quiet)
        if self._ready.is_set():
            self._write_mesh_file()
        elif self._wanted is not None and is_settled(self._wanted, self._fleet.running):
            self._ready.set()
            self._quiet = False
            self._audience.ready(self._write_mesh_file(), len(self._wanted), self._left_out)

    def _write_mesh_file(self) -> Mapping[str, Any]:
        """What should be in it. A mesh does not end because its disk is full: that is told, and tried again."""
        mesh = mesh_json(
            address=self._address,
            xds=self._xds,
            metrics=self._metrics,
            control_plane_pid=self._control_plane.pid,
            instances=[(agent.instance, agent.child.pid) for agent in self._fleet if agent.instance],
        )
        if mesh != self._written:
            try:
                write_private(self._state.mesh_file, json.dumps(mesh, indent=2) + "\n")
                self._written = mesh
            except OSError as error:
                self._journal.unwritten(self._state.mesh_file, error)
                asyncio.get_running_loop().call_later(UNWRITTEN.total_seconds(), self._changed.set)
        return mesh

    async def _watch_start(self, timeout: timedelta) -> None:
        asyncio.get_running_loop().call_later(QUIET.total_seconds(), self._speak)
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await race(self._ready.wait(), self._control_plane.failed(TRIES))
        except TimeoutError:
            raise self._not_ready(timeout) from None
        if not self._ready.is_set():
            how = self._control_plane.how_it_ended
            raise StartError("control plane", f"it {how}", f"Its output is in {self._control_plane.log}")

    def _speak(self) -> None:
        self._quiet = False
        self._changed.set()

    def _not_ready(self, timeout: timedelta) -> StartError:
        """Tells who is not ready and why, with the last lines of their output."""
        within = f"within {timeout.total_seconds():g} s"
        if self._wanted is None:
            remedy = f"Its output is in {self._control_plane.log}"
            return StartError("control plane", f"it does not answer {within}", remedy)
        late = [agent for agent in self._fleet if agent.why_not_ready]
        for agent in late:
            self._audience.warn("\n".join(self._case_of(agent)))
        what = f"{len(late)} of {len(list(self._fleet))} instances are not ready {within}"
        return StartError("proa up", what, "Mend what is named above, or give them longer with --timeout")

    def _case_of(self, agent: Agent) -> Iterator[str]:
        yield f"{agent.wanted.where}: {agent.name} is not ready: {agent.why_not_ready}"
        output = last_lines(self._state.log(agent.id.namespace, agent.id.instance), since=agent.logged)
        for line in output or last_lines(agent.child.log):
            yield f"    {line}"
