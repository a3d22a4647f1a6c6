"""What one check of a service says, with real servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh.agent.health import checking
from mesh.agent.ports import LOOPBACK
from mesh.model.workload import HealthCheck, HealthType

TIMEOUT = timedelta(milliseconds=500)


async def look(port: int, kind: HealthType, **fields: Any) -> str:
    async with checking(HealthCheck(kind, timeout=TIMEOUT, **fields), port) as check:
        return await check()


@asynccontextmanager
async def grpc_service(**statuses: int) -> AsyncIterator[int]:
    """A gRPC server; with statuses it has a health service. `all` is that of the server as a whole."""
    server = grpc.aio.server()
    if statuses:
        servicer = health.aio.HealthServicer()
        for name, status in statuses.items():
            await servicer.set("" if name == "all" else name, status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    await server.start()
    yield port
    await server.stop(grace=None)


@asynccontextmanager
async def raw_service(answer: bytes | None) -> AsyncIterator[int]:
    """A server that says `answer` to the first bytes it gets, or nothing at all."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, LOOPBACK, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize(
    ("statuses", "service", "words"),
    [
        pytest.param({"all": SERVING}, "", "", id="serving"),
        pytest.param({"all": NOT_SERVING, "shop.Orders": SERVING}, "shop.Orders", "", id="one service of it"),
        pytest.param({"all": NOT_SERVING}, "", "its health check answers NOT_SERVING", id="not serving"),
        pytest.param(
            {"all": SERVING},
            "shop.Order",
            "its health check does not know the service 'shop.Order'; correct `health: {service: …}`",
            id="a service that it does not know",
        ),
        pytest.param(
            {},
            "",
            "it does not implement grpc.health.v1.Health; add that to the service, or write `health: {type: tcp}`",
            id="no health service",
        ),
    ],
)
async def test_a_grpc_service_is_asked_for_its_health(statuses: dict[str, int], service: str, words: str) -> None:
    async with grpc_service(**statuses) as port:
        assert await look(port, HealthType.GRPC, service=service) == words


async def test_a_grpc_check_has_an_end() -> None:
    async with raw_service(None) as port:
        words = await look(port, HealthType.GRPC)

    assert words.startswith(("no answer to the gRPC health check at", "what listens at"))


async def test_a_grpc_check_of_another_protocol_says_so() -> None:
    async with raw_service(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        words = await look(port, HealthType.GRPC)

    assert words == (f"what listens at 127.0.0.1:{port} does not speak gRPC; write what it speaks: `appProtocol: …`")


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)

    async with grpc_service(all=SERVING) as port:
        assert await look(port, HealthType.GRPC) == ""


OTHER_PATH = ", not 2xx; correct `health: {path: …}`, or write `health: {type: tcp}`"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param("200 OK", "", id="200"),
        pytest.param("204 No Content", "", id="204"),
        pytest.param("302 Found", f"GET /live answers 302{OTHER_PATH}", id="a redirect"),
        pytest.param("404 Not Found", f"GET /live answers 404{OTHER_PATH}", id="404"),
        pytest.param("503 Service Unavailable", "GET /live answers 503", id="503"),
    ],
)
async def test_an_http_service_is_healthy_when_it_answers_2xx(status: str, words: str) -> None:
    async with raw_service(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as port:
        assert await look(port, HealthType.HTTP, path="/live") == words


async def test_an_http_check_has_an_end() -> None:
    async with raw_service(None) as port:
        assert await look(port, HealthType.HTTP) == f"no answer to GET / at 127.0.0.1:{port} within 0.5 s"


async def test_an_http_check_of_another_protocol_says_so() -> None:
    async with raw_service(b"220 mail\r\n") as port:
        words = await look(port, HealthType.HTTP)

    assert words == (
        f"what listens at 127.0.0.1:{port} does not speak HTTP/1.1; write what it speaks: `appProtocol: …`"
    )


async def test_a_tcp_service_is_healthy_when_it_listens() -> None:
    async with raw_service(b"") as port:
        assert await look(port, HealthType.TCP) == ""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (HealthType.GRPC, "nothing speaks gRPC at 127.0.0.1:{port}"),
        (HealthType.HTTP, "nothing speaks HTTP/1.1 at 127.0.0.1:{port}"),
        (HealthType.TCP, "nothing listens at 127.0.0.1:{port}"),
        (HealthType.NONE, ""),
    ],
)
async def test_nothing_there(kind: HealthType, words: str) -> None:
    async with raw_service(b"") as port:
        pass

    assert await look(port, kind) == words.format(port=port)
