"""`GET /metrics`: what is answered, and what nobody may do to the one who answers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mesh.errors import StartError
from mesh.model.address import Address
from mesh.telemetry.http import AT_ONCE, HEAD_BYTES, serve
from tests.mesh.running import patience
from tests.ports import free_port

SECONDS = 20
GET = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.fixture
def numbers() -> CollectorRegistry:
    numbers = CollectorRegistry()
    Gauge("answer", "Of everything.", registry=numbers).set(42)
    return numbers


def free_address() -> Address:
    return Address("127.0.0.1", free_port())


@asynccontextmanager
async def serving(numbers: CollectorRegistry, within: float = SECONDS) -> AsyncIterator[Address]:
    address = free_address()
    task = asyncio.create_task(serve(address, numbers, timedelta(seconds=within)))
    await answered(address)
    try:
        yield address
    finally:
        task.cancel()
        async with asyncio.timeout(2 * patience()):  # however many connections are open
            await asyncio.gather(task, return_exceptions=True)


async def ask(address: Address, request: bytes = GET) -> bytes:
    """The whole answer, up to the end of the connection; empty when there is none."""
    try:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return b""
    try:
        writer.write(request)
        async with asyncio.timeout(SECONDS):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def answered(address: Address) -> None:
    """Returns as soon as there are numbers."""
    async with asyncio.timeout(SECONDS):
        while True:
            if (await ask(address)).startswith(b"HTTP/1.1 200"):
                return
            await asyncio.sleep(0.01)


async def test_the_text_format_is_answered(numbers: CollectorRegistry) -> None:
    async with serving(numbers) as address:
        head, _, body = (await ask(address)).partition(b"\r\n\r\n")

    assert body == b"# HELP answer Of everything.\n# TYPE answer gauge\nanswer 42.0\n"
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert {"Content-Type: text/plain; version=0.0.4; charset=utf-8", f"Content-Length: {len(body)}"} <= set(lines)


async def test_openmetrics_is_answered_to_who_takes_it(numbers: CollectorRegistry) -> None:
    accept = b"Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    async with serving(numbers) as address:
        answer = await ask(address, GET.replace(b"\r\n\r\n", b"\r\n" + accept + b"\r\n\r\n"))

    assert b"Content-Type: application/openmetrics-text; version=1.0.0;" in answer
    assert answer.endswith(b"answer 42.0\n# EOF\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"200 OK", id="an old client with a query"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found", id="another path"),
        pytest.param(b"GET /metrics/../../etc HTTP/1.1\r\n\r\n", b"404 Not Found", id="a path upwards"),
        pytest.param(b"POST /metrics HTTP/1.1\r\n\r\n", b"405 Method Not Allowed", id="another method"),
        pytest.param(b"HEAD /metrics HTTP/1.1\r\n\r\n", b"405 Method Not Allowed", id="only the head"),
        pytest.param(b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\n", b"400 Bad Request", id="HTTP/2"),
        pytest.param(b"GET http://[/metrics HTTP/1.1\r\n\r\n", b"400 Bad Request", id="no URL"),
        pytest.param(b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"400 Bad Request", id="many fields"),
        pytest.param(b"GET /" + b"x" * HEAD_BYTES * 2, b"431 Request Header Fields Too Large", id="no end"),
    ],
)
async def test_a_request_has_its_status(numbers: CollectorRegistry, request_: bytes, status: bytes) -> None:
    async with serving(numbers) as address:
        answer = await ask(address, request_)

    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")


async def test_what_a_client_says_is_not_repeated(numbers: CollectorRegistry) -> None:
    accept = b"Accept: application/openmetrics-text; version=1.0.0.\r\n\tX-Evil: 1"
    async with serving(numbers) as address:
        answer = await ask(address, GET.replace(b"\r\n\r\n", b"\r\n" + accept + b"\r\n\r\n"))

    assert b"Evil" not in answer


class Large(Collector):
    """More than the sockets between here and there hold."""

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("large", "x" * 16_000_000, 1)


async def test_a_client_that_does_not_read_holds_up_nobody_and_is_cut_off(numbers: CollectorRegistry) -> None:
    numbers.register(Large())
    async with serving(numbers, within=1.0) as address:
        slow, writer = await asyncio.open_connection(address.host, address.port)
        slow._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)

        assert (await ask(address)).startswith(b"HTTP/1.1 200")

        async with asyncio.timeout(SECONDS):
            # Only who still listens there would take it.
            while not writer.is_closing():
                writer.write(b"x")
                await asyncio.sleep(0.02)


async def test_a_large_answer_arrives_whole(numbers: CollectorRegistry) -> None:
    numbers.register(Large())
    async with serving(numbers) as address:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # what is sent leaves in small pieces
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (address.host, address.port))
        reader, writer = await asyncio.open_connection(sock=client)
        writer.write(GET)
        async with asyncio.timeout(SECONDS):
            assert (await reader.read()).endswith(b" 1.0\n")
        writer.close()


async def test_a_request_without_an_end_is_cut_off(numbers: CollectorRegistry) -> None:
    async with serving(numbers, within=0.2) as address:
        assert await ask(address, b"GET /metrics HTTP/1.1\r\n") == b""


async def test_there_are_only_so_many_at_once(numbers: CollectorRegistry) -> None:
    async with serving(numbers, within=5.0) as address:
        idle = [await asyncio.open_connection(address.host, address.port) for _ in range(AT_ONCE)]

        assert (await ask(address)).startswith(b"HTTP/1.1 503 Service Unavailable")

        for _, writer in idle:
            writer.close()
        await answered(address)


async def test_a_client_that_breaks_off_disturbs_nobody(numbers: CollectorRegistry) -> None:
    async with serving(numbers) as address:
        for request in (b"", b"GET /met", GET):
            with socket.create_connection((address.host, address.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
                client.send(request)

        assert b"answer 42.0" in await ask(address)


class Broken(Collector):
    def collect(self) -> Iterator[Metric]:
        if self.counts:
            raise RuntimeError("it cannot be counted")
        yield GaugeMetricFamily("fine", "", 1)

    counts = False


async def test_a_number_that_cannot_be_told_ends_nothing(numbers: CollectorRegistry) -> None:
    broken = Broken()
    numbers.register(broken)
    async with serving(numbers) as address:
        broken.counts = True
        assert await ask(address) == b""

        broken.counts = False
        assert b"answer 42.0" in await ask(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
async def test_a_place_where_nobody_can_listen_is_said(numbers: CollectorRegistry, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(host, taken.getsockname()[1])
        with pytest.raises(ExceptionGroup) as group:
            await serve(address, numbers)

    [error] = group.value.exceptions
    assert isinstance(error, StartError)
    assert str(error).startswith(f"{address}: metrics cannot be served there (")


async def test_a_port_that_there_is_not_is_said(numbers: CollectorRegistry) -> None:
    with pytest.raises(ExceptionGroup) as group:
        await serve(Address("127.0.0.1", 70_000), numbers)

    assert isinstance(group.value.exceptions[0], StartError)
