"""A sidecar's inbound ports as somebody on the network finds them, and what the sidecar says of who came."""

import asyncio
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.intruders import Authority, Credentials
from tests.mesh.load import DEADLINE, Load, connected, get_stock, load, place_order
from tests.mesh.running import RunningMesh, admin, patience, soon

PAUSE = 0.1
"""Seconds between two calls of a worker: there are hundreds while one intruder is looked at."""

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Seen:
    """What an intruder has got: `answer` before the end, or the error in its place; `port` is its own."""

    answer: bytes
    error: str
    port: int


@dataclass(frozen=True)
class Door:
    """One inbound listener of an instance."""

    mesh: RunningMesh
    workload: str
    listener: str
    instance: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, mesh: RunningMesh, workload: str, port: int) -> "Door":
        return cls(mesh, workload, f"inbound/{port}", mesh.instance(workload))

    @property
    def address(self) -> tuple[str, int]:
        for status in admin(self.instance, "/listeners?format=json")["listener_statuses"]:
            if status["name"] == self.listener:
                at = status["local_address"]["socket_address"]
                return at["address"], at["port_value"]
        raise AssertionError(f"{self.workload} has no listener {self.listener}")

    async def count(self, name: str) -> int:
        found = await asyncio.to_thread(admin, self.instance, f"/stats?format=json&filter=^{name}$")
        return sum(one["value"] for one in found["stats"] if "value" in one)

    async def counted(self, name: str, before: int, more: int = 1) -> None:
        """Returns once the counter says `more`, and not one beyond that."""
        async with asyncio.timeout(10 * patience()):
            while await self.count(name) < before + more:  # noqa: ASYNC110 # nothing tells when Envoy counts
                await asyncio.sleep(0.02)
        assert await self.count(name) == before + more

    def lines(self) -> list[dict[str, Any]]:
        """What the sidecar has logged of calls and connections."""
        log = self.mesh.state.log(self.instance["namespace"], self.instance["instance"], "envoy")
        whole = log.read_text().split("\n")[:-1]  # what is behind the last one may be the beginning of another
        return [json.loads(line) for line in whole if line.startswith("{")]

    async def line_about(self, seen: Seen) -> dict[str, Any]:
        """The line of the listener about one connection."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines() if line.get("remote", "").endswith(f":{seen.port}")]

        return (await soon(found, 20, lambda: f"no line about port {seen.port}: {self.lines()[-3:]}"))[0]

    async def say(self, data: bytes, context: ssl.SSLContext | None, seconds: float = 10) -> Seen:
        """Connects, says it and reads to the end. Without a context in plaintext."""
        return await asyncio.to_thread(_say, self.address, data, context, seconds)


@asynccontextmanager
async def tunnel(address: tuple[str, int], context: ssl.SSLContext) -> AsyncIterator[str]:
    """A local address that leads there with the certificate of `context`, for clients that look at host names."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*address, ssl=context)
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(reader, back))
            both.create_task(_pump(there, writer))

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@dataclass(frozen=True)
class Attacked:
    """A mesh, and everything that goes on in it meanwhile."""

    mesh: RunningMesh
    calls: Load
    ca: Authority
    folder: Path

    def door(self, workload: str, port: int) -> Door:
        return Door.of(self.mesh, workload, port)

    def context(self, credentials: Credentials, *alpn: str) -> ssl.SSLContext:
        return credentials.context(self.folder, alpn)


@asynccontextmanager
async def legitimate_calls(mesh: RunningMesh) -> AsyncIterator[Load]:
    """Calls by gRPC and HTTP, and of one service to another, over connections that stay; none may fail."""
    begun: asyncio.Future[Load] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()
    going_on = asyncio.create_task(_call(mesh, begun, over))
    either: set[asyncio.Future[Any]] = {begun, going_on}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if going_on.done():
        await going_on
    try:
        yield begun.result()
    finally:
        over.set()
        await going_on
    assert begun.result().failures == []


async def _call(mesh: RunningMesh, begun: asyncio.Future[Load], over: asyncio.Event) -> None:
    """A task of its own: a fixture begins and ends in two."""
    page = f"http://{mesh.upstream('caller', 'web')}/who"
    async with (
        connected(mesh.upstream("orders", "inventory")) as inventory,
        connected(mesh.instance("orders")["address"]) as orders,
        load(get_stock(inventory), place_order(orders), lambda: asyncio.to_thread(_get, page), pause=PAUSE) as calls,
    ):
        begun.set_result(calls)
        await over.wait()


def _get(page: str) -> None:
    with OPENER.open(page, timeout=DEADLINE) as answer:
        assert answer.status == 200


def status(page: str) -> int:
    try:
        return int(OPENER.open(page, timeout=DEADLINE).status)
    except urllib.error.HTTPError as error:
        return error.code


def _say(address: tuple[str, int], data: bytes, context: ssl.SSLContext | None, seconds: float) -> Seen:
    answer = b""
    with closing(socket.create_connection(address, timeout=seconds)) as plain:
        port = plain.getsockname()[1]
        try:
            with context.wrap_socket(plain) if context else plain as stream:
                stream.sendall(data)
                while some := stream.recv(65536):
                    answer += some
        except OSError as error:
            return Seen(answer, str(error), port)
    return Seen(answer, "", port)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while some := await reader.read(65536):
            writer.write(some)
            await writer.drain()
    except OSError:
        pass  # the other end has gone, which the caller sees by itself
    finally:
        writer.close()
