"""The gRPC server of a service: health, reflection, deadlines, errors, and a stop that loses no call."""

import asyncio
from collections.abc import Callable
from typing import Final

import grpc
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kit import logging
from kit.deadline import keep_deadline
from kit.errors import StartError
from kit.health import Health
from kit.interceptors import Surround, answer_errors
from kit.settings import Settings

log = logging.get(__name__)

OPTIONS: Final = (
    # Else two processes share a port on Linux, and each gets half of the connections, without an error.
    ("grpc.so_reuseport", 0),
    # Clients and proxies ping idle connections; gRPC's default takes two pings within 5 min for an attack and hangs up.
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
)


async def serve(
    api: FileDescriptor, add: Callable[[grpc.aio.Server], None], settings: Settings, stopping: asyncio.Event
) -> None:
    """Serves the services of `api`, whose servicers `add` adds, until `stopping` is set; returns when all is closed.

    Then health says NOT_SERVING, new calls are refused, and running ones may end within `settings.grace`. A handler
    that goes on for ever has to watch `stopping` itself. Raises StartError when it cannot listen.

    A call that arrives in the very moment of the stop ends CANCELLED, before any handler: gRPC does that
    (https://github.com/grpc/grpc/issues/41785). Behind a sidecar none does, since it stops when its callers have left.
    """
    names = [service.full_name for service in api.services_by_name.values()]
    server = grpc.aio.server(interceptors=[Surround(keep_deadline), Surround(answer_errors)], options=OPTIONS)
    add(server)
    health_pb2_grpc.add_HealthServicer_to_server(Health(names, stopping), server)
    if settings.reflection:
        reflection.enable_server_reflection([*names, health_service(), reflection.SERVICE_NAME], server)
    address = listen(server, settings.host, settings.port)
    await server.start()
    log.info("serving", address=address)
    try:
        await stopping.wait()
        log.info("stopping", grace_seconds=settings.grace.total_seconds())
    finally:
        await server.stop(settings.grace.total_seconds())
    log.info("stopped")


def listen(server: grpc.aio.Server, host: str, port: int) -> str:
    try:
        return f"{host}:{server.add_insecure_port(f'{host}:{port}')}"
    except RuntimeError as error:
        remedy = "Is another process listening there? Give another HOST or PORT"
        raise StartError(f"{host}:{port}", "this address cannot be listened on", remedy) from error


def health_service() -> str:
    return health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
