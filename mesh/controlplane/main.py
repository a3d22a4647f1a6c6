"""The control plane as a process: what it is made of, in which order it starts, and how it ends."""

import asyncio
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final

from mesh.controlplane.api import Api
from mesh.controlplane.compiler import Compiler
from mesh.controlplane.limits import raise_descriptors
from mesh.controlplane.memory import settle
from mesh.controlplane.rotation import Rotation
from mesh.controlplane.services import services
from mesh.controlplane.settings import Settings, settings_from
from mesh.controlplane.tcp import serve_tcp
from mesh.errors import MeshError, StateError
from mesh.identity import core_files
from mesh.identity.credentials import server_credentials
from mesh.identity.private import check_private
from mesh.model.printable import printable
from mesh.registry.registry import Registry
from mesh.registry.status import StatusBoard
from mesh.registry.store import Store
from mesh.telemetry import http
from mesh.telemetry.convergence import Convergence
from mesh.telemetry.metrics import MeshNumbers, Numbers
from mesh.xds.cache import Cache
from mesh.xds.peer import admit
from mesh.xds.server import DiscoveryService

PAUSE: Final = timedelta(seconds=1)
"""Before the state is tried again that could not be written."""

LONGEST_LINE: Final = 8 * 1024

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until it is told to end; the exit code."""
    # Whatever this process makes is its owner's alone, and it has the key of the authority.
    os.umask(0o077)
    core_files.forbid()
    raise_descriptors()
    _log_to_stderr()
    exit_code = 0
    try:
        asyncio.run(run(settings_from(arguments)))
    except* MeshError as group:
        for error in _each(group):
            print(f"error: {error}", file=sys.stderr)
            exit_code = max(exit_code, error.exit_code)
    return exit_code


async def run(settings: Settings) -> None:
    """Serves until SIGTERM, SIGINT or the end of the lifeline."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.lifeline is not None:
        _watch(settings.lifeline, stop)
    registry = await _loaded(settings.state)
    try:
        await serve(settings, registry, stop)
    finally:
        await registry.close()
    log.info("stopped")


async def serve(settings: Settings, registry: Registry, stop: asyncio.Event) -> None:
    """Serves the API and xDS from `registry` until `stop` is set."""
    cache, board, numbers = Cache(), StatusBoard(_now), Numbers()
    compiler = Compiler(registry, cache, board, numbers.compiling.time)
    convergence = Convergence(
        registry.changed, compiler.caught_up, board, uptime=_uptime, observe=numbers.changing.observe
    )

    rotation = Rotation(settings.state / "ca", registry, _now, settings.ca)
    rotation.check()
    made = services(registry, compiler, cache, board, rotation, xds=settings.xds, now=_now)
    api = Api(made, refused=numbers.refused)
    discovery = DiscoveryService(cache, board, functools.partial(admit, identity_of=registry.identity_of))

    async def discover() -> None:
        """Serves xDS as soon as there is an authority: with the first document, or from the start."""
        await rotation.signing()
        trust = functools.partial(server_credentials, rotation.authority, _now, registry.leaf_lifetime, numbers.begun)
        await serve_tcp(api, discovery, registry, trust, settings.xds, settings.listen)

    async def tell_numbers() -> None:
        """Serves metrics, when there is an address for them."""
        numbers.register(
            MeshNumbers(
                registry,
                board,
                version=version("proa"),
                problems=lambda: len(compiler.problems),
                pending=convergence.pending,
                expiries=rotation.expiries,
                rotating=rotation.rotating,
            )
        )
        if settings.metrics:
            await http.serve(settings.metrics, numbers)

    # What was true before the last stop is there before the first proxy can ask.
    compiler.compile()
    async with asyncio.TaskGroup() as tasks:
        work = (compiler.run(), convergence.run(), keep_leases(registry), rotation.run(), discover(), tell_numbers())
        async with api.listening(settings.api):  # around all that may fail: a server of gRPC has to be stopped
            running = [tasks.create_task(one) for one in work]
            settle()
            log.info("serving api=%s revision=%d pid=%d", settings.api, registry.state.revision, os.getpid())
            await stop.wait()
            log.info("stopping")
        for task in running:
            task.cancel()


async def keep_leases(registry: Registry) -> None:
    """Forgets each instance when its term is over, until it is cancelled."""
    while True:
        seen = registry.changed.number
        try:
            for gone in await registry.expire():
                log.info("forgotten node=%s", gone.node_id)
        except StateError as error:
            log.error("not_forgotten reason=%s", error)
            await asyncio.sleep(PAUSE.total_seconds())
            continue
        # The end of a term is as good a reason to look as a change.
        await registry.changed.after(seen, within=registry.next_end())


async def _loaded(state: Path) -> Registry:
    # The key of the authority is looked at where it is read: without it everything but signing goes on.
    check_private((state, *state.glob("state.db*")) if state.exists() else ())
    authority = state / "ca"
    begins = not authority.is_dir() or not any(authority.iterdir())
    store = await Store.open(state / "state.db", begins=begins)
    try:
        registry, problems = await Registry.load(store, now=_now, uptime=_uptime)
    except BaseException:
        await store.close()
        raise
    for problem in problems:
        log.warning("document_skipped reason=%s", problem)
    return registry


def _each(group: ExceptionGroup[MeshError]) -> Iterator[MeshError]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _each(error)
        else:
            yield error


def _watch(lifeline: int, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(lifeline, 1):
            loop.remove_reader(lifeline)
            stop.set()

    loop.add_reader(lifeline, readable)


class _OneLine(logging.Formatter):
    """What peers say goes into messages: none of them begins a line, and none fills the disk. Tracebacks are ours."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record), LONGEST_LINE)


def _log_to_stderr() -> None:
    formatter = _OneLine("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _now() -> datetime:
    return datetime.now(UTC)


def _uptime() -> timedelta:
    return timedelta(seconds=time.monotonic())
