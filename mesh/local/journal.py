"""What a person at `proa up` is told while it runs: a line for each thing that changed."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from mesh.local.child import Child
from mesh.local.fleet import Agent
from mesh.local.ready import why_not_healthy
from mesh.model.names import InstanceId

REPEATED: Final = 2


class Audience(Protocol):
    """Who is told. Warnings are about something to mend."""

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...


class Journal:
    """Tells each change once."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._states: dict[InstanceId, str] = {}
        self._ends: dict[str, int] = {}
        self._last_words: dict[str, str] = {}
        self._same: dict[str, int] = {}
        self._unwritten: set[tuple[Path, str]] = set()
        self._exposed: set[tuple[str, str, tuple[str, ...]]] = set()

    def child(self, name: str, child: Child) -> None:
        """That a process ended without being asked; one that ends of the same again and again is told of twice."""
        if child.ends > self._ends.get(name, 0):
            times = self._same[name] = self._same.get(name, 0) + 1 if self._is_same(name, child) else 1
            if times == 1:
                self._audience.warn(f"{name} {child.how_it_ended}; it is started again")
            elif times == REPEATED:
                self._audience.warn(f"{name} ends of the same again and again. It is tried until that is mended")
            self._last_words[name] = child.last_words
        self._ends[name] = child.ends

    def _is_same(self, name: str, child: Child) -> bool:
        return bool(child.last_words) and child.last_words == self._last_words.get(name)

    def unwritten(self, file: Path, error: OSError) -> None:
        """That a file is older than what it tells of; once for each reason."""
        reason = os.strerror(error.errno or 0).lower()
        if (file, reason) not in self._unwritten:
            self._unwritten.add((file, reason))
            self._audience.warn(
                f"{file}: it cannot be written: {reason}. See to its folder and its disk; it is tried again"
            )

    def instances(self, agents: Iterable[Agent], *, quiet: bool) -> None:
        """Who is healthy and who is not. While a mesh starts, `quiet` leaves out what is only to be expected."""
        agents = tuple(agents)
        for agent in agents:
            self.child(f"the agent of {agent.name}", agent.child)
            if agent.current:
                self._warn_exposed(agent)
                self._look_at(agent, quiet)
        for gone in sorted(self._states.keys() - {agent.id for agent in agents}):
            del self._states[gone]
            self._audience.note(f"{gone.namespace}/{gone.instance}: it has ended")

    def _look_at(self, agent: Agent, quiet: bool) -> None:
        # Not whether it is in sync: configuration is on its way at every change, and there in an instant.
        why = why_not_healthy(agent.current, agent.child.pid)
        if quiet and why:
            return
        if not quiet and why != self._states.get(agent.id):
            self._audience.note(f"{agent.name}: {why or 'it is healthy'}")
        self._states[agent.id] = why

    def _warn_exposed(self, agent: Agent) -> None:
        exposed = tuple(agent.current.report.exposed) if agent.current else ()
        key = (agent.id.namespace, agent.id.workload, exposed)
        if exposed and key not in self._exposed:
            self._exposed.add(key)
            self._audience.warn(
                f"{agent.wanted.where}: {agent.id.namespace}/{agent.id.workload} listens on {', '.join(exposed)}: "
                "others on the network can reach it without the mesh. Let it listen on the address in $HOST (127.0.0.1)"
            )
