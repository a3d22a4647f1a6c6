"""Which instances to start and to stop next, from what is wanted and what runs. Pure."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from mesh.model.names import InstanceId

Workload = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A workload as the registry wants it. `fixed_port`: two instances cannot run side by side."""

    namespace: str
    name: str
    replicas: int
    generation: str
    drain: timedelta = timedelta(seconds=5)
    grace: timedelta = timedelta(seconds=10)
    fixed_port: bool = False
    where: str = ""

    @property
    def workload(self) -> Workload:
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Running:
    """An instance that this supervisor started. `ready`: healthy, and its proxy has its newest configuration."""

    id: InstanceId
    generation: str
    healthy: bool
    ready: bool
    stopping: bool = False

    @property
    def workload(self) -> Workload:
        return self.id.namespace, self.id.workload

    @property
    def ordinal(self) -> int:
        return int(self.id.instance.rpartition("-")[2])


@dataclass(frozen=True, slots=True)
class Steps:
    """What may happen now; more follows when these are done."""

    start: tuple[InstanceId, ...] = ()
    stop: tuple[InstanceId, ...] = ()


def next_steps(wanted: Iterable[Wanted], running: Iterable[Running]) -> Steps:
    """The steps towards `wanted`.

    Missing instances start and surplus ones stop at once. Instances of another generation are replaced one by one:
    one more is started, and only when it is ready an old one stops. With a fixed port the old one stops first.
    """
    instances: dict[Workload, list[Running]] = {}
    for instance in running:
        instances.setdefault(instance.workload, []).append(instance)
    start: list[InstanceId] = []
    stop: list[Running] = []
    for workload in wanted:
        there = instances.pop(workload.workload, [])
        count, leaving = _change(workload, there)
        start += _names(workload, there, count)
        stop += leaving
    stop += [instance for gone in instances.values() for instance in gone if not instance.stopping]
    return Steps(tuple(start), tuple(instance.id for instance in stop))


def _change(wanted: Wanted, there: list[Running]) -> tuple[int, list[Running]]:
    """How many instances to start, and which to stop."""
    staying = [instance for instance in there if not instance.stopping]
    old = [instance for instance in staying if instance.generation != wanted.generation]
    new = [instance for instance in staying if instance.generation == wanted.generation]
    if wanted.fixed_port:
        ended = len(staying) == len(there)
        return (max(0, wanted.replicas - len(new)) if ended and not old else 0), [*old, *_last(new, wanted.replicas)]
    missing = wanted.replicas - len(staying)
    if missing > 0:
        return missing, []
    if not old:
        return 0, _last(staying, wanted.replicas)
    if not all(instance.ready for instance in new):
        return 0, []
    if missing == 0:
        return min(1, wanted.replicas), []
    # Those that serve nobody go first, so that the ones that do stay until their replacements are ready.
    return 0, sorted(old, key=lambda instance: (instance.healthy, instance.ordinal))[:-missing]


def _last(instances: list[Running], replicas: int) -> list[Running]:
    """The surplus: those that are not healthy first, then the highest numbers."""
    return sorted(instances, key=lambda instance: (not instance.healthy, instance.ordinal))[replicas:]


def _names(wanted: Wanted, there: list[Running], count: int) -> list[InstanceId]:
    """`count` names with the lowest numbers that no instance has; one that is stopping still has its own."""
    taken = {instance.ordinal for instance in there}
    free = (n for n in itertools.count() if n not in taken)
    return [InstanceId(wanted.namespace, wanted.name, f"{wanted.name}-{n}") for n in itertools.islice(free, count)]
