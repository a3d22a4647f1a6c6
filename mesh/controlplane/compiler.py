"""The compiler: from what the registry knows to what each proxy should have."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Final

from mesh.controlplane.memo import Memo
from mesh.model.documents import Documents
from mesh.model.names import Identity, InstanceId, Target
from mesh.model.shape import Instance, Shape, shape_of
from mesh.model.topology import Endpoint, Topology
from mesh.model.workload import Locality
from mesh.policy.view import ProxyView, view_for
from mesh.registry.changes import Changes
from mesh.registry.leases import Lease, endpoints_of, instance_of
from mesh.registry.registry import Registry
from mesh.registry.status import StatusBoard
from mesh.snapshot.resource import Resource, resource
from mesh.snapshot.seal import Part, part, seal
from mesh.translate.endpoint import load_assignment
from mesh.translate.resources import instance_resources, resources_for
from mesh.xds.cache import Cache

SETTLE: Final = timedelta(milliseconds=50)
"""A single change is compiled at once; those that follow within this time are compiled together."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Made:
    """What the last snapshot of an instance was made from."""

    documents: Documents
    lease: Lease
    shared: Part
    instance: Instance

    def holds_for(self, lease: Lease, documents: Documents) -> bool:
        """Whether nothing was written meanwhile and the lease says the same but for its health. Compares no content."""
        return (
            self.documents is documents
            and self.lease.workload is lease.workload
            and self.lease.addresses is lease.addresses
            and self.lease.identity is lease.identity
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """The endpoints of one target, and from where they are looked at."""

    target: Target
    endpoints: tuple[Endpoint, ...]
    near: Locality

    def assignment(self) -> Resource:
        return resource(self.target.cluster, load_assignment(self.target, self.endpoints, self.near))


class Compiler:
    """Publishes what each instance should have, endpoints first, and tells the board which proxies there are.

    Equal views are translated once, and what has not changed is not made again. Whatever goes wrong with one instance
    or one target leaves that one with what it had before; it is logged, and found in `problems` by node id or cluster.
    Each pass runs within a `timed()`.
    """

    def __init__(
        self,
        registry: Registry,
        cache: Cache,
        board: StatusBoard,
        timed: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.problems: Mapping[str, str] = {}
        self._registry = registry
        self._cache = cache
        self._board = board
        self._timed = timed
        self._shared = Memo(_shared_part)
        self._assignments = Memo(_Seen.assignment)
        self._published: dict[Locality, dict[str, Resource]] = {}
        self._expected: dict[InstanceId, Identity] = {}
        self._made: dict[InstanceId, _Made] = {}
        self._documents: Documents | None = None
        self._compiled = -1
        self._passes = Changes()

    async def run(self) -> None:
        """Compiles now and after each change, until it is cancelled."""
        while True:
            self.compile()
            await asyncio.sleep(SETTLE.total_seconds())
            await self._registry.changed.after(self._compiled)

    async def caught_up(self) -> None:
        """Returns once everything that has changed before the call is published."""
        wanted, seen = self._registry.changed.number, self._passes.number
        while self._compiled < wanted:
            seen = await self._passes.after(seen)

    def compile(self) -> None:
        """Publishes what should be as of now."""
        number = self._registry.changed.number
        problems: dict[str, str] = {}
        with self._timed():
            self._forget_instances()
            self._publish_endpoints(problems)
            self._publish_snapshots(problems)
        self.problems = problems
        self._compiled = number
        self._passes.notify()

    def _forget_instances(self) -> None:
        for gone in self._expected.keys() - self._registry.leases.keys():
            self._cache.withdraw(gone.node_id)
            self._board.forget(gone.node_id)
            del self._expected[gone]
            self._made.pop(gone, None)

    def _publish_endpoints(self, problems: dict[str, str]) -> None:
        leases = tuple(self._registry.leases.values())
        endpoints = endpoints_of(leases)
        targets = _targets(self._registry.topology)
        for near in {lease.workload.locality for lease in leases}:
            before = self._published.get(near, {})
            now = {target.cluster: before[target.cluster] for target in targets if target.cluster in before}
            for target in targets:
                with self._sparing_others(target.cluster, problems):
                    now[target.cluster] = self._assignments.get(_Seen(target, endpoints.get(target, ()), near))
            self._published[near] = now
            self._cache.publish_endpoints(near, now)
        self._assignments.end_pass()

    def _publish_snapshots(self, problems: dict[str, str]) -> None:
        documents, topology = self._registry.documents, self._registry.topology

        @cache
        def shared(shape: Shape) -> Part:
            return self._shared.get(view_for(shape, topology, documents))

        for lease in self._registry.leases.values():
            self._expect(lease)
            made = self._made.get(lease.id)
            if made is None or not made.holds_for(lease, documents):
                with self._sparing_others(lease.id.node_id, problems):
                    resources = shared(shape_of(lease.workload, topology))
                    self._publish(_Made(documents, lease, resources, instance_of(lease, topology)))
        if documents is not self._documents:
            self._documents = documents
            self._shared.end_pass()

    def _expect(self, lease: Lease) -> None:
        if self._expected.get(lease.id) != lease.identity:
            self._expected[lease.id] = lease.identity
            self._board.expect(lease.id.node_id, lease.identity.uri)

    def _publish(self, new: _Made) -> None:
        before = self._made.get(new.lease.id)
        if before is None or before.shared is not new.shared or before.instance != new.instance:
            snapshot = seal(new.shared, part(instance_resources(new.instance)))
            self._cache.publish(new.lease.id.node_id, snapshot)
        self._made[new.lease.id] = new

    @contextmanager
    def _sparing_others(self, name: str, problems: dict[str, str]) -> Iterator[None]:
        """Whatever goes wrong inside concerns `name` alone. It is logged when it begins, not at each pass."""
        try:
            yield
        except Exception as error:
            problems[name] = str(error) or type(error).__name__
            if self.problems.get(name) != problems[name]:
                log.exception("not_compiled name=%s", name)


def _shared_part(view: ProxyView) -> Part:
    """Translated and serialised once for all proxies of equal view."""
    return part(resources_for(view))


def _targets(topology: Topology) -> list[Target]:
    """Everything that a cluster may be made for."""
    return [
        Target(service.namespace, service.name, port.number, version)
        for service in topology.services.values()
        for port in service.ports
        for version in sorted({"", *(version for version, _ in service.identities)})
    ]
