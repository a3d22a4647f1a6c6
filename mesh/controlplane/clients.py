"""What gRPC clients without a sidecar do not do, although somebody has asked for it."""

from collections.abc import Iterable, Iterator
from typing import Final

from mesh.model.documents import key_of
from mesh.model.names import InstanceId, Target, upstream_routes_target
from mesh.model.shape import Role
from mesh.model.workload import Locality
from mesh.policy.calls import calls_to
from mesh.policy.grpc_client import beyond_clients, client_calls, route_beyond_clients
from mesh.policy.retry import policies_for
from mesh.policy.routing import routes_to
from mesh.registry.registry import Registry
from mesh.registry.status import ResourceStatus, StatusBoard
from mesh.snapshot.types import LISTENER, ROUTE
from mesh.xds.source import Source

MOST: Final = 50
"""Sentences about one client. It may ask for as many names as it likes."""


class Clients:
    """Works it out when somebody asks, from what each client follows at that moment."""

    def __init__(self, registry: Registry, source: Source, board: StatusBoard) -> None:
        self._registry = registry
        self._source = source
        self._board = board

    def unmet(self, instance: InstanceId) -> list[str]:
        """A sentence for each name that means nothing, and for each wish of a document. Empty for a sidecar."""
        lease = self._registry.leases.get(instance)
        if lease is None or lease.role is not Role.GRPC_CLIENT:
            return []
        follows = self._board.resources(instance.node_id) or ()
        near = lease.workload.locality
        said = [*self._unknown(instance, near, follows), *dict.fromkeys(self._unheeded(instance, follows))]
        rest = len(said) - MOST
        return [*said[:MOST], *([f"and {rest} more"] if rest > 0 else [])]

    def _unknown(self, instance: InstanceId, near: Locality, follows: Iterable[ResourceStatus]) -> Iterator[str]:
        state = self._source.state(instance.node_id, near)
        known = state.of(LISTENER) if state else {}
        for one in follows:
            if one.type_url == LISTENER and one.name not in known:
                yield f"it asks for {one.name}, and no service has that name there"

    def _unheeded(self, instance: InstanceId, follows: Iterable[ResourceStatus]) -> Iterator[str]:
        for one in follows:
            if one.type_url == ROUTE and one.version:
                yield from self._about(upstream_routes_target(one.name), instance.namespace)

    def _about(self, target: Target, caller_namespace: str) -> Iterator[str]:
        topology, documents = self._registry.topology, self._registry.documents
        port = topology.port(target)
        if port is None:
            return
        for policy in policies_for(target.service, target.namespace, port, documents.traffic_policies):
            for sentence in beyond_clients(policy):
                yield f"{key_of(policy)} ({policy.where}): {sentence}"
        routes = routes_to(target, port, caller_namespace, documents, topology)
        calls = calls_to(target, port, documents, topology.schema(target.namespace, target.service))
        if client_calls(routes, calls) is not calls:
            yield f"{target.service}: with its rules it has too many methods for a gRPC client: no limits, no retries"
        for route in routes:
            for sentence in route_beyond_clients(route):
                yield f"{route.origin}: {sentence}"
