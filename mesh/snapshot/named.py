"""Resources of one type by name, and what is different from one time to the next: found out once for everybody."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import chain
from typing import Final
from weakref import ref

from mesh.snapshot.resource import Resource

PREDECESSORS: Final = 8
"""With so many one set is compared once. Most clients come from the one before; those that are slow, from any."""


class Named(dict[str, Resource]):
    """Resources of one type, sorted by name. Not to be changed.

    Most of what one proxy has others have, too. So it can be joined of two `parts`: what they share, one object for all
    of them, and what is its own. What is to be known of it is found out for each part, for the shared one once.
    """

    def __init__(
        self,
        resources: Mapping[str, Resource] | Iterable[tuple[str, Resource]] = (),
        parts: "tuple[()] | tuple[Named, Named]" = (),
    ) -> None:
        super().__init__(sorted(dict(resources).items()))
        self.parts = parts
        self._compared: tuple[tuple[ref[Named], frozenset[str]], ...] = ()

    @classmethod
    def joined(cls, shared: "Named", own: "Named") -> "Named":
        """Both, which have no name in common."""
        return cls({**shared, **own}, (shared, own))

    @cached_property
    def bodies(self) -> dict[str, bytes]:
        """All as a part of messages: for those who write them, so that it is made once."""
        return {}

    @cached_property
    def size(self) -> int:
        """Bytes of the resources alone."""
        return self._sum(lambda part: part.size, lambda one: len(one.value))

    @cached_property
    def total(self) -> int:
        """The sum of their marks."""
        return self._sum(lambda part: part.total, lambda one: one.mark)

    @cached_property
    def expiring(self) -> int:
        """How many have a time to live."""
        return self._sum(lambda part: part.expiring, lambda one: one.ttl is not None)

    def differing(self, before: "Named") -> frozenset[str]:
        """The names of what is new here, is gone, or is not as it was."""
        for other, names in self._compared:
            if other() is before:
                return names
        names = frozenset(name for name in self._suspects(before) if not _are_alike(self.get(name), before.get(name)))
        alive = [one for one in self._compared if one[0]() is not None]
        self._compared = ((ref(before), names), *alive[: PREDECESSORS - 1])
        return names

    def _suspects(self, before: "Named") -> Iterable[str]:
        """The names of all that may differ: most are the very same objects, or in the very same part."""
        if not (self.parts and before.parts):
            changed = (name for name, one in self.items() if before.get(name) is not one)
            return chain(changed, before.keys() - self.keys())
        (shared, own), (shared_before, own_before) = self.parts, before.parts
        return chain(shared.differing(shared_before), own, own_before)

    def _sum(self, of_part: "Callable[[Named], int]", of_one: Callable[[Resource], int]) -> int:
        return sum(map(of_part, self.parts)) if self.parts else sum(map(of_one, self.values()))


NOTHING: Final = Named()


def _are_alike(one: Resource | None, other: Resource | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.version, one.ttl) == (other.version, other.ttl)
