"""grpc.health.v1 of a server that serves from its start until it is told to stop."""

import asyncio
from collections.abc import AsyncIterator, Collection

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kit.interceptors import Context

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """SERVING for each of `names` and for "", the whole server; NOT_SERVING once `stopping` is set.

    It says nothing of the services that ours calls: if it did, one that is down would take its callers with it.
    (The servicer of `grpc_health` keeps every Watch open, so that one watcher holds up a stop for its whole grace.)
    """

    def __init__(self, names: Collection[str], stopping: asyncio.Event) -> None:
        self._names = {"", *names}
        self._stopping = stopping

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service here")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        yield health_pb2.HealthCheckResponse(status=self._status(request.service))
        if not self._stopping.is_set():
            await self._stopping.wait()
            yield health_pb2.HealthCheckResponse(status=self._status(request.service))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "The server is stopping")

    def _status(self, service: str) -> int:
        if service not in self._names:
            return SERVICE_UNKNOWN
        return NOT_SERVING if self._stopping.is_set() else SERVING
