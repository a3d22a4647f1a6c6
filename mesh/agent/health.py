"""Whether the service is healthy: one check, and the judgement over checks in a row."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from mesh.agent.addresses import host_port
from mesh.agent.ports import LOOPBACK
from mesh.model.workload import HealthCheck, HealthType

Check = Callable[[], Awaitable[str]]
"""One look at the service: "" when that is well, else what is wrong, for people."""

CHECK: Final = "/grpc.health.v1.Health/Check"

CHANNEL_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),  # a proxy of the user's environment has no business on loopback
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
)


@dataclass(slots=True)
class Judgement:
    """Healthy or not, from checks in a row. Not healthy before the first good ones."""

    healthy_after: int
    unhealthy_after: int
    healthy: bool = False
    against: int = 0

    def take(self, good: bool) -> bool:
        """Whether the service is healthy after one more check."""
        self.against = 0 if good == self.healthy else self.against + 1
        if self.against >= (self.unhealthy_after if self.healthy else self.healthy_after):
            self.healthy, self.against = good, 0
        return self.healthy


@asynccontextmanager
async def checking(health: HealthCheck, port: int) -> AsyncIterator[Check]:
    """A check of the service at this port of 127.0.0.1. Each takes `health.timeout` at most."""
    match health.type:
        case HealthType.GRPC:
            async with grpc.aio.insecure_channel(host_port(port), options=CHANNEL_OPTIONS) as channel:
                yield _grpc(channel, health, port)
        case HealthType.HTTP:
            yield lambda: _http(health, port)
        case HealthType.TCP:
            yield lambda: _tcp(health, port)
        case HealthType.NONE:
            yield _none


def _grpc(channel: grpc.aio.Channel, health: HealthCheck, port: int) -> Check:
    ask = channel.unary_unary(
        CHECK,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    request = health_pb2.HealthCheckRequest(service=health.service)

    async def check() -> str:
        try:
            answer = await ask(request, timeout=health.timeout.total_seconds())
        except grpc.aio.AioRpcError as error:
            return await _grpc_problem(error, health, port)
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return "" if status == "SERVING" else f"its health check answers {status}"

    return check


async def _grpc_problem(error: grpc.aio.AioRpcError, health: HealthCheck, port: int) -> str:
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return (
                "it does not implement grpc.health.v1.Health; add that to the service, or write `health: {type: tcp}`"
            )
        case grpc.StatusCode.NOT_FOUND:
            return f"its health check does not know the service {health.service!r}; correct `health: {{service: …}}`"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return (
                f"no answer to the gRPC health check at {host_port(port)} within {health.timeout.total_seconds():g} s"
            )
        case grpc.StatusCode.UNAVAILABLE:
            return await _not_spoken("gRPC", health, port)
        case code:
            return f"its health check answers {code.name}: {error.details()}"


async def _http(health: HealthCheck, port: int) -> str:
    try:
        async with asyncio.timeout(health.timeout.total_seconds()):
            status = await asyncio.to_thread(_http_status, port, health.path, health.timeout.total_seconds())
    except TimeoutError:
        return f"no answer to GET {health.path} at {host_port(port)} within {health.timeout.total_seconds():g} s"
    except (OSError, HTTPException):
        return await _not_spoken("HTTP/1.1", health, port)
    return "" if 200 <= status < 300 else f"GET {health.path} answers {status}{_other_path(status)}"


def _other_path(status: int) -> str:
    """What to do about an answer that says nothing of health."""
    return ", not 2xx; correct `health: {path: …}`, or write `health: {type: tcp}`" if 300 <= status < 500 else ""


def _http_status(port: int, path: str, seconds: float) -> int:
    connection = HTTPConnection(LOOPBACK, port, timeout=seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


async def _tcp(health: HealthCheck, port: int) -> str:
    try:
        async with asyncio.timeout(health.timeout.total_seconds()):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:  # TimeoutError is one
        return f"nothing listens at {host_port(port)}"
    writer.close()
    return ""


async def _not_spoken(protocol: str, health: HealthCheck, port: int) -> str:
    if await _tcp(health, port):
        return f"nothing speaks {protocol} at {host_port(port)}"
    return f"what listens at {host_port(port)} does not speak {protocol}; write what it speaks: `appProtocol: …`"


async def _none() -> str:
    return ""
