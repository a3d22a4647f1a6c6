"""`WorkloadService`: what should run, and the operations on it."""

import logging
from collections.abc import AsyncIterator
from typing import Any

from mesh.api.proa.v1 import workloads_pb2, workloads_pb2_grpc
from mesh.registry.operations import Desired
from mesh.registry.registry import Registry

log = logging.getLogger(__name__)


class WorkloadService(workloads_pb2_grpc.WorkloadServiceServicer):
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def WatchWorkloads(
        self, request: workloads_pb2.WatchWorkloadsRequest, context: Any
    ) -> AsyncIterator[workloads_pb2.WatchWorkloadsResponse]:
        sent: tuple[Desired, ...] | None = None
        seen = self._registry.changed.number
        while True:
            if sent != self._registry.workloads:
                sent = self._registry.workloads
                yield workloads_pb2.WatchWorkloadsResponse(workloads=[_desired(one) for one in sent])
            seen = await self._registry.changed.after(seen)

    async def ScaleWorkload(
        self, request: workloads_pb2.ScaleWorkloadRequest, context: Any
    ) -> workloads_pb2.ScaleWorkloadResponse:
        wanted = await self._registry.scale(request.namespace, request.name, request.replicas)
        log.info("scaled workload=%s/%s replicas=%d", request.namespace, request.name, wanted.replicas)
        return workloads_pb2.ScaleWorkloadResponse(workload=_desired(wanted))

    async def RestartWorkload(
        self, request: workloads_pb2.RestartWorkloadRequest, context: Any
    ) -> workloads_pb2.RestartWorkloadResponse:
        wanted = await self._registry.restart(request.namespace, request.name)
        log.info("restarted workload=%s/%s generation=%s", request.namespace, request.name, wanted.generation)
        return workloads_pb2.RestartWorkloadResponse(workload=_desired(wanted))


def _desired(wanted: Desired) -> workloads_pb2.DesiredWorkload:
    workload = wanted.workload
    return workloads_pb2.DesiredWorkload(
        namespace=workload.namespace,
        name=workload.name,
        replicas=wanted.replicas,
        generation=wanted.generation,
        drain=workload.stop.drain,
        grace=workload.stop.grace,
        fixed_port=wanted.fixed_port,
        where=workload.where,
    )
