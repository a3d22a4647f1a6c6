"""The control API: every service on one server, with reflection and health."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mesh.controlplane import unix_socket
from mesh.controlplane.access import WHO, Door, SocketDoor
from mesh.controlplane.entrance import AccessInterceptor
from mesh.controlplane.errors import OURS, ErrorInterceptor, Refused
from mesh.controlplane.services import Service

SERVICES: Final = tuple(dict.fromkeys(method.split("/")[1] for method in WHO if method.startswith(OURS)))
"""What Proa itself implements, by full name."""

OPTIONS: Final = (
    # All files of a mesh come in one call, as do descriptors of 16 MiB; all instances of a mesh go in one message.
    ("grpc.max_receive_message_length", 17 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
)

GRACE: Final = 0.5
"""Seconds for calls to end; streams of agents and of those who watch are then cut, and opened again elsewhere."""


class Api:
    """To be made when the state is loaded: as soon as it listens it says SERVING."""

    def __init__(self, services: Iterable[Service], *, refused: Refused) -> None:
        self.refused = refused
        self._health = health.aio.HealthServicer()
        self._services = (*services, (health_pb2_grpc.add_HealthServicer_to_server, self._health))
        self._server = self.behind(SocketDoor())

    def behind(self, door: Door, options: Sequence[tuple[str, int]] = OPTIONS) -> grpc.aio.Server:
        """A server with all of it behind the door, that listens nowhere yet."""
        interceptors = [ErrorInterceptor(self.refused), AccessInterceptor(door, self.refused)]
        server = grpc.aio.server(interceptors=interceptors, options=options)
        for add_to_server, servicer in self._services:
            add_to_server(servicer, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Answers calls within the block. Raises StartError when it cannot listen at `path`."""
        unix_socket.claim(path)
        self._server.add_insecure_port(f"unix:{path}")
        await self._server.start()
        unix_socket.protect(path)
        for name in ("", *SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        try:
            yield
        finally:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(GRACE)
            path.unlink(missing_ok=True)
