"""`GET /metrics`, and nothing else, over HTTP."""

import asyncio
import http.client
import io
import logging
from collections.abc import Callable
from datetime import timedelta
from email.message import Message
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics import exposition as openmetrics_exposition

from mesh.errors import StartError
from mesh.model.address import Address

WITHIN: Final = timedelta(seconds=10)
"""The whole of one request, from the connection to the last byte of its answer. Prometheus waits as long."""

AT_ONCE: Final = 16
"""Connections; who comes while there are so many is told to come back later."""

HEAD_BYTES: Final = 16 * 1024
"""Of a request; the head of one by Prometheus has less than 1 kB."""

log = logging.getLogger(__name__)


async def serve(address: Address, numbers: CollectorRegistry, within: timedelta = WITHIN) -> None:
    """Answers at `address` with what `numbers` are then, until it is cancelled. Who is slow holds up nobody.

    Raises StartError when it cannot listen there.
    """
    async with asyncio.TaskGroup() as tasks:
        running: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(running) < AT_ONCE:
                task = tasks.create_task(_exchange(reader, writer, numbers, within))
                running.add(task)
                task.add_done_callback(running.discard)
            else:
                writer.write(_response(HTTPStatus.SERVICE_UNAVAILABLE))
                writer.close()

        server = await _listening(address, accept)
        log.info("serving metrics=%s", address)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()


async def _listening(
    address: Address, accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]
) -> asyncio.Server:
    try:
        return await asyncio.start_server(accept, address.host.strip("[]"), address.port, limit=HEAD_BYTES)
    except (OSError, OverflowError) as error:
        remedy = "End the process that has the port, or choose another one"
        raise StartError(str(address), f"metrics cannot be served there ({error})", remedy) from error


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, numbers: CollectorRegistry, within: timedelta
) -> None:
    """One request and its answer."""
    writer.transport.set_write_buffer_limits(0)  # `drain` returns when all is on its way, and nothing is left to drop
    try:
        async with asyncio.timeout(within.total_seconds()):
            writer.write(await _answer(reader, numbers))
            await writer.drain()
    except (OSError, EOFError, TimeoutError):
        pass  # it has gone, or is too slow
    except Exception:
        log.exception("metrics_not_told")
    finally:
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader, numbers: CollectorRegistry) -> bytes:
    try:
        method, path, headers = _request(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.LimitOverrunError:
        return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    except (ValueError, http.client.HTTPException):
        return _response(HTTPStatus.BAD_REQUEST)
    if path != "/metrics":
        return _response(HTTPStatus.NOT_FOUND)
    if method != "GET":
        return _response(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET")
    # Not the library's own choice: that repeats in its answer what the client writes as a version.
    if "application/openmetrics-text" in headers.get("Accept", ""):
        return _told(openmetrics_exposition.CONTENT_TYPE_LATEST, openmetrics_exposition.generate_latest(numbers))  # type: ignore[no-untyped-call]
    return _told(exposition.CONTENT_TYPE_PLAIN_0_0_4, exposition.generate_latest(numbers))


def _told(media_type: str, content: bytes) -> bytes:
    return _response(HTTPStatus.OK, f"Content-Type: {media_type}", content=content)


def _request(head: bytes) -> tuple[str, str, Message]:
    """Method, path and header fields. Raises ValueError or HTTPException for what is no request."""
    first, _, rest = head.partition(b"\r\n")
    method, target, version = first.decode("latin-1").split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(version)
    return method, urlsplit(target).path, http.client.parse_headers(io.BytesIO(rest))


def _response(status: HTTPStatus, *fields: str, content: bytes = b"") -> bytes:
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        *fields,
        f"Content-Length: {len(content)}",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1") + content
