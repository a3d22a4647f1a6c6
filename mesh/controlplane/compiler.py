"""The compiler: from what the registry knows to what each proxy should have."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mesh.controlplane.endpoints import EndpointIndex
from mesh.model.documents import Documents
from mesh.model.names import Identity, InstanceId, Target
from mesh.model.shape import Instance
from mesh.model.topology import Topology
from mesh.model.workload import Locality, Workload
from mesh.policy.view import Views
from mesh.registry.changes import Changes
from mesh.registry.leases import Lease, instance_of, shape_of_lease
from mesh.registry.registry import Registry
from mesh.registry.status import StatusBoard
from mesh.snapshot.resource import Resource
from mesh.snapshot.seal import Part, Snapshot, part, seal
from mesh.snapshot.views import ViewSeal
from mesh.translate.resources import instance_resources
from mesh.xds.cache import Cache

SETTLE: Final = timedelta(milliseconds=60)
"""A single change is compiled at once; those that follow within this time are compiled together: 17 passes a second."""

log = logging.getLogger(__name__)


class _Revision:
    """What is in force, and the shared parts that follow from it."""

    def __init__(
        self, topology: Topology, documents: Documents, seal_view: ViewSeal, before: "_Revision | None" = None
    ) -> None:
        self.topology = topology
        self.documents = documents
        self.views: Views = Views(topology, documents, before.views if before else None)
        self._seal_view = seal_view
        self._parts: dict[int, tuple[Workload, Part]] = {}

    def clusters(self) -> dict[str, Target]:
        """Everything that a cluster may be made for, by its name."""
        targets = (
            Target(service.namespace, service.name, port.number, version)
            for service in self.topology.services.values()
            for port in service.ports
            for version in {"", *(version for version, _ in service.identities)}
        )
        return {target.cluster: target for target in targets}

    def shared(self, lease: Lease) -> Part:
        """What the instances of a workload share. They have the very same workload, which is quick to look up."""
        workload = lease.workload
        if id(workload) not in self._parts:
            view = self.views.of(shape_of_lease(lease, self.topology))
            self._parts[id(workload)] = (workload, self._seal_view.part(view))
        return self._parts[id(workload)][1]

    def forget(self, workload: Workload) -> None:
        """One of those who had it has gone. Who still has it finds its part in the seal."""
        self._parts.pop(id(workload), None)


@dataclass(frozen=True, slots=True)
class _Made:
    """A snapshot, and what it was made from."""

    lease: Lease
    revision: _Revision
    instance: Instance
    shared: Part
    own: Part
    snapshot: Snapshot

    def says_the_same(self, lease: Lease) -> bool:
        """Whether nothing about the lease has changed but its health. Compares no content."""
        return (
            self.lease.workload is lease.workload
            and self.lease.addresses is lease.addresses
            and self.lease.identity is lease.identity
        )


class Compiler:
    """Publishes what each instance should have, endpoints first, and tells the board which proxies there are.

    A change costs what it changes: one of documents the parts that name it, and a look at each instance; one of an
    instance itself and its endpoints. Whatever goes wrong with one instance or one target leaves that one with what it
    had before, and is tried again at each pass; it is logged, and found in `problems` by node id or cluster. Each pass
    runs within a `timed()`.
    """

    def __init__(
        self,
        registry: Registry,
        cache: Cache,
        board: StatusBoard,
        timed: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.problems: dict[str, str] = {}
        self._registry = registry
        self._cache = cache
        self._board = board
        self._timed = timed
        self._touched = registry.follow_leases()
        self._failed: dict[str, InstanceId | Target] = {}
        self._seal_view = ViewSeal()
        self._revision = _Revision(Topology(), Documents(), self._seal_view)
        self._read = (self._revision.topology, self._revision.documents)
        self._endpoints = EndpointIndex()
        self._clusters: Mapping[str, Target] = {}
        self._published: dict[Locality, dict[str, Resource]] = {}
        self._expected: dict[InstanceId, Identity] = {}
        self._made: dict[InstanceId, _Made] = {}
        self._compiled = -1
        self._passes = Changes()

    async def run(self) -> None:
        """Compiles now and after each change, until it is cancelled."""
        while True:
            self.compile()
            await asyncio.sleep(SETTLE.total_seconds())
            await self._registry.changed.after(self._compiled)

    @property
    def is_current(self) -> bool:
        """Whether everything that has changed is published."""
        return self._compiled == self._registry.changed.number

    async def caught_up(self) -> None:
        """Returns once everything that has changed before the call is published."""
        wanted, seen = self._registry.changed.number, self._passes.number
        while self._compiled < wanted:
            seen = await self._passes.after(seen)

    def compile(self) -> None:
        """Publishes what should be as of now."""
        number = self._registry.changed.number
        leases = self._registry.leases
        with self._timed():
            is_revised = self._revise()
            touched, failed = self._touched.copy(), tuple(self._failed.values())
            self._touched.clear()
            self._forget_instances(touched)
            self._publish_endpoints(touched, {one for one in failed if isinstance(one, Target)})
            touched.update(one for one in failed if isinstance(one, InstanceId))
            for lease in leases.values() if is_revised else (leases[one] for one in touched if one in leases):
                self._publish_snapshot(lease)
        self._compiled = number
        self._passes.notify()

    def _revise(self) -> bool:
        """Whether something was written that means anything else than before."""
        now, before = self._registry, self._revision
        if now.topology is self._read[0] and now.documents is self._read[1]:
            return False
        self._read = (now.topology, now.documents)
        # Topology that is equal stays the same object, by which instances know that they need not be made again.
        topology = before.topology if now.topology == before.topology else now.topology
        if topology is before.topology and now.documents == before.documents:
            return False
        self._revision = _Revision(topology, now.documents, self._seal_view, before)
        if topology is not before.topology:
            self._clusters = self._revision.clusters()
        return True

    def _forget_instances(self, touched: Collection[InstanceId]) -> None:
        for instance in [one for one in touched if one not in self._registry.leases and one in self._expected]:
            self._cache.withdraw(instance.node_id)
            self._board.forget(instance.node_id)
            del self._expected[instance]
            if made := self._made.pop(instance, None):
                self._revision.forget(made.lease.workload)
            self._succeed(instance)

    def _publish_endpoints(self, touched: Collection[InstanceId], failed: Collection[Target]) -> None:
        changed = set(failed)
        for instance in touched:
            changed |= self._endpoints.put(instance, self._registry.leases.get(instance))
        now = {near: self._kept(near) for near in self._endpoints.localities}
        missing = {cluster for assignments in now.values() for cluster in self._clusters.keys() - assignments.keys()}
        for target in changed | {self._clusters[cluster] for cluster in missing}:
            with self._sparing_others(target):
                if target.cluster in self._clusters:
                    self._assign(target, now, is_changed=target in changed)
        for near in self._published.keys() - now.keys():
            self._cache.withdraw_endpoints(near)
        for near, assignments in now.items():
            self._cache.publish_endpoints(near, assignments)
        self._published = now

    def _kept(self, near: Locality) -> dict[str, Resource]:
        """What was published there, but for what has gone since."""
        before = self._published.get(near, {})
        gone = before.keys() - self._clusters.keys()
        return {cluster: one for cluster, one in before.items() if cluster not in gone} if gone else dict(before)

    def _assign(self, target: Target, now: Mapping[Locality, dict[str, Resource]], *, is_changed: bool) -> None:
        for near, assignments in now.items():
            before = assignments.get(target.cluster)
            if is_changed or before is None:
                made = self._endpoints.assignment(target, near)
                assignments[target.cluster] = before if before == made else made

    def _publish_snapshot(self, lease: Lease) -> None:
        if self._expected.get(lease.id) != lease.identity:
            self._expected[lease.id] = lease.identity
            self._board.expect(lease.id.node_id, lease.identity.uri)
        before = self._made.get(lease.id)
        if before is None or before.revision is not self._revision or not before.says_the_same(lease):
            with self._sparing_others(lease.id):
                self._made[lease.id] = now = self._make(lease, before)
                self._cache.publish(lease.id.node_id, now.snapshot)

    def _make(self, lease: Lease, before: _Made | None) -> _Made:
        """What has not changed since `before` is taken from there."""
        revision = self._revision
        shared = revision.shared(lease)
        if before and before.says_the_same(lease) and before.revision.topology is revision.topology:
            instance, own = before.instance, before.own
        else:
            instance = instance_of(lease, revision.topology)
            own = before.own if before and before.instance == instance else part(instance_resources(instance))
        if before and before.shared is shared and before.own is own:
            snapshot = before.snapshot
        else:
            snapshot = seal(shared, own, before.snapshot if before else None)
        return _Made(lease, revision, instance, shared, own, snapshot)

    @contextmanager
    def _sparing_others(self, one: InstanceId | Target) -> Iterator[None]:
        """Whatever goes wrong inside concerns `one` alone. It is logged when it begins, not at each pass."""
        name = _name(one)
        try:
            yield
        except Exception as error:
            said = str(error) or type(error).__name__
            if self.problems.get(name) != said:
                log.exception("not_compiled name=%s", name)
            self.problems[name] = said
            self._failed[name] = one
        else:
            self._succeed(one)

    def _succeed(self, one: InstanceId | Target) -> None:
        if self._failed.pop(_name(one), None):
            del self.problems[_name(one)]


def _name(one: InstanceId | Target) -> str:
    return one.cluster if isinstance(one, Target) else one.node_id
