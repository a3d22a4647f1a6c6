"""How a refused response is taken apart. Pure.

A client may refuse a whole response for one bad resource in it, and then has none of the others. So all of them are
suspects: they are sent again in halves, and halves of halves, until the bad ones have been refused alone.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from mesh.snapshot.resource import Resource


@dataclass(frozen=True, slots=True)
class Doubt:
    """The version of a resource that was in a refused response, and the words of the client."""

    version: str
    error: str


@dataclass(slots=True)
class Quarantine:
    """The resources of one type that a client has refused, or may have refused, as they are now.

    n resources in a response, of which b are bad, cost at most 2 b log2(n) + 1 more responses.
    """

    _doubts: dict[str, Doubt] = field(default_factory=dict)
    _groups: list[tuple[str, ...]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._doubts)

    def refuse(self, resources: tuple[Resource, ...], error: str, *, alone: bool) -> None:
        """They came in one refused response. What did not come `alone` may be good, and is to be tried again."""
        self._doubts |= {resource.name: Doubt(resource.version, error) for resource in resources}
        if not alone:
            names, half = tuple(resource.name for resource in resources), len(resources) // 2
            self._groups[:0] = [group for group in (names[:half], names[half:]) if group]

    def release(self, names: Collection[str]) -> None:
        """They are sent again, are gone, or nobody asks for them any more."""
        if released := self._doubts.keys() & names:
            self._doubts = {name: doubt for name, doubt in self._doubts.items() if name not in released}
            rest = (tuple(name for name in group if name not in released) for group in self._groups)
            self._groups = [group for group in rest if group]

    def holds(self, resource: Resource) -> bool:
        doubt = self._doubts.get(resource.name)
        return doubt is not None and doubt.version == resource.version

    def next_group(self, resources: Mapping[str, Resource]) -> tuple[Resource, ...]:
        """Those of `resources` that are to be tried next, without the others in doubt. Empty when nothing is left."""
        groups = (self._present(group, resources) for group in self._groups)
        return next(filter(None, groups), ())

    def standing(self, resources: Mapping[str, Resource]) -> Iterator[tuple[Resource, str]]:
        """Those of `resources` that are in doubt, with the words of the client."""
        for name, doubt in self._doubts.items():
            if name in resources and self.holds(resources[name]):
                yield resources[name], doubt.error

    def refused(self, resources: Mapping[str, Resource]) -> Iterator[tuple[Resource, str]]:
        """Those of `resources` that were refused alone."""
        suspects = self.suspects()
        return ((resource, error) for resource, error in self.standing(resources) if resource.name not in suspects)

    def suspects(self) -> frozenset[str]:
        """The names of those that were refused with others, and are still to be tried."""
        return frozenset(chain.from_iterable(self._groups))

    def _present(self, group: tuple[str, ...], resources: Mapping[str, Resource]) -> tuple[Resource, ...]:
        there = (resources[name] for name in group if name in resources)
        return tuple(resource for resource in there if self.holds(resource))
