"""Requests are bytes until it is known who sends them: of 16 MiB of empty messages a parser makes more than 600 MiB."""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

from google.protobuf.message import DecodeError

from mesh.errors import LimitError, UsageError
from mesh.registry.caller import CALLER

LARGEST_OF_WORKLOADS: Final = 1024 * 1024 + 1024
"""Bytes of one message. An agent sends descriptors in pieces of 1 MiB, and nothing else that is nearly as large."""

Parse = Callable[[bytes], Any]


def parsed(method: str, parse: Parse, content: bytes) -> Any:
    """The message of whoever is in `CALLER`. Raises LimitError and UsageError."""
    if CALLER.get().identity and len(content) > LARGEST_OF_WORKLOADS:
        raise LimitError(method, f"a message of {len(content)} bytes", f"{LARGEST_OF_WORKLOADS} are the most")
    with suppress(DecodeError):
        return parse(content)
    raise UsageError(method, "the request cannot be read", "Send what the protos of Proa say")


class Requests:
    """Those of a stream. Each is read when somebody asks for it, and one that is waited for may be left alone."""

    def __init__(self, contents: AsyncIterator[bytes], read: Callable[[bytes], Any]) -> None:
        self._contents = contents
        self._read = read

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        return await self._read(await anext(self._contents))
