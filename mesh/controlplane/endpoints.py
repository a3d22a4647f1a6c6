"""Endpoints as bytes, kept up to date change by change."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain

from mesh.model.names import InstanceId, Target
from mesh.model.topology import Endpoint
from mesh.model.workload import Locality
from mesh.registry.leases import Lease, endpoints_of
from mesh.snapshot.resource import Resource, resource
from mesh.translate.endpoint import load_assignment


class EndpointIndex:
    """The endpoints of each target, and the localities that look at them. A change costs what it changes."""

    def __init__(self) -> None:
        self._by_target: dict[Target, dict[InstanceId, tuple[Endpoint, ...]]] = {}
        self._by_instance: dict[InstanceId, tuple[Locality, Mapping[Target, tuple[Endpoint, ...]]]] = {}
        self._localities: Counter[Locality] = Counter()

    @property
    def localities(self) -> Iterable[Locality]:
        """Where there are instances."""
        return self._localities.keys()

    def put(self, instance: InstanceId, lease: Lease | None) -> set[Target]:
        """Notes what has become of an instance, None when it is gone; the targets that have changed."""
        before = self._remove(instance)
        now = endpoints_of([lease]) if lease else {}
        if lease:
            self._by_instance[instance] = (lease.workload.locality, now)
            self._localities[lease.workload.locality] += 1
        changed = {target for target in before.keys() | now.keys() if before.get(target) != now.get(target)}
        for target in changed:
            of_target = self._by_target.setdefault(target, {})
            of_target.pop(instance, None)
            if target in now:
                of_target[instance] = now[target]
            elif not of_target:
                del self._by_target[target]
        return changed

    def assignment(self, target: Target, near: Locality) -> Resource:
        """All of the target, as instances that are `near` to each other are told of them."""
        found = sorted(set(chain.from_iterable(self._by_target.get(target, {}).values())))
        return resource(target.cluster, load_assignment(target, tuple(found), near))

    def _remove(self, instance: InstanceId) -> Mapping[Target, tuple[Endpoint, ...]]:
        if instance not in self._by_instance:
            return {}
        near, endpoints = self._by_instance.pop(instance)
        self._localities[near] -= 1
        if not self._localities[near]:
            del self._localities[near]
        return endpoints
