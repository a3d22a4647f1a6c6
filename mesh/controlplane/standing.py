"""How documents and proxies belong together at this moment."""

from collections.abc import Iterator
from functools import cache

from mesh.controlplane.compiler import Compiler
from mesh.controlplane.conditions import Obstacle, Standing
from mesh.controlplane.provenance import Provenance, client_provenance, provenance
from mesh.model.documents import Key
from mesh.model.names import InstanceId
from mesh.model.shape import Role
from mesh.model.workload import Workload
from mesh.registry.leases import Lease
from mesh.registry.registry import Registry
from mesh.registry.status import ProxyState, ProxyStatus, StatusBoard

_Behind = tuple[Provenance, frozenset[Key]]


class Standings:
    """Reads the registry, the compiler and the board. Provenance is found out when somebody asks, and not kept."""

    def __init__(self, registry: Registry, compiler: Compiler, board: StatusBoard) -> None:
        self._registry = registry
        self._compiler = compiler
        self._board = board

    async def now(self) -> tuple[Standing, ...]:
        """Every connected proxy, when all that was written before the call is published."""
        await self._compiler.caught_up()
        lagging = frozenset(self._board.lagging())
        connected = (one for one in self._board.proxies() if one.state is not ProxyState.DISCONNECTED)
        known = cache(self._provenance)
        return tuple(
            self._standing(proxy, *(self._of_client(lease) or known(lease.workload)), lags=proxy.node_id in lagging)
            for proxy in connected
            if (lease := self._lease(proxy.node_id))
        )

    def provenance(self, node_id: str) -> Provenance:
        """Where the resources of one proxy come from; empty for one that nobody has attached."""
        lease = self._lease(node_id)
        return (self._of_client(lease) or self._provenance(lease.workload))[0] if lease else {}

    def _standing(self, proxy: ProxyStatus, made_from: Provenance, origins: frozenset[Key], *, lags: bool) -> Standing:
        return Standing(
            proxy.node_id,
            origins,
            refused=tuple(_refused(proxy, made_from)),
            held=tuple(_held(proxy, made_from)),
            lags=lags,
            problem=self._compiler.problems.get(proxy.node_id, ""),
        )

    def _lease(self, node_id: str) -> Lease | None:
        return self._registry.leases.get(InstanceId.from_node_id(node_id))

    def _provenance(self, workload: Workload) -> _Behind:
        """And all documents in it."""
        return _behind(provenance(workload, self._registry.topology, self._registry.documents))

    def _of_client(self, lease: Lease) -> _Behind | None:
        """The same of a gRPC client, which has what it follows and no more; None for a proxy."""
        if lease.role is not Role.GRPC_CLIENT:
            return None
        follows = {(one.type_url, one.name) for one in self._board.resources(lease.id.node_id) or ()}
        found = client_provenance(lease.id.namespace, self._registry.topology, self._registry.documents)
        return _behind({resource: origins for resource, origins in found.items() if resource in follows})


def _behind(found: Provenance) -> _Behind:
    return found, frozenset(origin.key for origins in found.values() for origin in origins)


def _refused(proxy: ProxyStatus, made_from: Provenance) -> Iterator[Obstacle]:
    for of_type in proxy.report.types:
        for refused in of_type.refused:
            resource = (of_type.type_url, refused.name)
            yield Obstacle(f"{_words(resource)}: {refused.error}", _keys(resource, made_from))


def _held(proxy: ProxyStatus, made_from: Provenance) -> Iterator[Obstacle]:
    """Without removals: what those were made from is not there any more."""
    for wait in (one for one in proxy.report.waits if not one.is_removal):
        resource = (wait.type_url, wait.name)
        needs = ", ".join(map(_words, wait.needs))
        yield Obstacle(f"{_words(resource)} waits for {needs}", _keys(resource, made_from))


def _words(resource: tuple[str, str]) -> str:
    """For example `Cluster shop/stock/50051`."""
    type_url, name = resource
    return f"{type_url.rpartition('.')[2]} {name}"


def _keys(resource: tuple[str, str], made_from: Provenance) -> frozenset[Key]:
    return frozenset(origin.key for origin in made_from.get(resource, ()))
