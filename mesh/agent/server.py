"""The control plane, seen from an agent: a channel to it, and calls that wait for it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

import grpc

from mesh.agent.backoff import jittered, reconnects
from mesh.agent.log import log
from mesh.errors import StartError

OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    # Without a name of its own a unix socket's path becomes the authority, which not every server takes.
    ("grpc.default_authority", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

AWAY: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Answer = TypeVar("Answer")


def connect(address: str) -> grpc.aio.Channel:
    """To be called on the loop that uses the channel. `address` is `unix:/path` or `host:port`."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


async def answered(where: str, call: Callable[[], Awaitable[Answer]], remedy: str) -> Answer:
    """The answer to `call`, which is made again for as long as the control plane is away.

    Raises StartError, about `where` and with the `remedy`, when the control plane refuses.
    """
    backoff = reconnects()
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in AWAY:
                raise StartError(where, f"the control plane refuses: {error.details()}", remedy) from error
            log("control_plane_away", why=error.details())
            await asyncio.sleep(jittered(backoff.after(timedelta())).total_seconds())
