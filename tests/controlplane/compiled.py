"""A registry, and what its compiler publishes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mesh.api.envoy.config.endpoint.v3 import endpoint_pb2
from mesh.controlplane.compiler import Compiler
from mesh.model.names import InstanceId
from mesh.model.workload import NOWHERE, Locality
from mesh.registry.leases import Report
from mesh.registry.registry import Registry
from mesh.registry.status import StatusBoard
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import ENDPOINT
from mesh.xds.cache import Cache
from tests.unit.registry.builders import NOON, addresses

HEALTHY = Report(healthy=True, agent_pid=7)


class Mesh:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.cache = Cache()
        self.board = StatusBoard(lambda: NOON)
        self.compiler = Compiler(registry, self.cache, self.board)

    async def attach(self, instance: InstanceId, base_port: int = 20_000, **changes: Any) -> None:
        """A healthy instance; `changes` are to its addresses."""
        generation = {one.workload.name: one.generation for one in self.registry.workloads}[instance.workload]
        await self.registry.attach(instance, generation, replace(addresses(base_port), **changes))
        await self.registry.report(instance, HEALTHY)

    async def attach_all(self) -> None:
        """The first instance of each workload."""
        for one in self.registry.workloads:
            name = one.workload.name
            await self.attach(InstanceId(one.workload.namespace, name, f"{name}-0"))

    def state(self, instance: InstanceId, near: Locality = NOWHERE) -> Mapping[str, Mapping[str, Resource]]:
        state = self.cache.state(instance.node_id, near)
        assert state is not None
        return state.resources

    def endpoints(self, cluster: str, near: Locality = NOWHERE) -> list[tuple[int, int]]:
        """Port and health of each endpoint, as callers in `near` are told."""
        anybody = next(iter(self.registry.leases))
        assignment = endpoint_pb2.ClusterLoadAssignment.FromString(self.state(anybody, near)[ENDPOINT][cluster].value)
        return [
            (one.endpoint.address.socket_address.port_value, one.health_status)
            for locality in assignment.endpoints
            for one in locality.lb_endpoints
        ]
