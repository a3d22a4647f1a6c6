"""The Envoy beside the service: started, watched until it listens, started again when it ends."""

import asyncio
import os
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from mesh.agent.addresses import Addresses, host_port
from mesh.agent.backoff import restarts
from mesh.agent.ending import describe
from mesh.agent.envoy import Admin, Envoy
from mesh.agent.folders import Folders
from mesh.agent.log import log
from mesh.agent.ports import holder, is_free
from mesh.agent.process import Process, start
from mesh.errors import StartError, UnreachableError

ARGUMENTS: Final = (
    *("-c", "bootstrap.json"),
    "--disable-hot-restart",  # it would take a base id that a second Envoy on this machine cannot have
    *("--concurrency", "1"),
    *("--log-level", "warning"),
    *("--file-flush-interval-msec", "1000"),  # what it refuses is in its log within a second; the default is ten
    "--skip-deprecated-logs",  # docs/decisions/0004: one field has no successor in the API that we can generate
    *("--drain-strategy", "immediate"),  # the gradual one spreads GOAWAY over ten minutes
)

POLL: Final = 0.05
SLOW_POLL: Final = 0.5
"""Seconds between two looks at an Envoy that does not listen yet: in its first SLOW seconds, and after them."""
SLOW: Final = 10.0

SETTLING: Final = 3.0
"""Seconds for all listeners to open, once Envoy has its first configuration."""

FILES: Final = 16_384
"""For Envoy: four for each connection that it takes of others."""

GRACE: Final = timedelta(seconds=2)
"""Envoy ends at SIGTERM without waiting for anybody."""


@dataclass(frozen=True, slots=True)
class SidecarState:
    """`reason` says why it is not ready; `pid` is 0 while it does not run."""

    pid: int = 0
    ready: bool = False
    version: str = ""
    restarts: int = 0
    reason: str = "its Envoy has not started yet"


class Sidecar:
    """One Envoy, run for ever. `changed` is called after each change of `state`."""

    def __init__(self, envoy: Envoy, folders: Folders, addresses: Addresses, changed: Callable[[], None]) -> None:
        self.state = SidecarState(version=envoy.version)
        self.admin = Admin(folders.admin)
        self._envoy = envoy
        self._folders = folders
        self._addresses = addresses
        self._changed = changed
        self._process: Process | None = None
        self._listened = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled; `stop` or `kill` then end Envoy.

        Raises StartError when another program took one of its ports: the instance then needs new ones.
        """
        backoff = restarts()
        while True:
            lived = await self._once()
            await asyncio.sleep(backoff.after(lived).total_seconds())
            self._set(restarts=self.state.restarts + 1)

    async def listens(self) -> None:
        """Returns once Envoy has listened on its addresses for the first time."""
        await self._listened.wait()

    async def stop(self) -> None:
        if self._process:
            await self._process.stop(GRACE)
        self._set(pid=0, ready=False)
        self._folders.admin.unlink(missing_ok=True)

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    async def _once(self) -> timedelta:
        """Runs Envoy until it ends; how long it lived."""
        started = time.monotonic()
        process = self._process = await start(
            [str(self._envoy.path), *ARGUMENTS],
            cwd=self._folders.instance,
            env=os.environ,
            log=self._folders.envoy_log,
            guard=False,
            files=FILES,
        )
        self._set(pid=process.pid)
        log("envoy_started", pid=process.pid, version=self._envoy.version)
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._until_it_listens())
            status = await process.wait()
            watch.cancel()
        self._process = None
        lived = timedelta(seconds=time.monotonic() - started)
        how = describe(status, lived, process.last_line)
        log("envoy_ended", pid=process.pid, how=how)
        listened = self.state.ready
        self._set(pid=0, ready=False, reason=f"its Envoy {how}. {self._look}")
        if not listened:
            self._check_stolen(self._ports)
        return lived

    async def _until_it_listens(self) -> None:
        started = time.monotonic()
        live: float | None = None
        while True:
            missing = await self._missing()
            now = time.monotonic()
            if missing is not None:
                live = live or now
                if self._is_enough(missing, waited=now - live):
                    break
            elif now - started > SETTLING:
                self._set(reason="its Envoy waits for its configuration")
            await asyncio.sleep(POLL if now - started < SLOW else SLOW_POLL)
        log("envoy_listens", after=f"{time.monotonic() - started:.2f}s", missing=sorted(missing))
        self._set(ready=True, reason="")
        self._listened.set()

    async def _missing(self) -> AbstractSet[int] | None:
        """Ports on which Envoy should listen and does not; None while it has no configuration."""
        try:
            if not await self.admin.is_live() or not await self.admin.workers_started():
                return None
            return self._ports - await self.admin.listeners()
        except UnreachableError:
            return None

    def _is_enough(self, missing: AbstractSet[int], *, waited: float) -> bool:
        """Whether Envoy can work. An upstream that has left the mesh since the start has no listener any more."""
        if not missing:
            return True
        if waited < SETTLING:
            return False
        if missing.isdisjoint({*self._addresses.inbound.values(), self._addresses.outbound}):
            return True
        self._check_stolen(missing)
        self._set(reason=f"its Envoy does not listen on {', '.join(map(host_port, sorted(missing)))}. {self._look}")
        return False

    def _check_stolen(self, missing: AbstractSet[int]) -> None:
        for port in missing:
            if not is_free(port) and not (who := holder(port)).startswith(f"pid {self.state.pid} "):
                raise StartError(
                    host_port(port),
                    f"{who or 'another program'} took this port before Envoy could listen on it",
                    "The agent is started again, and takes another one",
                )

    @property
    def _ports(self) -> AbstractSet[int]:
        at = self._addresses
        return {*at.inbound.values(), at.outbound, *at.upstreams.values()}

    @property
    def _look(self) -> str:
        return f"Look into {self._folders.envoy_log}"

    def _set(self, **changes: Any) -> None:
        state = replace(self.state, **changes)
        if state != self.state:
            self.state = state
            self._changed()
