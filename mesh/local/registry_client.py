"""The control plane as the supervisor sees it: calls to it, and streams that outlive its restarts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.api.proa.v1 import (
    documents_pb2,
    documents_pb2_grpc,
    status_pb2,
    status_pb2_grpc,
    workloads_pb2,
    workloads_pb2_grpc,
)
from mesh.errors import StartError
from mesh.local.rollout import Wanted

# It is on this machine and is started again at once: there is nothing to be gentle with.
OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # All instances of a mesh come in one message.
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)
PAUSE: Final = 0.1
"""Seconds before a stream that broke is opened again."""


class RegistryClient:
    """To be made and closed inside one event loop."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self._documents: Any = documents_pb2_grpc.DocumentServiceStub(self._channel)
        self._workloads: Any = workloads_pb2_grpc.WorkloadServiceStub(self._channel)
        self._status: Any = status_pb2_grpc.StatusServiceStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def serving(self) -> None:
        """Returns once the control plane has loaded its state and answers."""
        while True:
            with suppress(grpc.aio.AioRpcError):
                answer = await self._health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(PAUSE)

    async def replace_files(self, files: tuple[documents_pb2.SourceFile, ...]) -> documents_pb2.ReplaceFileSetResponse:
        """Also when the control plane has to start again meanwhile. Raises StartError when it refuses."""
        request = documents_pb2.ReplaceFileSetRequest(files=files)
        while True:
            try:
                response: documents_pb2.ReplaceFileSetResponse = await self._documents.ReplaceFileSet(request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    refused = f"it refuses the documents: {error.details()}"
                    raise StartError("control plane", refused, "`proa logs control-plane` may say more") from error
                await asyncio.sleep(PAUSE)
            else:
                return response

    async def follow_workloads(self, receive: Callable[[tuple[Wanted, ...]], None]) -> NoReturn:
        """Hands over what is wanted, now and after each change, for ever."""
        request = workloads_pb2.WatchWorkloadsRequest()
        await _follow(
            lambda: self._workloads.WatchWorkloads(request, wait_for_ready=True),
            lambda response: receive(tuple(map(_wanted, response.workloads))),
        )

    async def follow_instances(self, receive: Callable[[tuple[status_pb2.Instance, ...]], None]) -> NoReturn:
        """Hands over what is known of all instances, now and after each change, for ever."""
        request = status_pb2.WatchInstancesRequest()
        await _follow(
            lambda: self._status.WatchInstances(request, wait_for_ready=True),
            lambda response: receive(tuple(response.instances)),
        )


async def _follow(opened: Callable[[], AsyncIterator[Any]], receive: Callable[[Any], None]) -> NoReturn:
    while True:
        with suppress(grpc.aio.AioRpcError):
            async for message in opened():
                receive(message)
        await asyncio.sleep(PAUSE)


def _wanted(workload: workloads_pb2.DesiredWorkload) -> Wanted:
    return Wanted(
        namespace=workload.namespace,
        name=workload.name,
        replicas=workload.replicas,
        generation=workload.generation,
        drain=workload.drain.ToTimedelta(),
        grace=workload.grace.ToTimedelta(),
        fixed_port=workload.fixed_port,
        where=workload.where,
    )
