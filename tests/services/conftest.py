"""Services as real processes, started as `services/bookstore/mesh.yaml` says, but without a mesh."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from sqlalchemy import MetaData

from kit.database import Database
from tests.mesh.running import patience

ROOT = Path(__file__).parents[2]
BOOKSTORE = ROOT / "services" / "bookstore"
WORKLOADS = {
    document["metadata"]["name"]: document["spec"]
    for document in yaml.safe_load_all((BOOKSTORE / "mesh.yaml").read_text())
}
PROBE = Path(__file__).parent / "probe.py"
START_SECONDS = 20


@dataclass
class Service:
    """A running service: `channel` reaches it, `log` holds its lines so far, each a dictionary."""

    process: Process
    log: list[dict[str, Any]] = field(default_factory=list)
    address: str = ""
    channel: Any = None

    async def read_log(self, *, until: str = "") -> None:
        """As far as the event `until`, or to its end."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:  # not ours: a traceback at the import, or gRPC itself
                self.log.append({"event": line.decode()})
            if self.log[-1]["event"] == until:
                return

    async def stop(self) -> int:
        """SIGTERM; the exit code. Then `log` is complete."""
        self.process.terminate()
        await self.read_log()
        return await self.process.wait()


def command_of(name: str, data: Path) -> tuple[list[str], dict[str, str]]:
    """What Proa would run for the workload `name`, and the environment that it would add."""
    if name == "probe":
        return [sys.executable, str(PROBE)], {"PYTHONPATH": "../gen:.."}
    workload = WORKLOADS[name]
    command = [part.replace("${python}", sys.executable) for part in workload["command"]]
    return command, {key: value.replace("${state}", str(data)) for key, value in workload["env"].items()}


async def spawn(name: str, data: Path, **environment: str) -> Process:
    command, extra = command_of(name, data)
    inherited = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error", "LOG_FORMAT": "json", "PORT": "0"}
    return await asyncio.create_subprocess_exec(
        *command, cwd=BOOKSTORE, env=inherited | extra | environment, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
    )


@asynccontextmanager
async def running(name: str, data: Path, **environment: str) -> AsyncIterator[Service]:
    service = Service(await spawn(name, data, **environment))
    try:
        await asyncio.wait_for(service.read_log(until="serving"), START_SECONDS * patience())
        assert service.log, f"{name} ended at once"
        assert service.log[-1]["event"] == "serving", service.log
        service.address = service.log[-1]["address"]
        async with grpc.aio.insecure_channel(service.address) as channel:
            service.channel = channel
            yield service
    finally:
        if service.process.returncode is None:
            service.process.kill()
        await service.process.communicate()


Start = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`await start("orders", CATALOG_ADDR=...)`: a service of its own for this test, listening, ended after it."""
    async with AsyncExitStack() as stack:

        async def started(name: str, data: Path = tmp_path, **environment: str) -> Service:
            return await stack.enter_async_context(running(name, data, **environment))

        yield started


@dataclass(frozen=True)
class Bookstore:
    catalog: Service
    inventory: Service
    orders: Service


@pytest.fixture(scope="session")
async def bookstore(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bookstore]:
    """The three services, for all tests that only call them; each test uses customers, keys and books of its own."""
    data = tmp_path_factory.mktemp("bookstore")
    async with running("catalog", data) as catalog, running("inventory", data) as inventory:
        addresses = {"CATALOG_ADDR": catalog.address, "INVENTORY_ADDR": inventory.address}
        async with running("orders", data, **addresses) as orders:
            yield Bookstore(catalog, inventory, orders)


OpenDatabase = Callable[..., Awaitable[Database]]


@pytest.fixture
async def open_database(tmp_path: Path) -> AsyncIterator[OpenDatabase]:
    """`await open_database(TABLES, seed)`: a handle on one file. Each call opens it anew, as another process would."""
    async with AsyncExitStack() as stack:

        async def opened(tables: MetaData, seed: Any = None) -> Database:
            return await stack.enter_async_context(Database.open(tmp_path / "data" / "test.db", tables, seed))

        yield opened


@pytest.fixture
def refused() -> Callable[[Awaitable[Any]], Awaitable[grpc.aio.AioRpcError]]:
    """`await refused(call)`: the error that the call ends with."""

    async def error_of(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return caught.value

    return error_of


@pytest.fixture
def spawned(tmp_path: Path) -> Callable[..., Awaitable[tuple[int | None, str]]]:
    """`await spawned("orders", PORT="x")`: exit code and last line of a service that cannot start."""

    async def ended(name: str, **environment: str) -> tuple[int | None, str]:
        process = await spawn(name, tmp_path, **environment)
        async with asyncio.timeout(START_SECONDS * patience()):
            _, said = await process.communicate()
        return process.returncode, said.decode().splitlines()[-1]

    return ended
