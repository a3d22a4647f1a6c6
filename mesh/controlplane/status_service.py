"""`StatusService`: what runs, and what every proxy has been told."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import Any, Final

from mesh.api.proa.v1 import status_pb2, status_pb2_grpc
from mesh.controlplane import wire
from mesh.controlplane.clients import Clients
from mesh.controlplane.compiler import Compiler
from mesh.controlplane.provenance import Origin, Provenance
from mesh.controlplane.standing import Standings
from mesh.model.names import InstanceId
from mesh.model.shape import Role
from mesh.registry.leases import Lease
from mesh.registry.registry import Registry
from mesh.registry.status import ProxyState, ProxyStatus, Refused, StatusBoard, TypeStatus, Wait

STATES: Final = {
    ProxyState.SYNCED: status_pb2.PROXY_STATE_SYNCED,
    ProxyState.PENDING: status_pb2.PROXY_STATE_PENDING,
    ProxyState.NACKED: status_pb2.PROXY_STATE_NACKED,
    ProxyState.DISCONNECTED: status_pb2.PROXY_STATE_DISCONNECTED,
}


class StatusService(status_pb2_grpc.StatusServiceServicer):
    def __init__(
        self, registry: Registry, board: StatusBoard, compiler: Compiler, standings: Standings, clients: Clients
    ) -> None:
        self._registry = registry
        self._board = board
        self._compiler = compiler
        self._standings = standings
        self._clients = clients

    async def WatchInstances(
        self, request: status_pb2.WatchInstancesRequest, context: Any
    ) -> AsyncIterator[status_pb2.WatchInstancesResponse]:
        sent: status_pb2.WatchInstancesResponse | None = None
        while True:
            registered, told = self._registry.changed.number, self._board.changes.number
            # Else an instance that has just become healthy would be told before its callers lag behind.
            while not self._compiler.is_current:
                await self._compiler.caught_up()
            response = status_pb2.WatchInstancesResponse(instances=self._instances())
            if response != sent:
                sent = response
                yield response
            await _first(self._registry.changed.after(registered), self._board.changes.after(told))

    async def ListProxies(self, request: status_pb2.ListProxiesRequest, context: Any) -> status_pb2.ListProxiesResponse:
        return status_pb2.ListProxiesResponse(
            proxies=[self._proxy(proxy) for proxy in self._board.proxies()],
            refused_streams=[status_pb2.RefusedStreams(**asdict(one)) for one in self._board.refused_streams()],
            version=version("proa"),
        )

    def _proxy(self, proxy: ProxyStatus) -> status_pb2.Proxy:
        report = proxy.report
        is_refusing = any(one.refused for one in report.types)
        made_from = self._standings.provenance(proxy.node_id) if is_refusing else {}
        return status_pb2.Proxy(
            node_id=proxy.node_id,
            identity=proxy.identity,
            envoy_version=proxy.envoy_version,
            state=STATES[proxy.state],
            since=proxy.since,
            config_version=report.config_version,
            types=[_type(one, made_from) for one in report.types],
            last_nack=proxy.last_nack,
            bytes_sent=report.bytes_sent,
            resources_sent=report.resources_sent,
            connected_since=proxy.connected_since,
            problem=self._compiler.problems.get(proxy.node_id, ""),
            waits=[_wait(wait) for wait in report.waits],
            streams=proxy.streams,
            unmet=self._clients.unmet(InstanceId.from_node_id(proxy.node_id)),
        )

    def _instances(self) -> list[status_pb2.Instance]:
        lagging = frozenset(self._board.lagging())
        leases = (lease for _, lease in sorted(self._registry.leases.items()))
        return [self._instance(lease, lagging) for lease in leases if lease.role is Role.SIDECAR]

    def _instance(self, lease: Lease, lagging: Collection[str]) -> status_pb2.Instance:
        proxy = self._board.proxy(lease.id.node_id)
        return status_pb2.Instance(
            namespace=lease.id.namespace,
            workload=lease.id.workload,
            instance=lease.id.instance,
            service=lease.workload.service,
            version=lease.workload.version,
            identity=lease.identity.uri,
            generation=lease.generation,
            addresses=wire.addresses_message(lease.addresses),
            report=wire.report_message(lease.report),
            attached=self._registry.attached(lease.id),
            draining=lease.draining,
            synced=proxy is not None and proxy.state is ProxyState.SYNCED and proxy.node_id not in lagging,
            first_port=next((port.number for port in lease.workload.ports), 0),
        )


def _type(status: TypeStatus, made_from: Provenance) -> status_pb2.TypeStatus:
    refused = [_refused(one, made_from.get((status.type_url, one.name), ())) for one in status.refused]
    # Not `asdict`, which copies what is below, too: there are six of these for each proxy.
    same = {field.name: getattr(status, field.name) for field in fields(status)}
    return status_pb2.TypeStatus(**{**same, "refused": refused})


def _refused(refused: Refused, origins: Iterable[Origin]) -> status_pb2.RefusedResource:
    documents = [status_pb2.DocumentSource(key=wire.key_message(origin.key), where=origin.where) for origin in origins]
    return status_pb2.RefusedResource(**asdict(refused), documents=documents)


def _wait(wait: Wait) -> status_pb2.Wait:
    return status_pb2.Wait(
        resource=status_pb2.ResourceName(type_url=wait.type_url, name=wait.name),
        needs=[status_pb2.ResourceName(type_url=type_url, name=name) for type_url, name in wait.needs],
        removal=wait.is_removal,
    )


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Returns when one of them has; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
