"""The service of the instance: started, checked, started again when it ends."""

import asyncio
import shlex
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from mesh.agent.addresses import host_port
from mesh.agent.backoff import restarts
from mesh.agent.ending import describe
from mesh.agent.exposure import beyond_loopback, listening, listening_on
from mesh.agent.health import Judgement, checking
from mesh.agent.launch import Launch
from mesh.agent.log import log
from mesh.agent.plan import Plan
from mesh.agent.process import Process, start
from mesh.errors import StartError
from mesh.model.workload import HealthType

QUICK: Final = 0.1
"""Seconds between two checks while the service starts: nobody should wait for a whole interval."""
QUICK_FOR: Final = 30.0

STARTING: Final = 3.0
"""For so many seconds a failed check is no news, and why the service ended before is worth more."""

SETTLING: Final = 0.5
"""Seconds that a service without a check must run to be healthy: one that exits at once is not."""

FIRST_LOOK, LOOK = 1.0, 5.0
"""Seconds until the first look at where the service listens, if it is not healthy sooner, and between two looks."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """`reason` says why it is not healthy; `pid` is 0 while it does not run.

    `exposed` holds the addresses beyond loopback on which it listens.
    """

    pid: int = 0
    healthy: bool = False
    reason: str = "its service has not started yet"
    restarts: int = 0
    exposed: tuple[str, ...] = ()


class Service:
    """One service, run for ever. `changed` is called after each change of `state`.

    `app` holds the ports on which it is to listen, the first one is checked. `prepare` is called before each start and
    raises StartError when a start cannot work.
    """

    def __init__(
        self,
        plan: Plan,
        app: Collection[int],
        prepare: Callable[[], Launch],
        output: Path,
        changed: Callable[[], None],
    ) -> None:
        self.state = ServiceState()
        self._plan = plan
        self._app = tuple(app)
        self._prepare = prepare
        self._output = output
        self._changed = changed
        self._process: Process | None = None
        self._starts = 0
        self._listening: tuple[str, ...] = ()

    async def run(self) -> None:
        """Until it is cancelled; `stop` or `kill` then end the service. What somebody else starts is only checked."""
        backoff = restarts()
        while True:
            lived = await self._once() if self._plan.command else await self._watch(None)
            await asyncio.sleep(backoff.after(lived).total_seconds())

    async def stop(self, grace: timedelta) -> None:
        if self._process:
            status = await self._process.stop(grace)
            log("service_stopped", pid=self._process.pid, status=status)
        self._set(pid=0, healthy=False, reason="its service was stopped")

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    async def _once(self) -> timedelta:
        """Runs the service until it ends; how long it lived."""
        started = time.monotonic()
        try:
            process = self._process = await self._start()
        except StartError as error:
            log("service_not_started", reason=error)
            self._set(reason=str(error))
            return timedelta()
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(process.pid))
            status = await process.wait()
            watch.cancel()
        lived = timedelta(seconds=time.monotonic() - started)
        self._ended(process, describe(status, lived, process.last_line))
        return lived

    async def _start(self) -> Process:
        try:
            launch = self._prepare()
            process = await start(launch.argv, cwd=launch.cwd, env=launch.env, log=self._output, guard=True)
        except OSError as error:
            raise StartError(self._plan.where, f"the service cannot be started ({error})", "Correct that") from error
        log("service_started", pid=process.pid, command=shlex.join(launch.argv))
        reason = self.state.reason if self._starts else "its service is starting"
        self._set(pid=process.pid, restarts=self._starts, reason=reason)
        self._starts += 1
        return process

    def _ended(self, process: Process, how: str) -> None:
        self._process = None
        log("service_ended", pid=process.pid, how=how)
        stays = "" if process.status else "A service stays in the foreground until it gets SIGTERM. "
        why = StartError(self._plan.where, f"the service {how}", f"{stays}{self._look}")
        self._set(pid=0, healthy=False, exposed=(), reason=str(why))

    async def _watch(self, pid: int | None) -> NoReturn:
        """Until it is cancelled. `pid` is None for a service that somebody else starts."""
        healthy = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._check(healthy))
            tasks.create_task(self._look_around(pid, healthy))
        raise AssertionError("neither ever ends")

    async def _check(self, healthy: asyncio.Event) -> None:
        health = self._plan.health
        judgement = Judgement(health.healthy_after, health.unhealthy_after)
        started = time.monotonic()
        await asyncio.sleep(SETTLING if health.type is HealthType.NONE else 0)
        async with checking(health, self._app[0] if self._app else 0) as check:
            while True:
                why = await check()
                age = time.monotonic() - started
                self._judged(judgement.take(not why), why, is_news=age > STARTING)
                if judgement.healthy:
                    healthy.set()
                starting = why and not healthy.is_set() and age < QUICK_FOR
                interval = health.interval.total_seconds()
                await asyncio.sleep(min(QUICK, interval) if starting else interval)

    def _judged(self, healthy: bool, why: str, *, is_news: bool) -> None:
        if healthy != self.state.healthy:
            log("healthy") if healthy else log("unhealthy", why=why)
        if healthy:
            self._set(healthy=True, reason="")
        elif is_news or self.state.healthy:
            elsewhere = missed(self._app, self._listening)
            problem = StartError(self._plan.where, why, elsewhere or self._look)
            self._set(healthy=False, reason=str(problem))

    async def _look_around(self, pid: int | None, healthy: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK):
                await healthy.wait()
        while True:
            look = (lambda: listening(pid)) if pid else (lambda: listening_on(self._app))
            self._listening = await asyncio.to_thread(look)
            exposed = beyond_loopback(self._listening)
            if exposed and exposed != self.state.exposed:
                log("exposed", addresses=",".join(exposed))
            self._set(exposed=exposed)
            await asyncio.sleep(LOOK)

    @property
    def _look(self) -> str:
        if not self._plan.command:
            return "Look at it where it was started: without `command:` that is not here"
        return f"Its output is in {self._output}"

    def _set(self, **changes: Any) -> None:
        state = replace(self.state, **changes)
        if state != self.state:
            self.state = state
            self._changed()


def missed(app: Collection[int], found: Collection[str]) -> str:
    """What to do about a service that listens, but not where its sidecar looks for it; "" for any other."""
    ports = {int(address.rpartition(":")[2]) for address in found}
    reached = {f"{host}:{port}" for port in app for host in ("127.0.0.1", "0.0.0.0", "[::]")}
    if not found or not reached.isdisjoint(found):
        return ""
    wanted = ", ".join(host_port(port) for port in app)
    fixed = f", or write `targetPort: {min(ports)}`" if ports.isdisjoint(app) else ""
    return f"It listens on {', '.join(found)}: let it listen on {wanted} ($HOST:$PORT){fixed}"
