"""The agents that the supervisor has started, with what the control plane says about their instances."""

import asyncio
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mesh.agent.logfile import size
from mesh.api.proa.v1.status_pb2 import Instance
from mesh.local.child import Child, Lifeline
from mesh.local.process_tree import families, gone
from mesh.local.ready import is_current, why_not_healthy, why_not_ready
from mesh.local.rollout import Running, Wanted
from mesh.local.state import State
from mesh.model.names import InstanceId

SLACK: Final = timedelta(seconds=3)
"""On top of `drain` and `grace`, for Envoy and the agent itself to end."""

KILLED_WITHIN: Final = timedelta(seconds=2)


@dataclass(slots=True)
class Agent:
    """One agent, and through it one instance. `wanted` is the workload as it was when the agent was started."""

    id: InstanceId
    wanted: Wanted
    child: Child
    logged: int
    instance: Instance | None = None

    @property
    def name(self) -> str:
        return f"{self.id.namespace}/{self.id.instance}"

    @property
    def current(self) -> Instance | None:
        """What the agent that runs now has reported; None while it has not."""
        return self.instance if self.instance and is_current(self.instance, self.child.pid) else None

    @property
    def why_not_ready(self) -> str:
        if self.current is None and self.child.ends:
            return f"its agent {self.child.how_it_ended}"
        return why_not_ready(self.current, self.child.pid)

    @property
    def running(self) -> Running:
        generation = self.current.generation if self.current else self.wanted.generation
        return Running(
            self.id,
            generation,
            healthy=not why_not_healthy(self.current, self.child.pid),
            ready=not why_not_ready(self.current, self.child.pid),
            stopping=self.child.stopping,
        )

    @property
    def patience(self) -> timedelta:
        return self.wanted.drain + self.wanted.grace + SLACK


class Fleet:
    """`changed` is called whenever a process of the fleet starts or ends. Its tasks run in `tasks`.

    Callers reach the instances at `host`.
    """

    def __init__(
        self, state: State, lifeline: Lifeline, tasks: asyncio.TaskGroup, changed: Callable[[], None], host: str
    ) -> None:
        self._state = state
        self._lifeline = lifeline
        self._tasks = tasks
        self._changed = changed
        self._host = host
        self._agents: dict[InstanceId, Agent] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __iter__(self) -> Iterator[Agent]:
        """Sorted by namespace, workload and instance."""
        return iter([self._agents[id_] for id_ in sorted(self._agents)])

    @property
    def running(self) -> list[Running]:
        return [agent.running for agent in self]

    def start(self, id_: InstanceId, wanted: Wanted) -> None:
        log = self._state.log(id_.namespace, id_.instance)
        child = Child(
            "mesh.agent",
            self._arguments(id_),
            lifeline=self._lifeline,
            log=self._state.log(id_.namespace, id_.instance, "agent"),
            changed=self._changed,
        )
        agent = Agent(id_, wanted, child, logged=size(log))
        self._agents[id_] = agent
        self._empty.clear()
        self._tasks.create_task(self._run(agent))

    def stop(self, id_: InstanceId) -> None:
        """Lets the instance leave: no new calls, then those that run, then its processes."""
        agent = self._agents[id_]
        agent.child.stop(signal.SIGTERM)
        asyncio.get_running_loop().call_later(agent.patience.total_seconds(), agent.child.kill)

    async def stop_all(self) -> None:
        """Ends all instances side by side, and returns when the last one has ended. What takes too long is killed."""
        for agent in self:
            if not agent.child.stopping:
                agent.child.stop(signal.SIGUSR1)
        patience = max((agent.patience for agent in self), default=SLACK)
        try:
            async with asyncio.timeout(patience.total_seconds()):
                await self._empty.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Ends all instances at once, and returns when nothing of them runs."""
        members = families(agent.child.pid for agent in self if agent.child.pid)
        for agent in self:
            agent.child.kill()
        await self._empty.wait()
        await gone(members, within=KILLED_WITHIN)

    def heard(self, instances: Iterable[Instance]) -> None:
        """What the control plane knows now; of an instance that it has forgotten the last word stays."""
        known = {InstanceId(one.namespace, one.workload, one.instance): one for one in instances}
        for agent in self:
            if instance := known.get(agent.id):
                agent.instance = instance
            elif agent.instance:
                agent.instance.attached = False

    def _arguments(self, id_: InstanceId) -> Sequence[str]:
        return (
            "--server", f"unix:{self._state.api_socket}",
            "--state", str(self._state.folder),
            "--run", str(self._state.run),
            "--namespace", id_.namespace,
            "--workload", id_.workload,
            "--instance", id_.instance,
            "--address", self._host,
        )  # fmt: skip

    async def _run(self, agent: Agent) -> None:
        await agent.child.run()
        del self._agents[agent.id]
        if not self._agents:
            self._empty.set()
        self._changed()
