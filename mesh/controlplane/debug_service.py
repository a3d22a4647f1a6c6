"""`DebugService`: what a node is being told."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from mesh.api.proa.v1 import debug_pb2, debug_pb2_grpc
from mesh.config.nearest import not_found
from mesh.controlplane.compiler import Compiler
from mesh.errors import NotFoundError, UsageError
from mesh.registry.leases import Lease, instance_of
from mesh.registry.registry import Registry
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import CLUSTER, ENDPOINT, SECRET
from mesh.translate.bootstrap import own_zone
from mesh.xds.source import Source, State


class DebugService(debug_pb2_grpc.DebugServiceServicer):
    def __init__(self, registry: Registry, compiler: Compiler, source: Source) -> None:
        self._registry = registry
        self._compiler = compiler
        self._source = source

    async def GetSnapshot(self, request: debug_pb2.GetSnapshotRequest, context: Any) -> debug_pb2.GetSnapshotResponse:
        await self._compiler.caught_up()
        lease = self._named(request.node_id)
        node_id = lease.id.node_id
        state = self._source.state(node_id, lease.workload.locality)
        if state is None:
            raise NotFoundError(node_id, "it has no configuration yet", "Look at `proa proxy-status` for why")
        return debug_pb2.GetSnapshotResponse(
            node_id=node_id,
            config_version=self._source.version(node_id),
            resources=map(_message, self._told(lease, state)),
        )

    def _named(self, wanted: str) -> Lease:
        leases = {lease.id.node_id: lease for lease in self._registry.leases.values()}
        found = [node_id for node_id in leases if wanted and f"/{node_id}".endswith(f"/{wanted}")]
        if len(found) > 1:
            raise UsageError(wanted, f"several nodes end like that: {', '.join(sorted(found))}", "Name one in full")
        if not found:
            raise not_found(wanted, "node", wanted, leases, "Nodes")
        return leases[found[0]]

    def _told(self, lease: Lease, state: State) -> Iterator[Resource]:
        """All but the endpoints that are there for others. The assignment of a cluster has the name of the cluster."""
        zone = own_zone(instance_of(lease, self._registry.topology))
        asked_for = state.of(CLUSTER).keys() | {cluster.eds_cluster_config.service_name for cluster in zone}
        for type_url, resources in sorted(state.resources.items()):
            for name in sorted(resources):
                if type_url != ENDPOINT or name in asked_for:
                    yield resources[name]


def _message(resource: Resource) -> debug_pb2.SnapshotResource:
    value = b"" if resource.type_url == SECRET else resource.value
    return debug_pb2.SnapshotResource(
        name=resource.name,
        version=resource.version,
        resource=AnyMessage(type_url=resource.type_url, value=value),
    )
